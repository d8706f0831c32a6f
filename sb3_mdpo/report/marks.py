"""Estimates with their intervals, one above the other."""

import plotly.graph_objects as go

from sb3_mdpo.report.looks import Look


def add_estimate(
    figure: go.Figure, name: str, look: Look, estimate: float, low: float, high: float, **place: int
) -> None:
    """
    :param figure: figure to draw in
    :param name: escaped name of the row
    :param look: how
    :param estimate: where the mark is
    :param low: lower end of the interval
    :param high: upper end
    :param place: ``row`` and ``col`` of subplots
    """
    figure.add_scatter(
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
        **place,
    )
