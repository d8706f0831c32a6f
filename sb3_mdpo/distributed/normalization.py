"""``VecNormalize`` with statistics over the environments of all processes."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecNormalize

from sb3_mdpo.distributed.reductions import batch_moments

Average = Callable[[NDArray[np.float64]], NDArray[np.float64]]


class GlobalMeanStd(RunningMeanStd):
    """
    SB3's statistics, but every batch is that of all processes.

    Copies and pickles are SB3's plain ones: those of evaluation environments and in files.

    :param own: the statistics to go on from, the same in all processes
    :param average: gives the mean of an array over the processes
    """

    def __init__(self, own: RunningMeanStd, average: Average, size: int) -> None:
        super().__init__(shape=own.mean.shape)
        self.mean, self.var, self.count = own.mean, own.var, own.count
        self._average, self._size = average, size

    def update(self, arr: NDArray[Any]) -> None:
        """
        :param arr: batch of this process, as long as that of the others
        """
        offsets = arr - self.mean
        averaged = self._average(np.stack([offsets.mean(axis=0), np.square(offsets).mean(axis=0)]))
        mean, var = batch_moments(averaged, self.mean)
        self.update_from_moments(mean, var, len(arr) * self._size)

    def __reduce__(self) -> Any:
        return _plain, (self.mean, self.var, self.count)


def _plain(mean: NDArray[np.float64], var: NDArray[np.float64], count: float) -> RunningMeanStd:
    plain = RunningMeanStd(shape=mean.shape)
    plain.mean, plain.var, plain.count = mean.copy(), var.copy(), count
    return plain


def share_statistics(env: VecEnv, average: Average, size: int) -> None:
    """
    :param env: training environments; the statistics in their ``VecNormalize`` are replaced where they are plain ones
    :param average: gives the mean of an array over the processes
    :param size: number of processes
    """

    def shared(rms: RunningMeanStd) -> RunningMeanStd:
        return rms if isinstance(rms, GlobalMeanStd) else GlobalMeanStd(rms, average, size)

    while isinstance(env, VecEnvWrapper):
        if isinstance(env, VecNormalize):
            if env.norm_obs:
                rms: Any = env.obs_rms
                env.obs_rms = (
                    {key: shared(one) for key, one in rms.items()} if isinstance(rms, dict) else shared(rms)  # type: ignore[assignment]
                )
            env.ret_rms = shared(env.ret_rms)
        env = env.venv
