"""Aggregates over tasks and seeds with stratified bootstrap intervals, by rliable (arXiv 2108.13264)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rliable import library, metrics

from sb3_mdpo.lab.generalization.results import CONFIDENCE
from sb3_mdpo.lab.statistics.scores import ScoreMatrices

REPS = 2000
THRESHOLDS = np.linspace(0, 1, 51)
METRICS: dict[str, Callable[[NDArray[Any]], float]] = {
    "IQM": metrics.aggregate_iqm,
    "median": metrics.aggregate_median,
    "mean": metrics.aggregate_mean,
    "optimality gap": metrics.aggregate_optimality_gap,
}
Estimates = Mapping[str, NDArray[Any]]


def point_aggregates(matrices: ScoreMatrices) -> pd.DataFrame:
    """
    :return: columns ``method``, ``metric`` and ``estimate``: the interquartile mean over all runs, median and mean
        over tasks of the mean over seeds, and the mean distance of runs below a score of 1
    """
    rows = [
        (method, name, float(metric(matrix)))
        for method, matrix in matrices.scores.items()
        for name, metric in METRICS.items()
    ]
    return pd.DataFrame(rows, columns=["method", "metric", "estimate"])


def aggregate_scores(matrices: ScoreMatrices, reps: int = REPS, seed: int = 0) -> pd.DataFrame:
    """:func:`point_aggregates` with 95 % intervals as ``low`` and ``high``, of at least two seeds."""
    _, intervals = bootstrap(
        matrices, matrices.scores, lambda scores: np.array([metric(scores) for metric in METRICS.values()]), reps, seed
    )
    ends = [intervals[method][:, place] for method in matrices.scores for place in range(len(METRICS))]
    return point_aggregates(matrices).assign(low=[end[0] for end in ends], high=[end[1] for end in ends])


def improvement_probability(better: NDArray[Any], worse: NDArray[Any]) -> float:
    """
    ``rliable.metrics.probability_of_improvement`` without its p-values, which take nearly all of its time: the
    probability that a run of the first scores ``(n_seeds, n_tasks)`` beats one of the second on the same task, ties
    counting half, averaged over tasks.
    """
    pairs = better[:, None] - worse[None]
    return float(np.mean((pairs > 0) + 0.5 * (pairs == 0)))


def probability_of_improvement(
    matrices: ScoreMatrices, method: str = "mdpo", reps: int = REPS, seed: int = 0
) -> pd.DataFrame:
    """
    :param method: the method that is compared with each of the others
    :return: columns ``method``, ``other``, ``probability``, ``low`` and ``high``
    :raises ValueError: if there is no such method, or there are too few seeds for an interval
    """
    if method not in matrices.scores:
        raise ValueError(f"There are no scores of {method}: compare one of {', '.join(matrices.scores)}.")
    pairs = {other: (matrices.scores[method], matrix) for other, matrix in matrices.scores.items() if other != method}
    points, intervals = bootstrap(matrices, pairs, improvement_probability, reps, seed)
    rows = [(method, other, points[other], *intervals[other][:, 0]) for other in pairs]
    return pd.DataFrame(rows, columns=["method", "other", "probability", "low", "high"])


def performance_profiles(
    matrices: ScoreMatrices, thresholds: Sequence[float] | NDArray[Any] = THRESHOLDS, reps: int = REPS, seed: int = 0
) -> pd.DataFrame:
    """
    :return: columns ``method``, ``threshold``, ``fraction`` (of all runs on all tasks with a higher score),
        ``low`` and ``high``
    :raises ValueError: if there are too few seeds for an interval
    """
    _check_seeds(matrices, reps)
    thresholds = np.asarray(thresholds, dtype=float)
    with _numpy_seeded(seed):
        profiles, intervals = library.create_performance_profile(matrices.scores, thresholds, reps=reps)
    tables = []
    for method, fraction in profiles.items():
        low, high = intervals[method]
        columns = {"method": method, "threshold": thresholds, "fraction": fraction, "low": low, "high": high}
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def bootstrap(
    matrices: ScoreMatrices, scores: Mapping[str, Any], function: Callable[..., Any], reps: int, seed: int
) -> tuple[Estimates, Estimates]:
    """
    :param matrices: the scores that were passed
    :param scores: what rliable's ``get_interval_estimates`` takes
    :param function: what to estimate from them
    :return: point estimates, and intervals (2, n_estimates)
    :raises ValueError: if there are too few seeds for an interval
    """
    _check_seeds(matrices, reps)
    with _numpy_seeded(seed):
        points, intervals = library.get_interval_estimates(
            scores, function, reps=reps, confidence_interval_size=CONFIDENCE
        )
    return points, intervals


def _check_seeds(matrices: ScoreMatrices, reps: int) -> None:
    if len(matrices.seeds) < 2:
        raise ValueError(
            f"{len(matrices.seeds)} seed(s) give no interval: train every method with 2 or more, better 5."
        )
    if reps < 1:
        raise ValueError(f"reps={reps} must be at least 1; the default is 2000.")


@contextmanager
def _numpy_seeded(seed: int) -> Iterator[None]:
    """rliable draws from NumPy's global generator even if it is given a ``random_state``."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)
