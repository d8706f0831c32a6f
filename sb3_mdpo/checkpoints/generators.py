"""The random generators that SB3 samples with: Python's, NumPy's and torch's global ones."""

import random
from typing import Any

import numpy as np
import torch as th


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
