"""Means and variances of samples that lie in several processes, from what each of them knows."""

import numpy as np
import torch as th
from numpy.typing import NDArray


def powers(samples: th.Tensor) -> th.Tensor:
    """
    :param samples: samples of this process, shape ``(series, B)``
    :return: mean and mean square of each series, shape ``(2, series)``, in float64: the mean of these over processes
        with as many samples each is that of all samples
    """
    doubles = samples.double()
    return th.stack([doubles.mean(dim=1), doubles.square().mean(dim=1)])


def variance(averaged: th.Tensor) -> th.Tensor:
    """
    :param averaged: mean over the processes of their :func:`powers`
    :return: variance (of the population) of all samples, shape ``(series,)``
    """
    mean, mean_square = averaged
    spread: th.Tensor = mean_square - mean.square()
    return spread.clamp_min(0)


def normalized(samples: th.Tensor, averaged: th.Tensor, size: int) -> th.Tensor:
    """
    :param samples: samples of this process, shape ``(series, B)``
    :param averaged: mean over the processes of their :func:`powers`
    :param size: number of processes
    :return: samples of mean 0 and standard deviation 1 over all processes, as
        :func:`~sb3_mdpo.common.buffers.normalize_advantages` makes them; a single one of all is returned as it is
    """
    count = samples.shape[1] * size
    if count < 2:
        return samples
    mean = averaged[0].to(samples.dtype)
    std = (variance(averaged) * (count / (count - 1))).sqrt().to(samples.dtype)
    return (samples - mean[:, None]) / (std[:, None] + 1e-8)


def batch_moments(averaged: NDArray[np.float64], around: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """
    :param averaged: mean over the processes of the means of ``x - around`` and of its square, shape ``(2, ...)``
    :param around: a value near the samples, the same in all processes, which keeps the digits of their variance
    :return: mean and variance (of the population) of the samples of all processes
    """
    offset, square = averaged
    return around + offset, np.maximum(square - offset**2, 0)
