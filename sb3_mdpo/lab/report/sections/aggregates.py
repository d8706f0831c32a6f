"""Aggregates over all tasks and seeds, at the end and over the course of training."""

import pandas as pd
import plotly.graph_objects as go

from sb3_mdpo.lab.report.data import ReportData
from sb3_mdpo.lab.report.html import between, chart, escape, number, paragraph, table
from sb3_mdpo.lab.report.interval_plot import estimates
from sb3_mdpo.lab.report.over_time import band, line, switch_axis

READING = (
    "Scores of the end of training (mean over the last 5 % of it, mean over the members) on unseen levels, over all "
    "environments and seeds. IQM is the mean of the middle half of all runs; the optimality gap is how far runs stay "
    "below a score of 1."
)
INTERVALS = "Intervals: 95 %, stratified bootstrap over seeds with {reps:,} repetitions (rliable)."


def html(data: ReportData) -> str | None:
    """
    :param data: what there is to report
    :return: table and chart of aggregates, and the interquartile mean over time
    """
    comparison = data.comparison
    parts = [] if comparison.note is None else [paragraph(f"No intervals: {comparison.note}", "note")]
    if comparison.aggregates is not None:
        parts += [
            paragraph(READING),
            paragraph(f"Scores are {comparison.label}s."),
            table(_cells(comparison.aggregates)),
        ]
        if "low" in comparison.aggregates:
            parts.append(paragraph(INTERVALS.format(reps=data.reps)))
            metrics = dict(list(comparison.aggregates.groupby("metric", sort=False)))
            figure, height = estimates(metrics, data.looks)
            parts.append(chart(figure, "chart-aggregates", height))
    if comparison.ensembles is not None:
        parts += [
            paragraph("The same of ensembles, which act by the average of their members' distributions:"),
            table(_cells(comparison.ensembles)),
        ]
    if comparison.efficiency is not None:
        parts += [
            "<h3>IQM over the course of training</h3>",
            chart(_efficiency(data, comparison.efficiency), "chart-efficiency", 460),
        ]
    return "".join(parts) or None


def _cells(aggregates: pd.DataFrame) -> pd.DataFrame:
    def cell(row: pd.Series) -> str:
        interval = f" ({between(row['low'], row['high'])})" if "low" in row else ""
        return number(row["estimate"]) + interval

    cells = aggregates.assign(cell=aggregates.apply(cell, axis=1))
    methods, metrics = cells["method"].unique(), cells["metric"].unique()
    return (
        cells.pivot(index="method", columns="metric", values="cell")
        .loc[methods, metrics]
        .reset_index()
        .rename_axis(columns=None)
    )


def _efficiency(data: ReportData, efficiency: pd.DataFrame) -> go.Figure:
    figure = go.Figure()
    for method in data.methods:
        rows, name = efficiency[efficiency["method"] == method], escape(method)
        band(figure, rows, "estimate", data.looks[method], name, ("low", "high"))
        line(figure, rows, "estimate", data.looks[method], name, name)
    figure.update_yaxes(title=f"IQM of the {data.comparison.label}")
    switch_axis(figure)
    return figure
