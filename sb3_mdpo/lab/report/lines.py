"""The lines and bands of the charts over training, for the page (plotly) and for the figures (matplotlib)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from sb3_mdpo.lab.report.data import ReportData
from sb3_mdpo.lab.report.first_half import PPO, TWICE
from sb3_mdpo.lab.report.method_style import Style
from sb3_mdpo.lab.statistics.results import TASK

Task = tuple[str, int, int]
Dash = Literal["solid", "dash", "dot", "dashdot"]
MARKED = 40  # longer lines are drawn without markers


@dataclass(frozen=True)
class Line:
    """
    Rows with ``estimate`` and, for a band, ``low`` and ``high``; ``method`` is the name in the legend, ``label`` that
    in the tooltip. Only a solid line has a band and an entry in the legend. A line with a ``mark`` is a point with that
    text.
    """

    rows: pd.DataFrame
    style: Style
    method: str
    label: str
    dash: Dash = "solid"
    mark: str = ""

    @property
    def solid(self) -> bool:
        return self.dash == "solid"

    @property
    def in_legend(self) -> bool:
        """Once per method, and per published curve."""
        return self.dash in ("solid", "dot") and not self.mark

    @property
    def marked(self) -> bool:
        return self.in_legend and len(self.rows) <= MARKED

    @property
    def band(self) -> pd.DataFrame:
        """The rows with an interval."""
        return self.rows[self.rows["low"].notna()] if self.solid and not self.mark else self.rows[:0]


def tasks(curves: pd.DataFrame) -> dict[Task, pd.DataFrame]:
    """The rows by task."""
    return dict(list(curves.groupby(TASK, sort=False)))


def with_interval(table: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Rows that have the measure, with ``estimate``, ``low`` and ``high``: one standard deviation around the mean."""
    rows = table[table[measure].notna()]
    mean, deviation = rows[measure], rows[f"{measure}_std"]
    return rows.assign(estimate=mean, low=mean - deviation, high=mean + deviation)


def method_lines(data: ReportData, table: pd.DataFrame) -> list[Line]:
    """A line for each method of a table with ``method``, ``estimate``, ``low`` and ``high``."""
    every = [(method, table[table["method"] == method]) for method in data.methods]
    return [Line(rows, data.styles[method], method, method) for method, rows in every if not rows.empty]


def learning_lines(data: ReportData, curves: pd.DataFrame) -> Iterator[Line]:
    """For each method of a task its returns on unseen levels and on training levels, and where ppo would have ended."""
    for unseen in method_lines(data, with_interval(curves, "unseen_return")):
        rows, style, method = unseen.rows, unseen.style, unseen.method
        yield Line(rows, style, method, f"{method}, unseen")
        yield Line(rows.assign(estimate=rows["training_return"]), style, method, f"{method}, training", "dash")
        half = data.half.merge(rows[TASK].drop_duplicates()) if method == TWICE else data.half[:0]
        if len(half):
            end = rows[rows["timesteps"] == half["timesteps"].max()]
            yield Line(end, style, method, f"{PPO}, unseen", mark=PPO)
