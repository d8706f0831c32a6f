"""Measures during training."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from sb3_mdpo.lab.statistics.aggregates import REPS, bootstrap
from sb3_mdpo.lab.statistics.results import BUDGETS, MEASURES, TASK
from sb3_mdpo.lab.statistics.scores import MEMBERS, ScoreMatrices, member_means, score_matrices


def learning_curves(results: pd.DataFrame) -> pd.DataFrame:
    """
    :return: one row per task, method, ``policies`` and step: the mean of each measure over the seeds evaluated there,
        its standard deviation as ``*_std`` (NaN for one seed), the number of seeds as ``n_seeds``, and mean budgets
    """
    keys = [*TASK, "method", "policies", "timesteps"]
    groups = member_means(results).groupby(keys, sort=False)
    budgets = [column for column in BUDGETS if column != "timesteps"]
    curves = groups[[*budgets, *MEASURES]].mean()
    deviations = groups[MEASURES].std(ddof=1).add_suffix("_std")
    table = pd.concat([curves, deviations, groups.size().rename("n_seeds")], axis=1).reset_index()
    return table.sort_values(keys, kind="stable", ignore_index=True)


def sample_efficiency(
    results: pd.DataFrame, column: str = "unseen_normalized", reps: int = REPS, seed: int = 0
) -> pd.DataFrame:
    """
    Interquartile mean of the members' scores during training.

    :return: columns ``method``, the budgets, ``estimate``, ``low`` and ``high``, at those steps at which all runs
        of a method were evaluated
    :raises ValueError: if there are too few seeds for an interval, or a method's runs have no step in common
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
