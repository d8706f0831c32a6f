"""The random generators that SB3 samples with: Python's, NumPy's and torch's global ones."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.utils import set_random_seed


def generator_states() -> dict[str, Any]:
    """States of the global generators, including those of all CUDA devices."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": th.get_rng_state(),
        "cuda": th.cuda.get_rng_state_all(),
    }


def set_generator_states(states: dict[str, Any]) -> None:
    """Restore :func:`generator_states`; states of CUDA devices that this machine lacks are ignored."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    th.set_rng_state(states["torch"])
    for device, state in enumerate(states["cuda"][: th.cuda.device_count()]):
        th.cuda.set_rng_state(state, device)


@contextmanager
def undisturbed(policy: th.nn.Module, seed: int) -> Iterator[None]:
    """
    Context for evaluations, which leave the training the same bit for bit: the global generators are seeded inside, and
    restored afterwards together with the training modes of all networks.
    """
    states = generator_states()
    training = {module: module.training for module in policy.modules()}
    try:
        set_random_seed(seed)
        yield
    finally:
        set_generator_states(states)
        for module, mode in training.items():
            module.training = mode
