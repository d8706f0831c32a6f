"""Seeds for every process from that of the training: one ``SeedSequence``, no overlaps."""

import random

import numpy as np
import torch as th

LARGEST = 2**30  # leaves room for the environments' numbers in the 31 bits that all engines take


def seed_generators(entropy: int, rank: int, size: int) -> None:
    """
    Seed the global generators of Python, NumPy and torch, which explore and shuffle.

    :param entropy: seed of the training
    :param rank: index of this process
    :param size: number of processes
    """
    of_python, of_numpy, of_torch = np.random.SeedSequence(entropy).spawn(size)[rank].spawn(3)
    random.seed(int.from_bytes(of_python.generate_state(4).tobytes(), "little"))
    np.random.seed(of_numpy.generate_state(4))
    th.manual_seed(int(of_torch.generate_state(1, np.uint64)[0] >> np.uint64(1)))


def environment_seed(entropy: int, rank: int, n_envs: int) -> int:
    """
    :param entropy: seed of the training
    :param rank: index of this process
    :param n_envs: environments of each process
    :return: what to give to ``VecEnv.seed()``, which counts on from it: no two environments of all processes have the
        same
    """
    return int(np.random.SeedSequence(entropy).generate_state(1)[0] % LARGEST) + rank * n_envs
