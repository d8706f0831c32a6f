"""Evaluations that leave no trace in what they evaluate."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch as th
from stable_baselines3.common.utils import set_random_seed


@contextmanager
def undisturbed(policy: th.nn.Module, seed: int) -> Iterator[None]:
    """
    Within it the generators that SB3 samples with (Python's, NumPy's and torch's global ones, on all devices) are
    seeded; afterwards they are where they were before, and so are the training modes of all networks. A
    training that is evaluated on the way stays the same bit for bit.

    :param policy: networks that are evaluated
    :param seed: seed of the generators
    :return: context manager
    """
    python, numpy = random.getstate(), np.random.get_state()
    training = {module: module.training for module in policy.modules()}
    with th.random.fork_rng(range(th.cuda.device_count())):
        try:
            set_random_seed(seed)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
            for module, mode in training.items():
                module.training = mode
