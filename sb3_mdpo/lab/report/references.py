"""Published curves beside those of a study, at the study's own numbers of steps."""

from collections.abc import Iterator

import pandas as pd

from sb3_mdpo.lab.generalization.published import PAPER, PROCGEN_AUTHORS, matching_curves, until, value_at
from sb3_mdpo.lab.report.data import ReportData
from sb3_mdpo.lab.report.first_half import NAME, PPO, TWICE
from sb3_mdpo.lab.report.lines import Dash, Line, Task, learning_lines, method_lines, tasks, with_interval
from sb3_mdpo.lab.report.method_style import Style
from sb3_mdpo.lab.statistics.results import BUDGETS, TASK

# Black and grey: the study's methods have the colors
STYLES = {
    (PAPER, "mdpo"): Style("#000000", "star", "*"),
    (PAPER, "ppo"): Style("#777777", "hexagon", "h"),
    (PAPER, "ppo_l2"): Style("#777777", "triangle-left", "<"),
    (PAPER, "ppo_dropout"): Style("#777777", "triangle-right", ">"),
    (PROCGEN_AUTHORS, "ppo"): Style("#555555", "pentagon", "p"),
}
RETURNS: dict[str, Dash] = {"unseen_return": "dot", "training_return": "dashdot"}
TOOLTIPS = {"unseen_return": "unseen", "training_return": "training", "gap": "gap"}


def published_method(method: str) -> str:
    """The published method that a method of a study is, apart from its number of steps."""
    return PPO if method in (TWICE, NAME) else method


def published_name(source: str, method: str) -> str:
    """Name of a published curve in the legend."""
    return f"{method} ({source})"


def task_lines(data: ReportData, measure: str) -> dict[Task, list[Line]]:
    """
    The lines of each task's chart: the study's methods, then the published curves as far as the study's reach.

    :param measure: ``return`` (on unseen and training levels), ``gap`` or ``kl``
    """
    if measure == "return":
        return {
            task: [*learning_lines(data, rows), *_references(rows, task, **RETURNS)]
            for task, rows in tasks(data.curves).items()
        }
    lines = {}
    for task, rows in tasks(with_interval(data.curves, measure)).items():
        published = _references(rows, task, gap="dot") if measure == "gap" else []
        lines[task] = [*method_lines(data, rows), *published]
    return lines


def _references(curves: pd.DataFrame, task: Task, **columns: Dash) -> Iterator[Line]:
    """Lines of the given dash for each of the columns, of the published curves that match the task."""
    steps, steps_per_policy = curves[BUDGETS[:2]].max()
    for (source, method), published in matching_curves(*task).items():
        policies = published["timesteps"].iloc[0] / published["timesteps_per_policy"].iloc[0]
        rows = until(published, min(steps_per_policy, steps / policies))
        rows = rows.assign(gap=rows["training_return"] - rows["unseen_return"])
        rows = rows.assign(**dict.fromkeys(BUDGETS[2:], float("nan")))  # not published
        name = published_name(source, method)
        for column, dash in columns.items():
            if rows[column].notna().any():
                label = f"{name}, {TOOLTIPS[column]}"
                yield Line(rows.assign(estimate=rows[column]), STYLES[source, method], name, label, dash)


def published_returns(finals: pd.DataFrame) -> pd.DataFrame:
    """
    For each row of a table with ``method``, the columns of a task and ``timesteps_per_policy`` the published returns on
    unseen levels of the same method at the same number of steps per policy: a column for each source, with NaN if
    nothing is published.
    """
    returns = pd.DataFrame(float("nan"), index=finals.index, columns=[PAPER, PROCGEN_AUTHORS])
    for row in finals.itertuples():
        task = tuple(getattr(row, name) for name in TASK)
        for (source, method), curve in matching_curves(*task).items():
            if method == published_method(row.method):
                returns.loc[row.Index, source] = value_at(curve, "unseen_return", row.timesteps_per_policy)
    return returns
