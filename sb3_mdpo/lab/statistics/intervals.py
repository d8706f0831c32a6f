"""Intervals at 95 % that cover with few seeds."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from sb3_mdpo.lab.generalization.results import CONFIDENCE

MIN_SEEDS = 5
# A bootstrap over one task cannot go beyond its worst and its best run, but draws the runs of several tasks separately
MIN_SEEDS_OF_SEVERAL_TASKS = 3


def percentile_size(n_seeds: int, n_tasks: int) -> float:
    """
    How much of a bootstrap's distribution to take as the interval: more than 95 %, because with few seeds its standard
    deviation is too small by ``sqrt((n - 1) / n)`` and normal quantiles are smaller than Student's (expanded percentile
    interval, Hesterberg 2015, arXiv 1411.5279).
    """
    student = stats.t.ppf((1 + CONFIDENCE) / 2, n_tasks * (n_seeds - 1))
    return float(1 - 2 * stats.norm.sf(student * np.sqrt(n_seeds / (n_seeds - 1))))


def student_interval(mean: Any, std: Any, n: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """
    Student's interval of means of ``n`` independent runs with the standard deviation ``std``. NaN for a single run, and
    if all runs are equal: then nothing is known about their deviation.
    """
    mean, std, n = (np.asarray(values, dtype=float) for values in (mean, std, n))
    equal = std <= 1e-9 * np.abs(mean)  # up to rounding
    low, high = stats.t.interval(CONFIDENCE, n - 1, mean, np.where(equal, np.nan, std / np.sqrt(n)))
    return low, high


def welch_interval(one: Any, two: Any) -> tuple[float, float]:
    """
    Welch's interval of the difference between two means of independent runs with different standard deviations. NaN if
    one of them has a single run, or nothing varies.
    """
    if min(len(one), len(two)) < 2:
        return np.nan, np.nan
    errors = np.array([np.var(runs, ddof=1) / len(runs) for runs in (one, two)])
    if errors.sum() == 0:
        return np.nan, np.nan
    degrees = errors.sum() ** 2 / (errors**2 / [len(one) - 1, len(two) - 1]).sum()
    low, high = stats.t.interval(CONFIDENCE, degrees, np.mean(one) - np.mean(two), np.sqrt(errors.sum()))
    return float(low), float(high)


def wilson_interval(estimate: Any, n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """
    Wilson's interval of a probability.

    :param estimate: estimates whose variance is at most ``p * (1 - p) / n`` if ``p`` is the probability
    :param n: e.g. the number of independent trials
    :return: lower and upper ends
    """
    z = stats.norm.ppf((1 + CONFIDENCE) / 2)
    middle, half = estimate + z**2 / (2 * n), z * np.sqrt(estimate * (1 - estimate) / n + z**2 / (4 * n**2))
    low, high = ((middle + side * half) / (1 + z**2 / n) for side in (-1, 1))
    return np.maximum(low, 0.0), np.minimum(high, 1.0)


def interval_text(low: float, high: float, n_seeds: int) -> str:
    """An interval, or why there is none."""
    return f"{n_seeds} seeds: too few for an interval" if np.isnan(low) else f"{low:.2f} to {high:.2f}"
