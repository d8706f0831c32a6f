"""What the processes of a training do together. One process alone has nothing to do.

The algorithm exchanges what is global through a :class:`Ranks`, whether there are several processes or not:
``sb3_mdpo.distributed`` puts another one in its place.
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
    :meth:`spread_seed`, :meth:`share_statistics`, :meth:`callbacks` and :meth:`logger` do not, so models may be made
    and loaded in one process alone.
    """

    rank = 0
    size = 1

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that reads, writes and prints."""
        return self.rank == 0

    def share(self, total: int, what: str) -> int:
        """
        :param total: a number of things, of all processes together
        :param what: what they are, for the message
        :return: this process' share of them
        :raises ValueError: if they cannot be shared out equally
        """
        return total

    def average(self, tensors: Sequence[th.Tensor]) -> None:
        """
        Replace tensors by their means over the processes.

        :param tensors: tensors of the same shapes in every process, changed in place
        """

    def normalize(self, advantages: Sequence[th.Tensor]) -> list[th.Tensor]:
        """
        :param advantages: each of shape ``(B,)``, of the same members in every process
        :return: each normalised by mean and standard deviation over the samples of all processes, as
            :func:`~sb3_mdpo.common.buffers.normalize_advantages` does
        """
        return [normalize_advantages(one) for one in advantages]

    def variance(self, series: th.Tensor) -> th.Tensor:
        """
        :param series: shape ``(n_policies, samples)``
        :return: variance (of the population) over the samples of all processes, shape ``(n_policies,)``
        """
        return series.var(dim=1, correction=0)

    def all_true(self, value: bool) -> bool:
        """
        :param value: this process' value
        :return: whether it is true in all processes
        """
        return value

    def gather(self, value: T) -> list[T]:
        """
        :param value: anything that pickle can copy
        :return: that of every process, in their order
        """
        return [value]

    def gather_to_first(self, value: T) -> list[T]:
        """
        :param value: anything that pickle can copy
        :return: in the first process that of every process, in the others nothing
        """
        return [value]

    def broadcast(self, value: T) -> T:
        """
        :param value: anything that pickle can copy
        :return: that of the first process
        """
        return value

    def sync_parameters(self, module: th.nn.Module, settings: dict[str, Any]) -> None:
        """
        Give all processes the parameters and buffers of the first one.

        :param module: the networks
        :param settings: what must be the same in every process
        :raises ValueError: if it is not
        """

    def spread_seed(self, seed: int | None, env: VecEnv | None) -> None:
        """
        Give the random generators and environments of every process seeds of their own.

        :param seed: the training's seed
        :param env: training environments
        """

    def share_statistics(self, env: VecEnv) -> None:
        """
        Let ``VecNormalize`` learn from the environments of all processes; may be called again and again.

        :param env: training environments
        """

    def peers_generator(self) -> Any:
        """
        :return: a generator with NumPy's method ``choice()`` that draws the same in every process until the next call
        """
        return np.random

    def callbacks(self, callback: Any) -> Any:
        """
        :param callback: what was given to ``learn()``
        :return: what of it runs in this process
        """
        return callback

    def logger(self) -> Logger | None:
        """
        :return: the logger that this process must have, None for any
        """
        return None


ALONE = Ranks()
_current: list[Ranks] = [ALONE]


def current_ranks() -> Ranks:
    """
    :return: the processes of the training that goes on here
    """
    return _current[-1]


def enter(ranks: Ranks) -> None:
    """
    :param ranks: what :func:`current_ranks` shall give until :func:`leave`
    """
    _current.append(ranks)


def leave() -> None:
    """Undo :func:`enter`."""
    _current.pop()
