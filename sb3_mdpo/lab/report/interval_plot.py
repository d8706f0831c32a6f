"""Estimates with their intervals, one method above the other."""

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from sb3_mdpo.lab.report.html import escape
from sb3_mdpo.lab.report.method_style import Look


def estimates(groups: Mapping[str, pd.DataFrame], looks: Mapping[str, Look]) -> tuple[go.Figure, int]:
    """
    One group below the other, and not side by side, which a phone has no room for.

    :param groups: title -> columns ``method``, ``estimate``, ``low`` and ``high``, of methods in ``looks``
    :param looks: methods and how they look
    :return: the figure and its height in pixels
    """
    lines = [len(rows) for rows in groups.values()]
    height = 40 + sum(70 + 26 * count for count in lines)
    titles = [escape(title) for title in groups]
    figure = make_subplots(
        len(groups), 1, subplot_titles=titles, row_heights=lines, vertical_spacing=50 / height if len(groups) > 1 else 0
    )
    for place, rows in enumerate(groups.values(), start=1):
        for method, look in looks.items():
            for row in rows[rows["method"] == method].itertuples():
                figure.add_trace(_mark(escape(method), look, row.estimate, row.low, row.high), row=place, col=1)
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_annotations(font_size=14)
    return figure, height


def _mark(name: str, look: Look, estimate: float, low: float, high: float) -> go.Scatter:
    return go.Scatter(
        x=[estimate],
        y=[name],
        error_x={
            "array": [high - estimate],
            "arrayminus": [estimate - low],
            "symmetric": False,
            "color": look.color,
            "thickness": 2,
        },
        marker={"color": look.color, "symbol": look.symbol, "size": 10},
        mode="markers",
        name=name,
        showlegend=False,
        hovertemplate=f"{name}: %{{x:.3f}} ({low:.3f} to {high:.3f})<extra></extra>",
    )
