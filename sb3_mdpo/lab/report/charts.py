"""Charts of the page, drawn by plotly. Plotly renders some HTML in its texts, so names are escaped."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import plotly.io as pio
from markupsafe import Markup, escape
from plotly.subplots import make_subplots

from sb3_mdpo.lab.report.lines import Line
from sb3_mdpo.lab.report.method_style import Style
from sb3_mdpo.lab.statistics.results import BUDGETS

AXES = dict(
    zip(BUDGETS, ("environment steps in total", "steps per policy", "images trained on", "seconds"), strict=True)
)


def text(value: object) -> str:
    """A name from a file, escaped for a text of a figure."""
    return str(escape(value))


def line_chart(lines: Iterable[Line], title: str, axes: Mapping[str, str] = AXES) -> go.Figure:
    """A chart with a menu to choose one of the horizontal axes (column -> title) if there are several."""
    figure, first = go.Figure(), next(iter(axes))
    values: dict[str, list[list[float]]] = {axis: [] for axis in axes}
    for line in lines:
        method, label, band = text(line.method), text(line.label), line.band
        if not band.empty:
            for axis in axes:
                values[axis].append([*band[axis], *band[axis][::-1]])
            figure.add_scatter(
                x=values[first][-1],
                y=[*band["low"], *band["high"][::-1]],
                fill="toself",
                fillcolor=line.style.faint,
                line={"width": 0},
                mode="lines",
                hoverinfo="skip",
                legendgroup=method,
                showlegend=False,
                name=method,
            )
        for axis in axes:
            values[axis].append(line.rows[axis].tolist())
        figure.add_scatter(
            x=values[first][-1],
            y=line.rows["estimate"].tolist(),
            name=method if line.in_legend else label,
            mode="markers+text" if line.mark else "lines+markers" if line.marked else "lines",
            line={"color": line.style.color, "dash": line.dash, "width": 2 if line.solid else 1.5},
            marker={"symbol": "circle-open" if line.mark else line.style.symbol, "size": 14 if line.mark else 6},
            text=line.mark or None,
            textposition="top center",
            legendgroup=method,
            showlegend=line.in_legend,
            hovertemplate=f"{label}: %{{y:.3f}} at %{{x:,}}<extra></extra>",
        )
    figure.update_xaxes(title=axes[first])
    figure.update_yaxes(title=title)
    if len(axes) > 1:
        buttons = [
            {"label": label, "method": "update", "args": [{"x": values[axis]}, {"xaxis.title.text": label}]}
            for axis, label in axes.items()
        ]
        menu = {"buttons": buttons, "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom", "pad": {"t": 0, "b": 4}}
        figure.update_layout(updatemenus=[menu])
        figure.update_xaxes(rangemode="tozero")
    return figure


def error_bars(rows: pd.DataFrame, **more: Any) -> dict[str, Any]:
    """Plotly's ``error_x`` or ``error_y`` from ``estimate``, ``low`` and ``high``."""
    ends = {"array": rows["high"] - rows["estimate"], "arrayminus": rows["estimate"] - rows["low"]}
    return {side: lengths.tolist() for side, lengths in ends.items()} | {"symmetric": False} | more


def interval_plot(groups: Mapping[str, pd.DataFrame], styles: Mapping[str, Style]) -> go.Figure:
    """
    Draw groups (title -> rows with ``method``, ``estimate``, ``low`` and ``high``) one below the other: side by side
    they would not fit a phone.
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
                ends = "" if np.isnan(row.low) else f" ({row.low:.3f} to {row.high:.3f})"
                figure.add_scatter(
                    x=[row.estimate],
                    y=[name],
                    error_x=error_bars(rows.loc[[row.Index]], color=style.color, thickness=2),
                    marker={"color": style.color, "symbol": style.symbol, "size": 10},
                    mode="markers",
                    name=name,
                    showlegend=False,
                    hovertemplate=f"{name}: %{{x:.3f}}{ends}<extra></extra>",
                    row=place,
                    col=1,
                )
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_annotations(font_size=14)
    return figure.update_layout(height=height)


def chart(figure: go.Figure, anchor: str, caption: str, height: int | None = None) -> Markup:
    """A figure whose texts are escaped as an element of the page, as wide as the page, and its caption."""
    height = height or figure.layout.height or 420
    figure.update_layout(
        template="none",
        height=height,
        autosize=True,
        margin={"l": 10, "r": 10, "t": 30, "b": 10},
        font={"family": "system-ui, sans-serif", "size": 13},
        hoverlabel={"namelength": -1},
        legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom"},
    )
    for update in (figure.update_xaxes, figure.update_yaxes):
        update(automargin=True, gridcolor="#e8e8e8", zerolinecolor="#cccccc", fixedrange=True)
    options = {"responsive": True, "displaylogo": False, "displayModeBar": False}
    html = pio.to_html(figure, full_html=False, include_plotlyjs=False, div_id=anchor, config=options)
    element = '<figure class="chart"><div style="height:{}px">{}</div><figcaption>{}</figcaption></figure>'
    return Markup(element).format(height, Markup(html), caption)
