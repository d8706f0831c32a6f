"""What sb3-mdpo robustness and sb3-mdpo features found about the runs."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from sb3_mdpo.lab.generalization.results import ENSEMBLE
from sb3_mdpo.lab.report.charts import error_bars, text
from sb3_mdpo.lab.report.data import ReportData
from sb3_mdpo.lab.report.formatting import numbers, plus_minus
from sb3_mdpo.lab.report.method_style import COLORS, MARKERS
from sb3_mdpo.lab.report.runs import RunFiles, read_analysis, read_rows

FEATURES, SALIENCY = "features.json", "saliency.png"
KL_AND_TV = [f"{measure}_{what}" for measure in ("kl", "tv") for what in ("mean", "low", "high", "max")]


def robustness(data: ReportData) -> dict[str, Any] | None:
    """Chart per perturbation and task, their numbers, and the numbers of every policy."""
    texts, columns = ["policy", "perturbation"], ["strength", "n", *KL_AND_TV]
    rows = read_rows(data.runs, "robustness.json", "rows", texts, columns)
    if rows.empty:
        return None
    members = rows[rows["policy"] != ENSEMBLE]
    groups = members.groupby(["task", "perturbation", "strength", "method"], sort=False, dropna=False)
    means = groups.agg(
        policies=("policy", "size"),
        estimate=("kl_mean", "mean"),
        low=("kl_mean", "min"),
        high=("kl_mean", "max"),
        kl_max=("kl_max", "max"),
        tv_mean=("tv_mean", "mean"),
        tv_max=("tv_max", "max"),
    ).reset_index()
    kinds = dict(list(means.groupby(["perturbation", "task"], sort=False)))
    sorted_means = pd.concat(kinds.values())
    cells = sorted_means[["task", "perturbation", "strength", "method", "policies"]].rename(
        columns={"task": "environment"}
    )
    cells["strength"] = _strengths(sorted_means)
    for title, column in {"KL": "estimate", "max KL": "kl_max", "TV": "tv_mean", "max TV": "tv_max"}.items():
        cells[title] = numbers(sorted_means[column], 3)
    every = rows.assign(n=[f"{count:g}" for count in rows["n"]], strength=_strengths(rows))
    for column in KL_AND_TV:
        every[column] = numbers(rows[column], 4)
    charts = {", ".join(kind): _robustness_chart(data, of_one) for kind, of_one in kinds.items()}
    return {"charts": charts, "cells": cells, "every": every}


def _robustness_chart(data: ReportData, means: pd.DataFrame) -> go.Figure:
    figure = go.Figure()
    for method, style in data.styles.items():
        rows = means[means["method"] == method]
        figure.add_scatter(
            x=_strengths(rows),
            y=rows["estimate"].tolist(),
            error_y=error_bars(rows),
            marker={"color": style.color, "symbol": style.symbol, "size": 8},
            mode="markers",
            name=text(method),
        )
    figure.update_layout(scattermode="group")
    figure.update_xaxes(title="strength" if means["strength"].notna().any() else None, type="category")
    return figure.update_yaxes(title="mean KL", rangemode="tozero")


def _strengths(rows: pd.DataFrame) -> list[str]:
    return ["" if pd.isna(strength) else f"{strength:g}" for strength in rows["strength"]]


def representation(data: ReportData) -> dict[str, Any] | None:
    """Tables over all runs; t-SNE and saliency of one run per method."""
    _check_single(data.runs)
    texts = ["policy", "observation", "perturbation"]
    tsne = read_rows(data.one_per_method(FEATURES), FEATURES, "tsne", texts, ["x", "y"])
    of_policies = {", ".join(names): rows for names, rows in tsne.groupby(["method", "policy"], sort=False)}
    content = {
        "numbers": _numbers(data),
        "cka": _cka(data),
        "tsne": {name: _scatter(rows) for name, rows in of_policies.items()},
        "saliency": [(run, run.file(SALIENCY)) for run in data.one_per_method(SALIENCY)],
    }
    return content if any(part is not None and len(part) for part in content.values()) else None


def _check_single(runs: Sequence[RunFiles]) -> None:
    for run in runs:
        path = run.file(FEATURES)
        analysed = [] if path is None else read_analysis(path)["settings"].get("runs")
        if not isinstance(analysed, list):
            raise ValueError(f"{path} does not say which runs it is about: write it again.")
        if len(analysed) > 1:
            raise ValueError(
                f"{path} is about {', '.join(map(str, analysed))} together: write it anew with sb3-mdpo features "
                f"{run.folder}."
            )


def _numbers(data: ReportData) -> pd.DataFrame | None:
    measures = ["distance_ratio", "effective_rank", "features_dim"]
    rows = read_rows(data.runs, FEATURES, "policies", ["policy"], measures)
    rows = rows[rows["policy"] != ENSEMBLE]
    if rows.empty:
        return None
    groups = rows.groupby(["task", "method"], sort=False)[measures]
    means = pd.concat([groups.mean(), groups.std().add_suffix("_std")], axis=1)
    cells = {
        "policies": groups.size(),
        "distance ratio": plus_minus(means, "distance_ratio", 3),
        "effective rank": plus_minus(means, "effective_rank", 1),
        "of": means["features_dim"].map("{:g}".format),
    }
    return pd.DataFrame(cells).reset_index(names=["environment", "method"])


def _cka(data: ReportData) -> pd.DataFrame | None:
    rows = read_rows(data.runs, FEATURES, "cka", ["a", "b"], ["cka"])
    if rows.empty:
        return None
    means = rows.groupby(["task", "method", "a", "b"], sort=False)["cka"].mean().reset_index()
    names = {"task": "environment", "a": "encoder", "b": "and", "cka": "CKA"}
    return means.assign(cka=numbers(means["cka"], 3)).rename(columns=names)


def _scatter(rows: pd.DataFrame) -> go.Figure:
    figure = go.Figure()
    for place, (observation, points) in enumerate(rows.groupby("observation", sort=False)):
        figure.add_scatter(
            x=points["x"].tolist(),
            y=points["y"].tolist(),
            text=[text(name) for name in points["perturbation"]],
            mode="markers",
            marker={"color": COLORS[place % len(COLORS)], "symbol": MARKERS[place % len(MARKERS)][0], "size": 6},
            name=text(f"observation {observation}"),
            hovertemplate="%{text}<extra>%{fullData.name}</extra>",
        )
    figure.update_layout(showlegend=False)
    return figure.update_xaxes(showticklabels=False, zeroline=False).update_yaxes(showticklabels=False, zeroline=False)
