"""Distances between action distributions, and intervals of their means."""

from typing import Any

import numpy as np
import torch as th
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial.distance import cdist

from sb3_mdpo.lab.generalization.results import CONFIDENCE, confidence_interval


def kl_divergence(log_p: th.Tensor, log_q: th.Tensor) -> th.Tensor:
    """``KL(p || q)`` in nats, of log probabilities ``(..., A)``; actions with ``p = 0`` add nothing."""
    p = log_p.exp()
    return th.where(p > 0, p * (log_p - log_q), 0.0).sum(dim=-1)


def total_variation(log_p: th.Tensor, log_q: th.Tensor) -> th.Tensor:
    """``sum |p - q| / 2``, from 0 to 1, shape ``(...)``, of log probabilities ``(..., A)``."""
    return (log_p.exp() - log_q.exp()).abs().sum(dim=-1) / 2


def entropy(log_p: th.Tensor) -> th.Tensor:
    """Entropy in nats, shape ``(...)``, of log probabilities ``(..., A)``; actions with ``p = 0`` add nothing."""
    entropies: th.Tensor = th.special.entr(log_p.exp()).sum(dim=-1)
    return entropies


def variation_between_states(log_p: th.Tensor, n_envs: int) -> float:
    """
    Mean total variation between the distributions in two states of different environments, of log probabilities
    ``(visits * n_envs, A)``: how much a policy's actions depend on the state at all.
    """
    probabilities = log_p.exp().numpy()
    environment = np.arange(len(log_p)) % n_envs
    pairs = cdist(probabilities, probabilities, "cityblock") / 2
    return float(pairs[environment[:, None] != environment].mean())


def mean_interval(distances: th.Tensor, n_envs: int, shared_draws: bool) -> tuple[float, float]:
    """
    Interval of the mean of distances ``(draws, visits * n_envs)``. States of one environment are not independent, so
    each environment counts once. If all states share the draws of the perturbation, these are a sample as well.
    """
    table = distances.reshape(len(distances), -1, n_envs).mean(dim=1).numpy()
    return crossed_interval(table) if shared_draws else confidence_interval(table.mean(axis=0).tolist())


def crossed_interval(table: NDArray[Any]) -> tuple[float, float]:
    """
    Ends of the interval of the mean of a table whose rows and columns are both samples, each of at least two: a
    two-way random effects model (Searle, Casella & McCulloch, Variance Components, 1992, section 4.5), with the
    degrees of freedom of Satterthwaite.
    """
    sizes, mean = np.array(table.shape), float(table.mean())
    rows, columns = table.mean(axis=1), table.mean(axis=0)
    residuals = table - rows[:, None] - columns + mean
    within = float((residuals**2).sum() / np.prod(sizes - 1))
    # Mean squares that are smaller than the residual one would be estimates of negative variances
    squares = np.maximum([sizes[1] * rows.var(ddof=1), sizes[0] * columns.var(ddof=1)], within)
    total = squares.sum() - within
    if total == 0:
        return mean, mean
    uncertainty = (squares**2 / (sizes - 1)).sum() + within**2 / np.prod(sizes - 1)
    degrees = max(total**2 / uncertainty, sizes.min() - 1)
    low, high = stats.t.interval(CONFIDENCE, degrees, mean, np.sqrt(total / np.prod(sizes)))
    return float(low), float(high)
