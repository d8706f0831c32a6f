"""Estimates with their intervals, one method below the other."""

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from sb3_mdpo.lab.report.charts import error_bars, text
from sb3_mdpo.lab.report.method_style import Style


def interval_plot(groups: Mapping[str, pd.DataFrame], styles: Mapping[str, Style]) -> go.Figure:
    """
    Draw the groups one below the other: side by side they would not fit a phone.

    :param groups: title -> columns ``method``, ``estimate``, ``low`` and ``high``
    :param styles: the style of each method
    :return: the figure, with its height in pixels
    """
    lines = [len(rows) for rows in groups.values()]
    height = 40 + sum(70 + 26 * count for count in lines)
    figure = make_subplots(
        rows=len(groups),
        subplot_titles=[text(title) for title in groups],
        row_heights=lines,
        vertical_spacing=50 / height if len(groups) > 1 else 0,
    )
    for place, rows in enumerate(groups.values(), start=1):
        for method, style in styles.items():
            for row in rows[rows["method"] == method].itertuples():
                name = text(method)
                figure.add_scatter(
                    x=[row.estimate],
                    y=[name],
                    error_x=error_bars(rows.loc[[row.Index]], color=style.color, thickness=2),
                    marker={"color": style.color, "symbol": style.symbol, "size": 10},
                    mode="markers",
                    name=name,
                    showlegend=False,
                    hovertemplate=f"{name}: %{{x:.3f}} ({row.low:.3f} to {row.high:.3f})<extra></extra>",
                    row=place,
                    col=1,
                )
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_annotations(font_size=14)
    return figure.update_layout(height=height)
