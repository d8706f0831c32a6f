"""Scores: one number per run, and matrices of them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sb3_mdpo.lab.generalization.results import ENSEMBLE
from sb3_mdpo.lab.statistics.intervals import student_interval
from sb3_mdpo.lab.statistics.results import BUDGETS, ERRORS, MEASURES, RUN, TASK, task_name

MEMBERS = "members"
RETURNS = ["unseen_return", "training_return", "gap"]
LAST_FRACTION = 0.05


@dataclass(frozen=True)
class ScoreMatrices:
    """Scores as rliable takes them: method -> array (n_seeds, n_tasks), and what its rows and columns are."""

    scores: dict[str, NDArray[np.float64]]
    seeds: list[Any]
    tasks: list[str]


def final_scores(results: pd.DataFrame, fraction: float = LAST_FRACTION) -> pd.DataFrame:
    """
    Final score of each run: the mean of its evaluations in the last part of training, as in the paper
    (arXiv 2501.02481). The last evaluation is always one of them.

    :param results: table of :func:`~sb3_mdpo.lab.statistics.results.read_results`
    :param fraction: that part, as a fraction of the steps of the run's last evaluation
    :return: one row per run and ``policies`` (``"members"``: the mean over all members; ``"ensemble"``: the members
        acting together), with the columns of ``RUN`` and ``MEASURES``, the number of ``evaluations``, the standard
        deviation between the members of the run as ``*_members_std`` of returns and gap (NaN for one policy), and the
        standard error over the episodes of one policy in the last evaluation as ``unseen_stderr`` and
        ``training_stderr``
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction={fraction} must be between 0 and 1: 0.05 is the last 5 % of training.")
    results = results.assign(policies=_members_or_ensemble(results))
    last = results.groupby(RUN)["timesteps"].transform("max")
    final, of_last = results[results["timesteps"] >= (1 - fraction) * last], results[results["timesteps"] == last]
    keys = [*RUN, "policies"]
    of_policies = final.groupby([*keys, "policy"])[RETURNS].mean()
    of_last = of_last.reindex(columns=[*keys, *ERRORS])
    groups = member_means(final).groupby(keys, sort=False)
    table = groups[MEASURES].mean().assign(evaluations=groups.size())
    table = table.join(of_policies.groupby(keys).std(ddof=1).add_suffix("_members_std"))
    return table.join(of_last.groupby(keys)[ERRORS].mean()).reset_index()


def task_table(scores: pd.DataFrame) -> pd.DataFrame:
    """
    One row per task, method and ``policies`` of :func:`final_scores`: the number of seeds as ``n_seeds``, the mean over
    seeds of each measure, its standard deviation as ``*_std``, and Student's interval of the mean over seeds (95 %) as
    ``*_low`` and ``*_high`` (NaN for one seed, and if all runs are equal). The standard deviation between members
    within a run is ``*_members_std`` (root of the mean variance), the standard error over episodes ``*_stderr``.
    """
    keys = [*TASK, "method", "policies"]
    table = _over_seeds(scores, keys, MEASURES).set_index(keys)
    groups = scores.groupby(keys, sort=False)
    counts = groups[MEASURES].count()
    for measure in MEASURES:
        ends = student_interval(table[measure], table[f"{measure}_std"], counts[measure])
        table[f"{measure}_low"], table[f"{measure}_high"] = ends
    for column in (f"{measure}_members_std" for measure in RETURNS):
        table[column] = np.sqrt((scores[column] ** 2).groupby([scores[key] for key in keys], sort=False).mean())
    return table.join(groups[ERRORS].mean()).reset_index()


def learning_curves(results: pd.DataFrame) -> pd.DataFrame:
    """As :func:`task_table`, of the seeds evaluated at each step, with the means of the budgets."""
    keys = [*TASK, "method", "policies", "timesteps"]
    table = _over_seeds(member_means(results), keys, [*BUDGETS[1:], *MEASURES])
    return table.sort_values(keys, kind="stable", ignore_index=True)


def _over_seeds(table: pd.DataFrame, keys: list[str], means: list[str]) -> pd.DataFrame:
    groups = table.groupby(keys, sort=False)
    deviations = groups[MEASURES].std(ddof=1).add_suffix("_std")
    return pd.concat([groups.size().rename("n_seeds"), groups[means].mean(), deviations], axis=1).reset_index()


def member_means(results: pd.DataFrame) -> pd.DataFrame:
    """The means of the measures of the members in each evaluation, and those of the ensemble, by ``policies``."""
    groups = results.assign(policies=_members_or_ensemble(results)).groupby([*RUN, "policies", "timesteps"], sort=False)
    return groups[[*BUDGETS[1:], *MEASURES]].mean().reset_index()


def _members_or_ensemble(results: pd.DataFrame) -> NDArray[np.str_]:
    return np.where(results["policy"] == ENSEMBLE, ENSEMBLE, MEMBERS)


def score_column(scores: pd.DataFrame, levels: str = "unseen") -> str:
    """The column to compare methods by: normalised scores if all rows have them, otherwise returns."""
    has_score = scores[f"{levels}_normalized"].notna()
    if has_score.all():
        return f"{levels}_normalized"
    environments = sorted(scores.loc[~has_score, "env_id"].unique())
    if scores["env_id"].nunique() > 1:
        raise ValueError(
            f"Scores of {', '.join(environments)} are not normalised, and returns of different environments cannot "
            "be averaged: compare environments with normalised scores, or one environment at a time."
        )
    return f"{levels}_return"


def common_seeds(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows of :func:`final_scores` with seeds that all methods have on all tasks."""
    runs = scores.groupby("seed").apply(lambda rows: len(rows.groupby([*TASK, "method"])), include_groups=False)
    wanted = scores["method"].nunique() * len(scores.groupby(TASK))
    return scores[scores["seed"].isin(runs.index[runs == wanted])]


def score_matrices(scores: pd.DataFrame, column: str = "unseen_normalized") -> ScoreMatrices:
    """A measure in a table of :func:`final_scores`, of members or of ensembles, with the same seeds everywhere."""
    if scores.empty or scores["policies"].nunique() > 1:
        raise ValueError(f"Scores of {scores['policies'].unique().tolist()}: take members, or ensembles.")
    tasks = list(scores[TASK].drop_duplicates().itertuples(index=False, name=None))
    methods = list(scores["method"].unique())
    rows = [(*task, method) for method in methods for task in tasks]
    table = scores.set_index([*TASK, "method", "seed"])[column].unstack("seed").reindex(rows)
    missing = [
        f"{row[-1]} on {task_name(*row[:-1])} lacks seed {', '.join(str(seed) for seed in table.columns[absent])}"
        for row, absent in zip(rows, table.isna().to_numpy(), strict=True)
        if absent.any()
    ]
    if missing:
        more = f"; and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ValueError(
            f"Methods are compared over the same seeds on every task, but in {column} {'; '.join(missing[:3])}{more}: "
            "finish these runs, or leave their seeds out."
        )
    values = table.to_numpy(dtype=float).reshape(len(methods), len(tasks), -1)
    return ScoreMatrices(
        {method: matrix.T for method, matrix in zip(methods, values, strict=True)},
        table.columns.tolist(),
        [task_name(*task) for task in tasks],
    )
