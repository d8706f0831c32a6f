"""Traces over the course of training, and a menu that says what its course is counted in."""

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from sb3_mdpo.lab.report.html import escape
from sb3_mdpo.lab.report.method_style import Look
from sb3_mdpo.lab.statistics.results import BUDGETS

AXES = dict(
    zip(BUDGETS, ("environment steps in total", "steps per policy", "images trained on", "seconds"), strict=True)
)
MARKED = 40  # longer lines would be nothing but marks


def line(
    figure: go.Figure, rows: pd.DataFrame, y: str, look: Look, group: str, label: str, dash: str = "solid"
) -> None:
    """
    :param figure: figure to draw in
    :param rows: table with the budgets and ``y``, in the order of training
    :param y: column to draw
    :param look: how
    :param group: escaped name of its entry in the legend, which the group's first solid line has
    :param label: escaped text of the pointer
    :param dash: plotly's name of the kind of line
    """
    figure.add_scatter(
        x=rows[BUDGETS[0]].tolist(),
        y=rows[y].tolist(),
        name=group if dash == "solid" else label,
        mode="lines+markers" if dash == "solid" and len(rows) <= MARKED else "lines",
        line={"color": look.color, "dash": dash, "width": 2 if dash == "solid" else 1.5},
        marker={"symbol": look.symbol, "size": 6},
        legendgroup=group,
        showlegend=dash == "solid",
        meta={axis: rows[axis].tolist() for axis in BUDGETS},
        hovertemplate=f"{label}: %{{y:.3f}} at %{{x:,}}<extra></extra>",
    )


def band(
    figure: go.Figure, rows: pd.DataFrame, y: str, look: Look, group: str, ends: tuple[str, str] | None = None
) -> None:
    """
    :param figure: figure to draw in
    :param rows: as for :func:`line`
    :param y: column around which the band is, as wide as ``y`` + ``"_std"`` says
    :param look: how
    :param group: escaped name of its entry in the legend
    :param ends: columns of its ends, where they are not those
    """
    low, high = (rows[end] for end in ends) if ends else _deviations(rows, y)
    known = rows[low.notna()]
    if known.empty:
        return
    around = {axis: [*known[axis], *known[axis][::-1]] for axis in BUDGETS}
    figure.add_scatter(
        x=around[BUDGETS[0]],
        y=[*low.dropna(), *high.dropna()[::-1]],
        fill="toself",
        fillcolor=look.faint,
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        legendgroup=group,
        showlegend=False,
        name=group,
        meta=around,
    )


def _deviations(rows: pd.DataFrame, y: str) -> tuple[pd.Series, pd.Series]:
    return rows[y] - rows[f"{y}_std"], rows[y] + rows[f"{y}_std"]


def switch_axis(figure: go.Figure) -> None:
    """
    Add the menu for the horizontal axis.

    :param figure: figure of such lines and bands
    """
    choices = {axis: [trace.meta[axis] for trace in figure.data] for axis in BUDGETS}
    buttons = [
        {"label": label, "method": "update", "args": [{"x": choices[axis]}, {"xaxis.title.text": label}]}
        for axis, label in AXES.items()
    ]
    figure.update_traces(meta=None)
    menu = {"buttons": buttons, "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom", "pad": {"t": 0, "b": 4}}
    figure.update_layout(updatemenus=[menu])
    figure.update_xaxes(title=AXES[BUDGETS[0]], rangemode="tozero")


def course(looks: Mapping[str, Look], curves: pd.DataFrame, measure: str, title: str) -> go.Figure:
    """
    :param looks: methods and how they look
    :param curves: table of :func:`~sb3_mdpo.lab.statistics.curves.learning_curves`, of a single task
    :param measure: what to draw, with a band of one standard deviation over seeds
    :param title: what it is
    :return: figure with a line per method that has it
    """
    figure = go.Figure()
    for method, look in looks.items():
        rows = curves[(curves["method"] == method) & curves[measure].notna()]
        if not rows.empty:
            band(figure, rows, measure, look, escape(method))
            line(figure, rows, measure, look, escape(method), escape(method))
    figure.update_yaxes(title=title)
    switch_axis(figure)
    return figure
