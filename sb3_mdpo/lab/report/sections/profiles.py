"""Which part of all runs gets how far."""

import plotly.graph_objects as go

from sb3_mdpo.lab.report.data import ReportData
from sb3_mdpo.lab.report.html import chart, escape, paragraph


def html(data: ReportData) -> str | None:
    """
    :param data: what there is to report
    :return: chart of the performance profiles
    """
    profiles = data.comparison.profiles
    if profiles is None:
        return None
    figure = go.Figure()
    for method in data.methods:
        rows, look, name = profiles[profiles["method"] == method], data.looks[method], escape(method)
        thresholds = rows["threshold"].tolist()
        figure.add_scatter(
            x=thresholds + thresholds[::-1],
            y=rows["low"].tolist() + rows["high"].tolist()[::-1],
            fill="toself",
            fillcolor=look.faint,
            line={"width": 0},
            mode="lines",
            hoverinfo="skip",
            legendgroup=name,
            showlegend=False,
            name=name,
        )
        figure.add_scatter(
            x=thresholds,
            y=rows["fraction"].tolist(),
            mode="lines",
            line={"color": look.color, "width": 2},
            legendgroup=name,
            name=name,
        )
    figure.update_xaxes(title=f"{data.comparison.label} on unseen levels")
    figure.update_yaxes(title="fraction of runs above it", range=[-0.02, 1.02])
    text = "The higher the curve, the more runs (over all tasks and seeds) have a score above the value below it."
    return paragraph(text) + chart(figure, "chart-profiles", 440)
