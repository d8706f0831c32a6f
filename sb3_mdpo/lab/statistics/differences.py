"""Differences between methods on each task."""

import pandas as pd

from sb3_mdpo.lab.statistics.intervals import student_interval
from sb3_mdpo.lab.statistics.results import TASK
from sb3_mdpo.lab.statistics.scores import RETURNS


def method_differences(scores: pd.DataFrame, method: str = "mdpo") -> pd.DataFrame:
    """
    Final return on unseen levels, on training levels and their gap: one method minus each of the others, task by task,
    paired by seed.

    The runs of a study are evaluated on the same levels, so the chance of these levels cancels.

    :param scores: table of :func:`~sb3_mdpo.lab.statistics.scores.final_scores`
    :param method: the method that the others are subtracted from
    :return: columns of a task, ``policies``, ``method``, ``other``, ``measure``, ``n_seeds`` (that both have),
        ``difference`` and Student's interval (95 %) over seeds as ``low`` and ``high``, which are NaN for one seed and
        if the difference is the same for all
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
            differences = measures.loc[method] - measures.loc[other]
            for measure, values in differences.items():
                if (n := values.count()) > 0:
                    mean = values.mean()
                    low, high = student_interval(mean, values.std(ddof=1), n)
                    rows.append((*key, method, other, measure, n, mean, float(low), float(high)))
    columns = [*TASK, "policies", "method", "other", "measure", "n_seeds", "difference", "low", "high"]
    return pd.DataFrame(rows, columns=columns)
