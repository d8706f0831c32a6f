"""What sb3-mdpo robustness found about the runs."""

import math
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from sb3_mdpo.lab.generalization.results import ENSEMBLE
from sb3_mdpo.lab.report.charts import error_bars, text
from sb3_mdpo.lab.report.data import ReportData
from sb3_mdpo.lab.report.formatting import Number, interval_cells, numbers, task_names
from sb3_mdpo.lab.report.measured import (
    LEAST_PAIRS,
    Pool,
    caption,
    difference_cells,
    mean_intervals,
    over_runs,
    pool,
    spearman,
)
from sb3_mdpo.lab.report.runs import joined, read_measurements
from sb3_mdpo.lab.statistics.scores import MEMBERS

ROBUSTNESS = "robustness.json"
KL_AND_TV = [f"{measure}_{what}" for measure in ("kl", "tv") for what in ("mean", "low", "high", "max")]
RETURN = ["return_mean", "return_low", "return_high"]
NONE, ANOTHER_STATE, ALL = "none", "another state", "all"
DIFFERENCES = {"tv_mean": "TV", "relative": "TV / another state"}
KIND = ["task", "perturbation", "strength"]


def robustness(data: ReportData) -> dict[str, Any] | None:
    """Charts and table of all perturbations, differences between methods, and the relation to the gap."""
    pooled = pool(data, read_measurements(data.runs, ROBUSTNESS), "sb3-mdpo robustness")
    rows = _robustness_rows(pooled)
    if rows.empty:
        return {"notes": pooled.notes} if pooled.notes else None
    members = rows[rows["policy"] != ENSEMBLE]
    measures = ["tv_mean", "relative", "entropy", "return_mean"]
    of_runs = over_runs(members, [*KIND, "method"], measures)
    means = mean_intervals(of_runs, [*KIND, "method"], "tv_mean")
    kinds = dict(list(means.groupby(["perturbation", "task"], sort=False)))
    every = rows[~rows["perturbation"].isin((NONE, ANOTHER_STATE))]
    every = every.assign(n=[f"{count:g}" for count in every["n"]], strength=_strengths(every))
    for column in (*KL_AND_TV, "entropy", *RETURN):
        every[column] = numbers(every[column], 4)
    return {
        "notes": pooled.notes,
        "about": _about(pooled),
        "caption": caption(of_runs),
        "charts": {", ".join(kind): _robustness_chart(data, of_one) for kind, of_one in kinds.items()},
        "cells": _robustness_cells(members, of_runs),
        "differences": difference_cells(
            over_runs(of_runs, ["task", "perturbation", "method"], list(DIFFERENCES)),
            ["task", "perturbation"],
            DIFFERENCES,
            data.methods[0],
        ),
        **_gaps(data, of_runs),
        "every": every.drop(columns=["relative", "tv_states", "run"]),
    }


def _robustness_rows(pooled: Pool) -> pd.DataFrame:
    """
    All rows, with ``tv_states``, the total variation between states, and ``relative``, that of the row divided by it;
    for each policy also a row without perturbation and one for another state.
    """
    texts, columns = ["policy", "perturbation"], ["strength", "n", *KL_AND_TV]
    rows = joined(pooled.runs, "rows", texts, [*columns, "entropy", *RETURN])
    policies = joined(pooled.runs, "unperturbed", ["policy"], ["entropy", "tv_states", *RETURN])
    rows = rows.merge(policies[["run", "policy", "tv_states"]], how="left", on=["run", "policy"])
    rows = rows.assign(relative=rows["tv_mean"] / rows["tv_states"])
    none = policies.drop(columns="tv_states").assign(perturbation=NONE)
    states = policies[["method", "task", "seed", "run", "policy"]]
    states = states.assign(perturbation=ANOTHER_STATE, tv_mean=policies["tv_states"])
    old = joined(pooled.unknown, "rows", texts, columns)
    parts = [part for part in (none, states, rows, old) if not part.empty]
    return pd.concat(parts, ignore_index=True).reindex(columns=rows.columns) if parts else rows


def _about(pooled: Pool) -> str:
    """How the runs were measured."""
    settings = pooled.settings
    if not settings:
        return "Settings: unknown."
    states = "the same for all runs" if settings.get("players") else "of each policy's own play"
    parts = [f"{settings.get('states')} states of unseen levels ({states})"]
    parts.append(f"{settings.get('draws')} random convolutions, the same for all runs")
    if settings.get("episodes"):
        parts.append(f"{settings['episodes']} episodes for each return")
    return f"Each policy: {'; '.join(parts)}."


def _robustness_cells(members: pd.DataFrame, of_runs: pd.DataFrame) -> pd.DataFrame:
    keys = [*KIND, "method"]
    cells = of_runs.groupby(keys, sort=False, dropna=False).agg(
        runs=("seed", "size"), relative=("relative", "mean"), entropy=("entropy", "mean")
    )
    largest = members.groupby(keys, sort=False, dropna=False)["tv_max"].max()
    cells = cells.join(largest).reset_index()
    for title, measure, digits in (("TV", "tv_mean", 3), ("return", "return_mean", 2)):
        estimates = mean_intervals(of_runs, keys, measure)
        estimates[title] = interval_cells(estimates, digits=digits)
        cells = cells.merge(estimates[[*keys, title]], how="left", on=keys)
    for title, measure in (("TV / another state", "relative"), ("max TV", "tv_max"), ("entropy", "entropy")):
        cells[title] = numbers(cells[measure], 3)
    cells = cells[[*keys, "runs", "TV", "TV / another state", "max TV", "entropy", "return"]]
    cells["strength"] = _strengths(cells)
    cells = cells.fillna(dict.fromkeys(("TV", "return"), ""))
    return cells.loc[:, (cells != "").any()].rename(columns={"task": "environment"})


def _robustness_chart(data: ReportData, means: pd.DataFrame) -> go.Figure:
    figure = go.Figure()
    for method, style in data.styles.items():
        rows = means[means["method"] == method]
        figure.add_scatter(
            x=_strengths(rows),
            y=rows["estimate"].tolist(),
            error_y=error_bars(rows.fillna({"low": rows["estimate"], "high": rows["estimate"]})),
            marker={"color": style.color, "symbol": style.symbol, "size": 8},
            mode="markers",
            name=text(method),
        )
    figure.update_layout(scattermode="group")
    figure.update_xaxes(title="strength" if means["strength"].notna().any() else None, type="category")
    return figure.update_yaxes(title="total variation", rangemode="tozero")


def _strengths(rows: pd.DataFrame) -> list[str]:
    return ["" if pd.isna(strength) else f"{strength:g}" for strength in rows["strength"]]


def _gaps(data: ReportData, of_runs: pd.DataFrame) -> dict[str, Any]:
    """
    For each task a chart of the runs' total variation, mean over perturbations, and their gap; a table of the rank
    correlations with each perturbation, all strengths together.
    """
    if data.results is None:
        return {}
    gaps = data.scores.assign(task=task_names(data.scores))[data.scores["policies"] == MEMBERS]
    runs = over_runs(of_runs, ["task", "perturbation", "method"], ["tv_mean"]).dropna(subset="tv_mean")
    runs = runs[runs["perturbation"] != ANOTHER_STATE]
    every = over_runs(runs, ["task", "method"], ["tv_mean"]).assign(perturbation=ALL)
    runs = pd.concat([every, runs], ignore_index=True)
    runs = runs.merge(gaps[["task", "method", "seed", "gap"]], how="left")
    charts, cells = {}, []
    for (task, perturbation), rows in runs.dropna(subset="gap").groupby(["task", "perturbation"], sort=False):
        if len(rows) < LEAST_PAIRS:
            continue
        rho, low, high = spearman(rows["tv_mean"], rows["gap"])
        correlation = "" if math.isnan(rho) else Number(rho, low=low, high=high)
        cells.append((task, perturbation, len(rows), correlation))
        if perturbation == ALL:
            charts[f"{task}: \u03c1 {correlation or 'unknown'}, {len(rows)} runs"] = _gap_chart(data, rows)
    titles = ["environment", "perturbation", "runs", "rank correlation"]
    return {"gap_charts": charts, "correlations": pd.DataFrame(cells, columns=titles)} if cells else {}


def _gap_chart(data: ReportData, rows: pd.DataFrame) -> go.Figure:
    figure = go.Figure()
    for method, style in data.styles.items():
        own = rows[rows["method"] == method]
        figure.add_scatter(
            x=own["tv_mean"].tolist(),
            y=own["gap"].tolist(),
            text=[f"seed {seed}" for seed in own["seed"]],
            mode="markers",
            marker={"color": style.color, "symbol": style.symbol, "size": 8},
            name=text(method),
            hovertemplate="%{text}: %{x:.3f}, gap %{y:.2f}<extra>%{fullData.name}</extra>",
        )
    return figure.update_xaxes(title="total variation", rangemode="tozero").update_yaxes(title="gap")
