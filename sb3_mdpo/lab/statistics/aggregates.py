"""Aggregates over tasks and seeds with intervals, most of them by rliable's stratified bootstrap (arXiv 2108.13264)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rliable import library, metrics
from scipy import stats

from sb3_mdpo.lab.statistics.intervals import (
    MIN_SEEDS,
    MIN_SEEDS_OF_SEVERAL_TASKS,
    percentile_size,
    wilson_interval,
)
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
OVER_TASKS = ("median", "optimality gap")  # say nothing of a single task
Estimates = Mapping[str, NDArray[Any]]


def metrics_of(matrices: ScoreMatrices) -> dict[str, Callable[[NDArray[Any]], float]]:
    """The metrics by name: all, or those that make sense for a single task."""
    return {name: metric for name, metric in METRICS.items() if len(matrices.tasks) > 1 or name not in OVER_TASKS}


def point_aggregates(matrices: ScoreMatrices) -> pd.DataFrame:
    """
    Columns ``method``, ``metric`` and ``estimate``: the interquartile mean over all runs, the mean over all runs and,
    of several tasks, the median over tasks of the mean over seeds, and the mean distance of runs below a score of 1.
    """
    rows = [
        (method, name, float(metric(matrix)))
        for method, matrix in matrices.scores.items()
        for name, metric in metrics_of(matrices).items()
    ]
    return pd.DataFrame(rows, columns=["method", "metric", "estimate"])


def aggregate_scores(matrices: ScoreMatrices, reps: int = REPS, seed: int = 0) -> pd.DataFrame:
    """:func:`point_aggregates` with 95 % intervals as ``low`` and ``high``, NaN for too few seeds."""
    used = metrics_of(matrices).values()
    _, intervals = bootstrap(matrices, lambda scores: np.array([metric(scores) for metric in used]), reps, seed)
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


def probability_of_improvement(matrices: ScoreMatrices, method: str = "mdpo") -> pd.DataFrame:
    """
    Of one method over each of the others: columns ``method``, ``other``, ``n_seeds``, ``probability``, ``low`` and
    ``high``. The interval is Wilson's, with as many trials as each method has runs: this is the largest variance that
    the estimate can have, whatever the distributions of scores (van Dantzig 1951). It is NaN for fewer than 5 seeds.
    """
    if method not in matrices.scores:
        raise ValueError(f"There are no scores of {method}: compare one of {', '.join(matrices.scores)}.")
    n_seeds, n_tasks = len(matrices.seeds), len(matrices.tasks)
    rows = []
    for other, scores in matrices.scores.items():
        if other == method:
            continue
        probability = improvement_probability(matrices.scores[method], scores)
        enough = n_seeds >= MIN_SEEDS
        ends = wilson_interval(probability, n_seeds * n_tasks) if enough else (float("nan"), float("nan"))
        rows.append((method, other, n_seeds, probability, *map(float, ends)))
    return pd.DataFrame(rows, columns=["method", "other", "n_seeds", "probability", "low", "high"])


def performance_profiles(
    matrices: ScoreMatrices, thresholds: Sequence[float] | NDArray[Any] = THRESHOLDS, reps: int = REPS, seed: int = 0
) -> pd.DataFrame:
    """Columns ``method``, ``threshold``, ``fraction`` (of all runs with a higher score), ``low`` and ``high``."""
    thresholds = np.asarray(thresholds, dtype=float)
    profiles, intervals = bootstrap(
        matrices, lambda scores: library.score_distributions(scores, thresholds), reps, seed
    )
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
        points, intervals = bootstrap(matrices, iqm_per_step, reps, seed)
        budgets = pd.DataFrame([same[BUDGETS].mean() for same in at.values()])
        low, high = intervals[method]
        tables.append(budgets.assign(method=method, estimate=points[method], low=low, high=high))
    return pd.concat(tables, ignore_index=True)


def iqm_per_step(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """``rliable.metrics.aggregate_iqm`` of each step (n_steps,) of scores (n_seeds, n_tasks, n_steps)."""
    means: NDArray[np.float64] = stats.trim_mean(scores.reshape(-1, scores.shape[-1]), 0.25, axis=0)
    return means


def bootstrap(
    matrices: ScoreMatrices, function: Callable[[NDArray[Any]], Any], reps: int, seed: int
) -> tuple[Estimates, Estimates]:
    """Estimates (n_estimates,) of each method and their intervals (2, n_estimates), which are NaN for too few seeds."""
    n_seeds, n_tasks = len(matrices.seeds), len(matrices.tasks)
    if n_seeds < 2:
        raise ValueError(f"{n_seeds} seed(s) give no interval: train every method with {MIN_SEEDS} or more.")
    if reps < 1:
        raise ValueError(f"reps={reps} must be at least 1; the default is 2000.")
    if n_seeds < (MIN_SEEDS if n_tasks == 1 else MIN_SEEDS_OF_SEVERAL_TASKS):
        points = {method: function(scores) for method, scores in matrices.scores.items()}
        return points, {method: np.full((2, len(point)), np.nan) for method, point in points.items()}
    with _numpy_seeded(seed):
        points, intervals = library.get_interval_estimates(
            matrices.scores, function, reps=reps, confidence_interval_size=percentile_size(n_seeds, n_tasks)
        )
    return points, intervals


@contextmanager
def _numpy_seeded(seed: int) -> Iterator[None]:
    """rliable draws from NumPy's global generator even if it is given a ``random_state``."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)
