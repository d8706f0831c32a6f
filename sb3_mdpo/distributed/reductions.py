"""Means and variances over the samples of all processes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch as th
from numpy.typing import NDArray
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecNormalize

Average = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def powers(samples: th.Tensor) -> th.Tensor:
    """
    Mean and mean square of each series in the samples ``(series, B)``, shape ``(2, series)``, in float64. With equally
    many samples in every process, their mean over the processes is that of all samples.
    """
    doubles = samples.double()
    return th.stack([doubles.mean(dim=1), doubles.square().mean(dim=1)])


def variance(averaged: th.Tensor) -> th.Tensor:
    """Population variance of all samples, shape ``(series,)``, from the mean over the processes of :func:`powers`."""
    mean, mean_square = averaged
    spread: th.Tensor = mean_square - mean.square()
    return spread.clamp_min(0)


def normalized(samples: th.Tensor, averaged: th.Tensor, size: int) -> th.Tensor:
    """
    Normalize samples ``(series, B)`` as :func:`~sb3_mdpo.common.buffers.normalize_advantages` does, given the mean of
    :func:`powers` over ``size`` processes. A single sample is returned unchanged.
    """
    count = samples.shape[1] * size
    if count < 2:
        return samples
    mean = averaged[0].to(samples.dtype)
    std = (variance(averaged) * (count / (count - 1))).sqrt().to(samples.dtype)
    return (samples - mean[:, None]) / (std[:, None] + 1e-8)


class GlobalMeanStd(RunningMeanStd):
    """
    SB3's running statistics over the batches of all processes. Copies and pickles are SB3's own class, for evaluation
    environments and files.

    :param own: the statistics to start from, the same in all processes
    :param average: returns the mean of an array over the processes
    """

    def __init__(self, own: RunningMeanStd, average: Average, size: int) -> None:
        super().__init__(shape=own.mean.shape)
        self.mean, self.var, self.count = own.mean, own.var, own.count
        self._average, self._size = average, size

    def update(self, arr: NDArray[Any]) -> None:
        offsets = arr - self.mean  # around a value near the samples, which keeps the digits of their variance
        offset, square = self._average(np.stack([offsets.mean(axis=0), np.square(offsets).mean(axis=0)]))
        self.update_from_moments(self.mean + offset, np.maximum(square - offset**2, 0), len(arr) * self._size)

    def __reduce__(self) -> Any:
        return _sb3_statistics, (self.mean, self.var, self.count)


def _sb3_statistics(mean: NDArray[np.float64], var: NDArray[np.float64], count: float) -> RunningMeanStd:
    statistics = RunningMeanStd(shape=mean.shape)
    statistics.mean, statistics.var, statistics.count = mean.copy(), var.copy(), count
    return statistics


def share_statistics(env: VecEnv, average: Average, size: int) -> None:
    """Replace the statistics of every ``VecNormalize`` by :class:`GlobalMeanStd`."""

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
