"""Differences between methods on each task."""

import pandas as pd

from sb3_mdpo.lab.statistics.intervals import student_interval, welch_interval
from sb3_mdpo.lab.statistics.results import TASK
from sb3_mdpo.lab.statistics.scores import RETURNS


def method_differences(scores: pd.DataFrame, method: str = "mdpo") -> pd.DataFrame:
    """
    Final return on unseen levels, on training levels and their gap: one method minus each of the others, task by task.

    Runs are paired by seed if both methods have the same seeds. The runs of a study are evaluated on the same levels,
    so the chance of these levels cancels in any case.

    :param scores: table of :func:`~sb3_mdpo.lab.statistics.scores.final_scores`
    :param method: the method that the others are subtracted from
    :return: columns of a task, ``policies``, ``method``, ``other``, ``measure``, ``n_seeds``, ``n_other`` (seeds of
        the other), ``paired``, ``difference``, and as ``low`` and ``high`` the interval (95 %) over seeds: Student's of
        the differences of pairs, otherwise Welch's. They are NaN for one seed, and if nothing varies
    :raises ValueError: if there are no scores of the method
    """
    methods = list(scores["method"].unique())
    if method not in methods:
        raise ValueError(f"There are no scores of {method}: compare one of {', '.join(methods)}.")
    rows = []
    for key, of_task in scores.groupby([*TASK, "policies"], sort=False):
        measures = of_task.set_index(["method", "seed"])[RETURNS]
        for other in methods:
            if other == method or not {method, other} <= set(of_task["method"]):
                continue
            for measure in RETURNS:
                one, two = (measures.loc[name, measure].dropna() for name in (method, other))
                if not (one.empty or two.empty):
                    rows.append((*key, method, other, measure, *_difference(one, two)))
    columns = ["n_seeds", "n_other", "paired", "difference", "low", "high"]
    return pd.DataFrame(rows, columns=[*TASK, "policies", "method", "other", "measure", *columns])


def _difference(one: pd.Series, two: pd.Series) -> tuple[int, int, bool, float, float, float]:
    """Of two measures by seed."""
    mean = float(one.mean() - two.mean())
    paired = set(one.index) == set(two.index)
    ends = student_interval(mean, (one - two).std(ddof=1), len(one)) if paired else welch_interval(one, two)
    low, high = map(float, ends)
    return len(one), len(two), paired, mean, low, high
