"""Pieces of a page. Whatever comes from a file is escaped here."""

import base64
import html
import math
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import plotly.io as pio


def escape(text: object) -> str:
    """
    :param text: anything
    :return: it as text of a page or of a chart, where plotly understands some HTML as well
    """
    return html.escape(str(text))


def number(value: float, digits: int = 2) -> str:
    """
    :param value: a number
    :param digits: digits after the point
    :return: it, or nothing for NaN
    """
    return "" if math.isnan(value) else f"{value:,.{digits}f}"


def plus_minus(mean: float, deviation: float, digits: int = 2) -> str:
    """
    :param mean: a mean
    :param deviation: its standard deviation, NaN where there is none
    :param digits: digits after the point
    :return: both
    """
    return number(mean, digits) + ("" if math.isnan(deviation) else f" \u00b1 {deviation:.{digits}f}")


def between(low: float, high: float, digits: int = 2) -> str:
    """
    :param low: lower end of an interval
    :param high: upper end
    :param digits: digits after the point
    :return: the interval
    """
    return f"{low:.{digits}f} to {high:.{digits}f}"


def paragraph(text: str, kind: str = "") -> str:
    """
    :param text: plain text
    :param kind: class of the paragraph: ``note`` for what a reader must not miss, ``hint`` for what is not there
    """
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def table(frame: pd.DataFrame, kind: str = "data") -> str:
    """
    :param frame: rows, with what to show in each cell
    :param kind: class of the table: ``data``, or ``facts`` where cells are sentences
    :return: a table that scrolls by itself where the screen is narrow
    """
    body = frame.to_html(index=False, border=0, escape=True, na_rep="", classes=kind)
    return f'<div class="scroll" tabindex="0">{body}</div>'


def code(text: str) -> str:
    """
    :param text: contents of a file, or a command
    """
    return f"<pre>{escape(text.rstrip())}</pre>"


def folded(title: str, inside: str) -> str:
    """
    :param title: what is always there
    :param inside: HTML that appears when it is opened
    """
    return f"<details><summary>{escape(title)}</summary>{inside}</details>"


def picture(path: Path, description: str) -> str:
    """
    :param path: PNG file
    :param description: what it shows
    :return: the picture itself, in the page
    """
    data = base64.b64encode(path.read_bytes()).decode()
    return (
        f'<div class="scroll" tabindex="0"><img src="data:image/png;base64,{data}" alt="{escape(description)}"></div>'
    )


def chart(figure: go.Figure, anchor: str, height: int = 420) -> str:
    """
    :param figure: figure of plotly; its texts have to be escaped
    :param anchor: id of its element
    :param height: in pixels; the width is the page's
    :return: the chart, for a page that has plotly.js
    """
    figure.update_layout(
        template="none",
        height=height,
        autosize=True,
        margin={"l": 10, "r": 10, "t": 30, "b": 10},
        font={"family": "system-ui, sans-serif", "size": 13},
        hoverlabel={"namelength": -1},
    )
    if figure.layout.legend.orientation is None:
        figure.update_layout(legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom"})
    figure.update_xaxes(automargin=True, gridcolor="#e8e8e8", zerolinecolor="#cccccc", fixedrange=True)
    figure.update_yaxes(automargin=True, gridcolor="#e8e8e8", zerolinecolor="#cccccc", fixedrange=True)
    options = {"responsive": True, "displaylogo": False, "displayModeBar": False}
    inside = pio.to_html(figure, full_html=False, include_plotlyjs=False, div_id=anchor, config=options)
    return f'<div class="chart" style="height:{height}px">{inside}</div>'
