"""Aggregates over tasks and seeds with stratified bootstrap intervals, by rliable (arXiv 2108.13264)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rliable import library, metrics
from scipy import stats

from sb3_mdpo.lab.generalization.results import CONFIDENCE
from sb3_mdpo.lab.statistics.results import BUDGETS, TASK
from sb3_mdpo.lab.statistics.scores import MEMBERS, ScoreMatrices, member_means, score_matrices

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
    Columns ``method``, ``metric`` and ``estimate``: the interquartile mean over all runs, median and mean over tasks of
    the mean over seeds, and the mean distance of runs below a score of 1.
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
    low, high = np.concatenate([intervals[method] for method in matrices.scores], axis=1)
    return point_aggregates(matrices).assign(low=low, high=high)


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
    """Of one method over each of the others: columns ``method``, ``other``, ``probability``, ``low`` and ``high``."""
    if method not in matrices.scores:
        raise ValueError(f"There are no scores of {method}: compare one of {', '.join(matrices.scores)}.")
    pairs = {other: (matrices.scores[method], matrix) for other, matrix in matrices.scores.items() if other != method}
    points, intervals = bootstrap(matrices, pairs, improvement_probability, reps, seed)
    rows = [(method, other, points[other], *intervals[other][:, 0]) for other in pairs]
    return pd.DataFrame(rows, columns=["method", "other", "probability", "low", "high"])


def performance_profiles(
    matrices: ScoreMatrices, thresholds: Sequence[float] | NDArray[Any] = THRESHOLDS, reps: int = REPS, seed: int = 0
) -> pd.DataFrame:
    """Columns ``method``, ``threshold``, ``fraction`` (of all runs with a higher score), ``low`` and ``high``."""
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


def sample_efficiency(
    results: pd.DataFrame, column: str = "unseen_normalized", reps: int = REPS, seed: int = 0
) -> pd.DataFrame:
    """
    Interquartile mean of the members' scores during training: columns ``method``, the budgets, ``estimate``, ``low``
    and ``high``, at those steps at which all runs of a method were evaluated.
    """
    evaluations = member_means(results)
    evaluations = evaluations[evaluations["policies"] == MEMBERS]
    tables = []
    for method, rows in evaluations.groupby("method", sort=False):
        runs = len(rows.groupby([*TASK, "seed"]))
        at = {steps: same for steps, same in rows.groupby("timesteps") if len(same) == runs}
        if not at:
            raise ValueError(f"The runs of {method} were never evaluated at the same step: use one eval_freq for all.")
        steps = [score_matrices(same, column) for same in at.values()]
        stacked = np.stack([matrices.scores[method] for matrices in steps], axis=-1)
        matrices = ScoreMatrices({method: stacked}, steps[0].seeds, steps[0].tasks)
        points, intervals = bootstrap(matrices, matrices.scores, iqm_per_step, reps, seed)
        budgets = pd.DataFrame([same[BUDGETS].mean() for same in at.values()])
        low, high = intervals[method]
        tables.append(budgets.assign(method=method, estimate=points[method], low=low, high=high))
    return pd.concat(tables, ignore_index=True)


def iqm_per_step(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """``rliable.metrics.aggregate_iqm`` of each step (n_steps,) of scores (n_seeds, n_tasks, n_steps)."""
    means: NDArray[np.float64] = stats.trim_mean(scores.reshape(-1, scores.shape[-1]), 0.25, axis=0)
    return means


def bootstrap(
    matrices: ScoreMatrices, scores: Mapping[str, Any], function: Callable[..., Any], reps: int, seed: int
) -> tuple[Estimates, Estimates]:
    """Point estimates and intervals (2, n_estimates) of a function of scores, which are from the matrices."""
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
