"""Returns, gaps and distances between policies, task by task, and methods compared over all tasks and seeds."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from sb3_mdpo.lab.report.captions import BOOTSTRAP, WILSON, over_seeds, with_intervals
from sb3_mdpo.lab.report.charts import interval_plot, line_chart, text
from sb3_mdpo.lab.report.data import ReportData
from sb3_mdpo.lab.report.formatting import interval_cells, numbers, plus_minus, task_names
from sb3_mdpo.lab.report.lines import method_lines, tasks, with_interval
from sb3_mdpo.lab.report.references import STYLES, published_method, published_name, published_returns, task_lines
from sb3_mdpo.lab.statistics.differences import method_differences
from sb3_mdpo.lab.statistics.results import TASK, task_name
from sb3_mdpo.lab.statistics.scores import MEMBERS, RETURNS, task_table

MEASURED = {
    "unseen return": "unseen_return",
    "unseen score": "unseen_normalized",
    "training return": "training_return",
    "training score": "training_normalized",
    "unseen success": "unseen_success",
    "training success": "training_success",
}


def curves(data: ReportData) -> dict[str, Any] | None:
    """Learning curves of each task, or of a run without evaluations what the zoo logged."""
    if data.results is None:
        caption = "One run, n = 1 seed, as logged: no bands."
        return None if data.training is None else {"logged": _logged(data.training), "caption": caption}
    lines = task_lines(data, "return")
    return {
        "charts": {task_name(*task): line_chart(of_task, "return") for task, of_task in lines.items()},
        "published": any(line.dash == "dot" for of_task in lines.values() for line in of_task),
        "half": len(data.half) > 0,
        "caption": over_seeds(data),
    }


def _logged(training: pd.DataFrame) -> go.Figure:
    figure = go.Figure()
    for name, rows in training.groupby("series", sort=False):
        x, y = rows["timesteps"].tolist(), rows["mean_return"].tolist()
        figure.add_scatter(x=x, y=y, name=text(name), mode="lines")
    return figure.update_xaxes(title="environment steps").update_yaxes(title="return")


def _measure_charts(data: ReportData, measure: str, title: str) -> dict[str, go.Figure]:
    every = task_lines(data, measure)
    return {task_name(*task): line_chart(lines, title) for task, lines in every.items()}


def gap(data: ReportData) -> dict[str, Any] | None:
    """Table of the gaps at the end, and a chart of their course per task."""
    if data.results is None:
        return None
    rows = task_table(data.scores)
    cells = _of_tasks(rows, "method", "policies").assign(gap=interval_cells(rows, "gap", "gap_"))
    return {"cells": cells, "charts": _measure_charts(data, "gap", "gap"), "caption": over_seeds(data)}


def distillation(data: ReportData) -> dict[str, Any] | None:
    """Table of the inter-policy KL at the end, and a chart of its course per task."""
    if data.results is None or data.results["kl"].isna().all():
        return None
    rows = task_table(data.scores[data.scores["kl"].notna()])
    cells = _of_tasks(rows, "method").assign(KL=plus_minus(rows, "kl", 4))
    return {"cells": cells, "charts": _measure_charts(data, "kl", "inter-policy KL"), "caption": over_seeds(data)}


def games(data: ReportData) -> dict[str, Any] | None:
    """Mean and standard deviation over seeds of each task, and the published returns at the same number of steps."""
    if data.results is None:
        return None
    rows = task_table(data.scores)
    evaluations = pd.concat([data.results, data.half])
    steps = evaluations.groupby([*TASK, "method"])["timesteps_per_policy"].max().reset_index()
    rows = rows.merge(steps, how="left", on=[*TASK, "method"])
    published = published_returns(rows).where(rows["policies"] == MEMBERS)
    cells = _of_tasks(rows, "method", "policies").assign(seeds=rows["n_seeds"])
    for title, column in MEASURED.items():
        cells[title] = plus_minus(rows, column)
    for source in published:
        cells[f"{source}, unseen return"] = numbers(published[source])
    return {
        "cells": cells.loc[:, (cells != "").any()],
        "spread": pd.concat([_spread(rows, levels) for levels in ("unseen", "training")]),
        "differences": _differences(data) if len(data.methods) > 1 else None,
        "published": bool(published.notna().any(axis=None)),
        "chart": _returns(data, rows.join(published)),
        "caption": over_seeds(data),
    }


def _spread(rows: pd.DataFrame, levels: str) -> pd.DataFrame:
    """The mean return of each row with its interval, and what makes returns differ."""
    measure = f"{levels}_return"
    cells = _of_tasks(rows, "method", "policies").assign(levels=levels)
    cells["return"] = interval_cells(rows, measure, f"{measure}_")
    cells["between runs"] = numbers(rows[f"{measure}_std"])
    cells["between members"] = numbers(rows[f"{measure}_members_std"])
    cells["error over episodes"] = numbers(rows[f"{levels}_stderr"])
    return cells


def _differences(data: ReportData) -> pd.DataFrame:
    """The first method minus each of the others."""
    table = method_differences(data.scores, data.methods[0])
    table["cell"] = interval_cells(table, "difference")
    same = table["n_seeds"] == table["n_other"]
    table["seeds"] = table["n_seeds"].astype(str) + ("/" + table["n_other"].astype(str)).mask(same, "")
    keys = [*TASK, "policies", "method", "other", "seeds"]
    order = table[keys].drop_duplicates()
    cells = order.merge(table.pivot(index=keys, columns="measure", values="cell").reset_index(), on=keys)
    titles = {"other": "minus", **{measure: measure.replace("_", " ") for measure in RETURNS}}
    return _of_tasks(cells, "method", "other", "policies", "seeds", *RETURNS).rename(columns=titles)


def _of_tasks(rows: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """These columns, after the name of each row's task."""
    cells = rows[list(columns)]
    cells.insert(0, "environment", task_names(rows))
    return cells


def _returns(data: ReportData, rows: pd.DataFrame) -> go.Figure:
    members = rows[(rows["policies"] == MEMBERS) & rows["method"].isin(data.methods)]
    members = with_interval(members.fillna({"unseen_return_std": 0}), "unseen_return")
    every = tasks(members)
    figure = interval_plot({task_name(*task): of_task for task, of_task in every.items()}, data.styles)
    in_legend: set[str] = set()
    for place, of_task in enumerate(every.values(), start=1):
        for (source, method), style in STYLES.items():
            marked = of_task[(of_task["method"].map(published_method) == method) & of_task[source].notna()]
            if marked.empty:
                continue
            name = text(published_name(source, method))
            figure.add_scatter(
                x=marked[source].tolist(),
                y=[text(own) for own in marked["method"]],
                mode="markers",
                marker={"color": style.color, "symbol": f"{style.symbol}-open", "size": 12},
                name=name,
                hovertemplate=f"{name}: %{{x}}<extra></extra>",
                legendgroup=name,
                showlegend=name not in in_legend,
                row=place,
                col=1,
            )
            in_legend.add(name)
    return figure.update_layout(height=figure.layout.height + 30 * len(in_legend))


def aggregates(data: ReportData) -> dict[str, Any] | None:
    """Tables and chart of aggregates, and the interquartile mean over training."""
    comparison = data.comparison
    table, ensembles, efficiency = comparison.aggregates, comparison.ensembles, comparison.efficiency
    if table is None and comparison.note is None:
        return None
    chart = curve = None
    if table is not None and "low" in table:
        chart = interval_plot(dict(list(table.groupby("metric", sort=False))), data.styles)
    if efficiency is not None:
        curve = line_chart(method_lines(data, efficiency), f"IQM of the {comparison.label}")
    return {
        "note": comparison.note,
        "label": comparison.label,
        "caption": with_intervals(data, table if efficiency is None else efficiency, BOOTSTRAP),
        "cells": None if table is None else _cells(table),
        "chart": chart,
        "ensembles": None if ensembles is None else _cells(ensembles),
        "efficiency": curve,
    }


def _cells(aggregates: pd.DataFrame) -> pd.DataFrame:
    methods, metrics = aggregates["method"].unique(), aggregates["metric"].unique()
    return (
        aggregates.assign(cell=interval_cells(aggregates))
        .pivot(index="method", columns="metric", values="cell")
        .loc[methods, metrics]
        .reset_index()
    )


def improvement(data: ReportData) -> dict[str, Any] | None:
    """Table and chart of the probabilities of improvement."""
    table = data.comparison.improvement
    if table is None:
        return None
    method = table["method"].iloc[0]
    cells = {
        "method": table["method"],
        "against": table["other"],
        "probability": interval_cells(table, "probability"),
    }
    rows = table.assign(method=table["other"], estimate=table["probability"])
    figure = interval_plot({"": rows}, data.styles)
    figure.add_vline(0.5, line={"dash": "dot", "color": "#666666"})
    figure.update_xaxes(range=[-0.02, 1.02], title=text(f"probability that {method} is better"))
    caption = with_intervals(data, table, WILSON)
    return {"method": method, "cells": pd.DataFrame(cells), "chart": figure, "caption": caption}


def profiles(data: ReportData) -> dict[str, Any] | None:
    """Chart of the performance profiles."""
    table = data.comparison.profiles
    if table is None:
        return None
    rows = table.assign(estimate=table["fraction"])
    axes = {"threshold": f"{data.comparison.label} on unseen levels"}
    figure = line_chart(method_lines(data, rows), "fraction of runs above it", axes)
    return {"chart": figure.update_yaxes(range=[-0.02, 1.02]), "caption": with_intervals(data, table, BOOTSTRAP)}
