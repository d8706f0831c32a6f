"""The random generators that SB3 samples with: Python's, NumPy's and torch's global ones."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.utils import set_random_seed


def generator_states() -> dict[str, Any]:
    """
    :return: where the global generators are, those of all CUDA devices included
    """
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": th.get_rng_state(),
        "cuda": th.cuda.get_rng_state_all(),
    }


def set_generator_states(states: dict[str, Any]) -> None:
    """
    :param states: from :func:`generator_states`; generators of CUDA devices that are not here are left out
    """
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    th.set_rng_state(states["torch"])
    for device, state in enumerate(states["cuda"][: th.cuda.device_count()]):
        th.cuda.set_rng_state(state, device)


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
