"""Numbers as the cells of tables show them."""

import math
from collections.abc import Iterable

import pandas as pd

from sb3_mdpo.lab.statistics.results import TASK, task_name


def number(value: float, digits: int = 2) -> str:
    """The number, or nothing for NaN."""
    return "" if math.isnan(value) else f"{round(value, digits) + 0.0:,.{digits}f}"  # -0.0 + 0.0 is 0.0


def numbers(values: Iterable[float], digits: int = 2) -> list[str]:
    """:func:`number` of each."""
    return [number(value, digits) for value in values]


def plus_minus(rows: pd.DataFrame, measure: str, digits: int = 2) -> list[str]:
    """Mean and, where there is one, standard deviation of each row."""
    return [
        number(mean, digits) + ("" if math.isnan(deviation) else f" \u00b1 {deviation:.{digits}f}")
        for mean, deviation in zip(rows[measure], rows[f"{measure}_std"], strict=True)
    ]


def intervals(rows: pd.DataFrame, measure: str = "") -> list[str]:
    """The interval in ``low`` and ``high`` of each row, or those of a measure, or nothing for NaN."""
    ends = zip(*(rows[f"{measure}_{end}" if measure else end] for end in ("low", "high")), strict=True)
    return ["" if math.isnan(low) else f"{number(low)} to {number(high)}" for low, high in ends]


def task_names(rows: pd.DataFrame) -> list[str]:
    """The name of each row's task."""
    return [task_name(*task) for task in rows[TASK].itertuples(index=False, name=None)]
