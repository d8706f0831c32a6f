"""What the encoders make of observations."""

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from sb3_mdpo.lab.generalization.policies import ENSEMBLE
from sb3_mdpo.lab.report.data import ReportData
from sb3_mdpo.lab.report.html import chart, escape, number, paragraph, picture, plus_minus, table
from sb3_mdpo.lab.report.method_style import COLORS, MARKS
from sb3_mdpo.lab.report.runs import RunFiles, read_analysis, read_rows

FILE = "features.json"
NUMBERS = ["distance_ratio", "effective_rank", "features_dim"]
NUMBERS_TEXT = (
    "Distance ratio: mean distance between the features of the same observation under different perturbations, divided "
    "by that between different observations; lower is more robust, unless the effective rank, in how many directions "
    "the features spread, shows that they have collapsed. Means over runs and policies, \u00b1 standard deviation."
)
CKA_TEXT = (
    "Linear CKA between encoders on the same observations: 1 is the same up to rotation and scale. Mean over runs."
)
TSNE_TEXT = (
    "t-SNE of the features of a few observations under perturbations, for one run of each method: colour and mark are "
    "the observation. Distances between clusters mean nothing."
)


def html(data: ReportData) -> str | None:
    """
    :param data: what there is to report
    :return: tables over all runs; t-SNE and saliency of one run per method
    """
    _check_single(data.runs)
    parts = [*_numbers(data), *_cka(data), *_tsne(data), *_saliency(data)]
    return "".join(parts) or None


def _check_single(runs: Sequence[RunFiles]) -> None:
    for run in runs:
        path = run.file(FILE)
        analysed = [] if path is None else read_analysis(path)["settings"].get("runs")
        if not isinstance(analysed, list):
            raise ValueError(f"{path} does not say which runs it is about: write it again.")
        if len(analysed) > 1:
            raise ValueError(
                f"{path} is about {', '.join(map(str, analysed))} together: write it anew with sb3-mdpo features "
                f"{run.folder}."
            )


def _numbers(data: ReportData) -> list[str]:
    rows = read_rows(data.runs, FILE, "policies", ["policy"], NUMBERS)
    rows = rows[rows["policy"] != ENSEMBLE]
    if rows.empty:
        return []
    groups = rows.groupby(["task", "method"], sort=False)
    means, deviations = (groups[NUMBERS].agg(how).reset_index() for how in ("mean", "std"))
    cells = means[["task", "method"]].assign(policies=groups.size().to_list())
    for title, column, digits in (("distance ratio", NUMBERS[0], 3), ("effective rank", NUMBERS[1], 1)):
        pairs = zip(means[column], deviations[column], strict=True)
        cells[title] = [plus_minus(*pair, digits=digits) for pair in pairs]
    cells["of"] = means["features_dim"].map(lambda dim: f"{dim:g}")
    return [paragraph(NUMBERS_TEXT), table(cells.rename(columns={"task": "environment"}))]


def _cka(data: ReportData) -> list[str]:
    rows = read_rows(data.runs, FILE, "cka", ["a", "b"], ["cka"])
    if rows.empty:
        return []
    means = rows.groupby(["task", "method", "a", "b"], sort=False)["cka"].mean().reset_index()
    means["cka"] = means["cka"].map(lambda value: number(value, 3))
    names = {"task": "environment", "a": "encoder", "b": "and", "cka": "CKA"}
    return [paragraph(CKA_TEXT), table(means.rename(columns=names))]


def _tsne(data: ReportData) -> list[str]:
    rows = read_rows(_one_per_method(data, FILE), FILE, "tsne", ["policy", "observation", "perturbation"], ["x", "y"])
    if rows.empty:
        return []
    charts = [
        f"<div><h3>{escape(method)}, {escape(policy)}</h3>{chart(_scatter(of_one), f'chart-tsne-{place}', 320)}</div>"
        for place, ((method, policy), of_one) in enumerate(rows.groupby(["method", "policy"], sort=False))
    ]
    return [paragraph(TSNE_TEXT), f'<div class="tiles">{"".join(charts)}</div>']


def _scatter(rows: pd.DataFrame) -> go.Figure:
    figure = go.Figure()
    for place, (observation, points) in enumerate(rows.groupby("observation", sort=False)):
        figure.add_scatter(
            x=points["x"].tolist(),
            y=points["y"].tolist(),
            text=[escape(text) for text in points["perturbation"]],
            mode="markers",
            marker={"color": COLORS[place % len(COLORS)], "symbol": MARKS[place % len(MARKS)][0], "size": 6},
            name=escape(f"observation {observation}"),
            hovertemplate="%{text}<extra>%{fullData.name}</extra>",
        )
    figure.update_layout(showlegend=False)
    figure.update_xaxes(showticklabels=False, zeroline=False)
    figure.update_yaxes(showticklabels=False, zeroline=False)
    return figure


def _saliency(data: ReportData) -> list[str]:
    pictures = [
        f"<h3>Saliency, {escape(run.method)}</h3>" + picture(path, f"saliency of {run.method} on {run.task}")
        for run in _one_per_method(data, "saliency.png")
        if (path := run.file("saliency.png")) is not None
    ]
    return [paragraph("What in an observation the policies' actions depend on:"), *pictures] if pictures else []


def _one_per_method(data: ReportData, name: str) -> list[RunFiles]:
    """The run of each method's lowest seed that has such a file."""
    first: dict[str, RunFiles] = {}
    for run in sorted(data.runs, key=lambda run: run.seed):
        if run.file(name) is not None:
            first.setdefault(run.method, run)
    return [first[method] for method in data.methods if method in first]
