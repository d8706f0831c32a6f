"""How much perturbed observations change what policies do."""

import pandas as pd
import plotly.graph_objects as go

from sb3_mdpo.lab.generalization.policies import ENSEMBLE
from sb3_mdpo.lab.report.data import ReportData
from sb3_mdpo.lab.report.html import chart, escape, folded, number, paragraph, table
from sb3_mdpo.lab.report.runs import read_rows

NUMBERS = ["kl_mean", "kl_low", "kl_high", "kl_max", "tv_mean", "tv_low", "tv_high", "tv_max"]
TEXT = (
    "KL divergence (nats) and total variation between a policy's action distribution on an observation and on the same "
    "observation perturbed: means over runs, members and observations, and the largest that was seen, which estimates "
    "the theory's robustness from below. Whiskers: lowest to highest mean of a single member."
)


def html(data: ReportData) -> str | None:
    """
    :param data: what there is to report
    :return: chart and table per method and perturbation, with all numbers folded below
    """
    rows = read_rows(data.runs, "robustness.json", "rows", ["policy", "perturbation"], ["strength", "n", *NUMBERS])
    if rows.empty:
        return None
    members = rows[rows["policy"] != ENSEMBLE]
    groups = members.groupby(["task", "perturbation", "strength", "method"], sort=False, dropna=False)
    means = (
        groups[NUMBERS]
        .mean()
        .assign(
            low=groups["kl_mean"].min(),
            high=groups["kl_mean"].max(),
            kl_max=groups["kl_max"].max(),
            tv_max=groups["tv_max"].max(),
            policies=groups.size(),
        )
    )
    means = means.reset_index()
    kinds = dict(list(means.groupby(["perturbation", "task"], sort=False)))
    charts = [
        f"<div><h3>{escape(', '.join(kind))}</h3>{chart(_chart(data, of_one), f'chart-robustness-{place}', 300)}</div>"
        for place, (kind, of_one) in enumerate(kinds.items())
    ]
    return (
        paragraph(TEXT)
        + f'<div class="tiles">{"".join(charts)}</div>'
        + table(_cells(pd.concat(kinds.values())))
        + folded("Every policy, with intervals", table(_every_policy(rows)))
    )


def _chart(data: ReportData, means: pd.DataFrame) -> go.Figure:
    figure = go.Figure()
    for method in data.methods:
        rows, look = means[means["method"] == method], data.looks[method]
        figure.add_scatter(
            x=[_strength(strength) for strength in rows["strength"]],
            y=rows["kl_mean"].tolist(),
            error_y={
                "array": (rows["high"] - rows["kl_mean"]).tolist(),
                "arrayminus": (rows["kl_mean"] - rows["low"]).tolist(),
                "symmetric": False,
            },
            marker={"color": look.color, "symbol": look.symbol, "size": 8},
            mode="markers",
            name=escape(method),
        )
    figure.update_layout(scattermode="group")
    figure.update_xaxes(title="strength" if means["strength"].notna().any() else None, type="category")
    figure.update_yaxes(title="mean KL", rangemode="tozero")
    return figure


def _strength(strength: float) -> str:
    return "" if pd.isna(strength) else f"{strength:g}"


def _cells(means: pd.DataFrame) -> pd.DataFrame:
    cells = means[["task", "perturbation", "strength", "method", "policies"]].rename(columns={"task": "environment"})
    cells["strength"] = means["strength"].map(_strength)
    for title, column in {"KL": "kl_mean", "max KL": "kl_max", "TV": "tv_mean", "max TV": "tv_max"}.items():
        cells[title] = means[column].map(lambda value: number(value, 3))
    return cells


def _every_policy(rows: pd.DataFrame) -> pd.DataFrame:
    cells = rows.copy()
    cells["n"] = rows["n"].map(lambda count: f"{count:g}")
    cells["strength"] = rows["strength"].map(_strength)
    for column in NUMBERS:
        cells[column] = rows[column].map(lambda value: number(value, 4))
    return cells
