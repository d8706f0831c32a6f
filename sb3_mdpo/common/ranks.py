"""Communication between the processes of a training.

The algorithm exchanges global values through a :class:`Ranks`. This one is for a single process;
``sb3_mdpo.distributed`` replaces it.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import torch as th
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv

from sb3_mdpo.common.buffers import normalize_advantages

T = TypeVar("T")


class Ranks:
    """
    The one process of an ordinary training.

    Most methods exchange messages: every process must call them, in the same order. :meth:`share`,
    :meth:`spread_seed`, :meth:`share_statistics`, :meth:`callbacks` and :meth:`logger` do not, so that one process can
    create and load models alone.
    """

    rank = 0
    size = 1

    @property
    def is_first(self) -> bool:
        """Whether this process reads and writes files and prints."""
        return self.rank == 0

    def share(self, total: int, what: str) -> int:
        """
        :param total: a number, of all processes together
        :param what: its name, for the error message
        :return: this process' share of it
        :raises ValueError: if it cannot be divided equally
        """
        return total

    def average(self, tensors: Sequence[th.Tensor]) -> None:
        """Replace tensors, in place, by their means over the processes."""

    def normalize(self, advantages: th.Tensor) -> th.Tensor:
        """
        :param advantages: shape ``(n_policies, B)``, of the same members in every process
        :return: each row normalised by mean and standard deviation over the samples of all processes, as
            :func:`~sb3_mdpo.common.buffers.normalize_advantages` does
        """
        return normalize_advantages(advantages)

    def variance(self, series: th.Tensor) -> th.Tensor:
        """
        :param series: shape ``(n_policies, samples)``
        :return: variance (of the population) over the samples of all processes, shape ``(n_policies,)``
        """
        return series.var(dim=1, correction=0)

    def all_true(self, value: bool) -> bool:
        """Whether the value is true in all processes."""
        return value

    def gather(self, value: T) -> list[T]:
        """The value of every process, by rank; it must be picklable."""
        return [value]

    def gather_to_first(self, value: T) -> list[T]:
        """As :meth:`gather` in the first process, an empty list in the others."""
        return [value]

    def broadcast(self, value: T) -> T:
        """The value of the first process; it must be picklable."""
        return value

    def sync_parameters(self, module: th.nn.Module, settings: dict[str, Any]) -> None:
        """
        Copy the parameters and buffers of the first process to all others.

        :param module: the networks
        :param settings: settings that must be the same in every process
        :raises ValueError: if they are not
        """

    def spread_seed(self, seed: int | None, env: VecEnv | None) -> None:
        """
        Seed the random generators and environments of every process differently.

        :param seed: the training's seed
        :param env: training environments
        """

    def share_statistics(self, env: VecEnv) -> None:
        """Let ``VecNormalize`` learn from the environments of all processes; may be called repeatedly."""

    def peers_generator(self) -> Any:
        """A generator whose ``choice()`` (as NumPy's) draws the same in every process until the next call."""
        return np.random

    def callbacks(self, callback: Any) -> Any:
        """The part of ``learn()``'s callback that runs in this process."""
        return callback

    def logger(self) -> Logger | None:
        """The logger that this process must use, None for any."""
        return None


ALONE = Ranks()
_current: list[Ranks] = [ALONE]


def current_ranks() -> Ranks:
    """The processes of the current training."""
    return _current[-1]


def enter(ranks: Ranks) -> None:
    """Make :func:`current_ranks` return ``ranks`` until :func:`leave`."""
    _current.append(ranks)


def leave() -> None:
    """Undo :func:`enter`."""
    _current.pop()
