"""What stands below each figure: how many runs and episodes are behind it, and what its bands and bars are."""

from collections.abc import Iterable

import pandas as pd

from sb3_mdpo.lab.report.data import ReportData
from sb3_mdpo.lab.statistics.results import RUN, TASK

BOOTSTRAP = "by rliable's stratified bootstrap with {reps:,} repetitions, widened for few seeds"
WILSON = "Wilson's for as many trials as a method has runs"


def over_seeds(data: ReportData) -> str:
    """Caption of means over seeds."""
    if data.results is None:
        return ""
    band = "No bands: they need two seeds."
    if data.results.groupby([*TASK, "method"])["seed"].nunique().max() > 1:
        band = "Bands and bars: \u00b1 one standard deviation over seeds."
    return f"{_sample(data.results)} {band}"


def with_intervals(data: ReportData, rows: pd.DataFrame | None, kind: str) -> str:
    """Caption of what has intervals of a kind as ``low`` and ``high``, or none because seeds are too few."""
    if data.results is None:
        return ""
    bands = "No bands or bars: too few seeds for intervals."
    if rows is not None and "low" in rows and rows["low"].notna().any():
        bands = f"Bands and bars: 95 % intervals over seeds, {kind.format(reps=data.reps)}."
    return f"{_sample(data.results)} {bands}"


def _sample(results: pd.DataFrame) -> str:
    seeds = extremes(results.groupby([*TASK, "method"])["seed"].nunique())
    sample = f"n = {seeds} {'seed' if seeds == '1' else 'seeds'} of each method"
    if "episodes" in results and results["episodes"].notna().any():
        last = results["timesteps"] == results.groupby(RUN)["timesteps"].transform("max")
        during, final = (extremes(results[rows]["episodes"].dropna()) for rows in (~last, last))
        more = f" ({final} at the end)" if during and final != during else ""
        sample += f"; {during or final} episodes{more} per policy and set of levels in an evaluation"
    return f"{sample}."


def extremes(values: Iterable[float]) -> str:
    """The smallest and the largest, e.g. 2 to 5, or what they all are."""
    ordered = sorted(set(values))
    return " to ".join(f"{value:,.0f}" for value in dict.fromkeys([*ordered[:1], *ordered[-1:]]))
