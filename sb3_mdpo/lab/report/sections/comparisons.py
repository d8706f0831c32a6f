"""Methods compared over all tasks and seeds."""

from typing import Any

import pandas as pd

from sb3_mdpo.lab.report.charts import interval_plot, line_chart, text
from sb3_mdpo.lab.report.data import ReportData
from sb3_mdpo.lab.report.formatting import intervals, numbers
from sb3_mdpo.lab.report.lines import method_lines


def aggregates(data: ReportData) -> dict[str, Any] | None:
    """:return: tables and chart of aggregates, and the interquartile mean over training"""
    comparison = data.comparison
    table, ensembles, efficiency = comparison.aggregates, comparison.ensembles, comparison.efficiency
    if table is None and comparison.note is None:
        return None
    chart = curve = None
    if table is not None and "low" in table:
        chart = interval_plot(dict(list(table.groupby("metric", sort=False))), data.styles)
    if efficiency is not None:
        curve = line_chart(method_lines(data, efficiency), f"IQM of the {comparison.label}")
    return {
        "note": comparison.note,
        "label": comparison.label,
        "reps": data.reps,
        "cells": None if table is None else _cells(table),
        "chart": chart,
        "ensembles": None if ensembles is None else _cells(ensembles),
        "efficiency": curve,
    }


def _cells(aggregates: pd.DataFrame) -> pd.DataFrame:
    cells = numbers(aggregates["estimate"])
    if "low" in aggregates:
        cells = [f"{estimate} ({ends})" for estimate, ends in zip(cells, intervals(aggregates), strict=True)]
    methods, metrics = aggregates["method"].unique(), aggregates["metric"].unique()
    return (
        aggregates.assign(cell=cells)
        .pivot(index="method", columns="metric", values="cell")
        .loc[methods, metrics]
        .reset_index()
    )


def improvement(data: ReportData) -> dict[str, Any] | None:
    """:return: table and chart of the probabilities of improvement"""
    table = data.comparison.improvement
    if table is None:
        return None
    method = table["method"].iloc[0]
    cells = {
        "method": table["method"],
        "against": table["other"],
        "probability": numbers(table["probability"]),
        "interval": intervals(table),
    }
    rows = table.assign(method=table["other"], estimate=table["probability"])
    figure = interval_plot({"": rows}, data.styles)
    figure.add_vline(0.5, line={"dash": "dot", "color": "#666666"})
    figure.update_xaxes(range=[-0.02, 1.02], title=text(f"probability that {method} is better"))
    return {"method": method, "cells": pd.DataFrame(cells), "chart": figure}


def profiles(data: ReportData) -> dict[str, Any] | None:
    """:return: chart of the performance profiles"""
    table = data.comparison.profiles
    if table is None:
        return None
    rows = table.assign(estimate=table["fraction"])
    axes = {"threshold": f"{data.comparison.label} on unseen levels"}
    figure = line_chart(method_lines(data, rows), "fraction of runs above it", axes)
    return {"chart": figure.update_yaxes(range=[-0.02, 1.02])}
