"""Numbers as the cells of tables show them."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from sb3_mdpo.lab.statistics.results import TASK, task_name

MOST_DIGITS = 4
NAN = float("nan")


@dataclass(frozen=True)
class Number:
    """
    A number and what says how well it is known, NaN if nothing does. It is printed with two significant digits of its
    standard deviation, or of half the width of its interval.
    """

    value: float
    digits: int = 2  #: after the point, if neither is known, or zero
    deviation: float = NAN
    low: float = NAN
    high: float = NAN

    @property
    def parts(self) -> dict[str, float]:
        """Its numbers, and the words that follow a column's title for each of them."""
        every = {"": self.value, " SD": self.deviation, " low": self.low, " high": self.high}
        return {name: value for name, value in every.items() if not math.isnan(value)}

    @property
    def latex(self) -> str:
        return str(self).replace("\u00b1", r"$\pm$").replace("-", "$-$")

    def __str__(self) -> str:
        spread = (self.high - self.low) / 2 if math.isnan(self.deviation) else self.deviation
        digits = self.digits
        if 0 < spread < math.inf:
            exponent = int(f"{spread:.1e}".partition("e")[2])
            digits = min(max(1 - exponent, 0), MOST_DIGITS)
        value, deviation, low, high = (
            f"{round(part, digits) + 0.0:,.{digits}f}"  # -0.0 + 0.0 is 0.0
            for part in (self.value, self.deviation, self.low, self.high)
        )
        if not math.isnan(self.deviation):
            return f"{value} \u00b1 {deviation}"
        return value if math.isnan(self.low) else f"{value} ({low} to {high})"


Cell = Number | str


def numbers(values: Iterable[float], digits: int = 2) -> list[Cell]:
    """A cell for each number, empty for NaN."""
    return ["" if math.isnan(value) else Number(value, digits) for value in values]


def plus_minus(rows: pd.DataFrame, measure: str, digits: int = 2) -> list[Cell]:
    """Mean and, where there is one, standard deviation of each row."""
    pairs = zip(rows[measure], rows[f"{measure}_std"], strict=True)
    return ["" if math.isnan(mean) else Number(mean, digits, deviation) for mean, deviation in pairs]


def interval_cells(rows: pd.DataFrame, measure: str = "estimate", ends: str = "", digits: int = 2) -> list[Cell]:
    """Each row's number, with the interval between ``<ends>low`` and ``<ends>high`` where there is one."""
    columns = rows.reindex(columns=[measure, f"{ends}low", f"{ends}high"])
    every = columns.astype(float).itertuples(index=False, name=None)
    return ["" if math.isnan(value) else Number(value, digits, low=low, high=high) for value, low, high in every]


def task_names(rows: pd.DataFrame) -> list[str]:
    """The name of each row's task."""
    return [task_name(*task) for task in rows[TASK].itertuples(index=False, name=None)]
