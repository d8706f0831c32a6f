"""What sb3-mdpo features found about the runs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from sb3_mdpo.lab.report.charts import interval_plot, text
from sb3_mdpo.lab.report.data import ReportData
from sb3_mdpo.lab.report.formatting import interval_cells, numbers
from sb3_mdpo.lab.report.measured import (
    caption,
    describe,
    difference_cells,
    end_of_training,
    mean_intervals,
    over_runs,
    pool,
)
from sb3_mdpo.lab.report.method_style import COLORS, MARKERS
from sb3_mdpo.lab.report.runs import Measurement, read_measurement, read_measurements

FEATURES, SALIENCY = "features.json", "saliency.png"
MEASURES = {"distance_ratio": "distance ratio", "effective_rank": "effective rank"}
METHOD = ["task", "method"]
RUN = [*METHOD, "seed", "run"]


@dataclass(frozen=True)
class Analysis:
    """One file, and whose its policies are."""

    file: Path
    policies: pd.DataFrame  #: columns of RUN, ``policy`` and the measures
    cka: pd.DataFrame  #: columns of RUN, ``other``, the other policy's run, and ``cka``
    tsne: pd.DataFrame  #: columns of RUN, ``policy``, ``observation``, ``perturbation``, ``x`` and ``y``
    about: str


def representation(data: ReportData) -> dict[str, Any] | None:
    """Tables and chart over all runs; t-SNE and saliency of one run per method."""
    notes: list[str] = []
    together = [_together(data, path, notes) for path in sorted((data.folder / "features").glob(f"*/{FEATURES}"))]
    covered = {task for one in together for task in one.policies["task"]}
    others = replace(data, runs=tuple(run for run in data.runs if run.task not in covered))
    single = read_measurements(others.runs, FEATURES)
    _check_single(single)
    pooled = pool(others, single, "sb3-mdpo features")
    analyses = [*together, *map(_of_one_run, pooled.runs + pooled.unknown)]
    notes += pooled.notes
    if all(one.policies.empty for one in analyses):
        return {"notes": notes} if notes else None
    policies, cka = (pd.concat(parts) for parts in zip(*((one.policies, one.cka) for one in analyses), strict=True))
    of_runs = over_runs(policies, METHOD, [*MEASURES, "features_dim"])
    of_members = over_runs(cka[cka["run"] == cka["other"]], METHOD, ["cka"])
    of_runs = of_runs.merge(of_members, how="left", on=[*METHOD, "seed"])
    return {
        "notes": notes,
        "caption": caption(of_runs),
        "about": list(dict.fromkeys(one.about for one in analyses)),
        "numbers": _numbers(of_runs),
        "chart": _chart(data, of_runs),
        "cka": _cka(of_runs, cka),
        "differences": difference_cells(of_runs, ["task"], MEASURES | {"cka": "CKA of members"}, data.methods[0]),
        "tsne": _tsne(data, pd.concat([one.tsne for one in analyses])),
        "saliency": _saliency(analyses),
    }


def _together(data: ReportData, path: Path, notes: list[str]) -> Analysis:
    """An analysis of several runs on the same observations, without what is not of the end of training."""
    measurement = read_measurement(path)
    settings = measurement.settings
    models = settings.get("models")
    if not isinstance(models, list) or not all(isinstance(one, dict) for one in models):
        raise ValueError(f"{path} does not say which models it is about: write it again.")
    runs, missing = {}, []
    for run in data.runs:
        steps = [one.get("timesteps") for one in models if run.name in Path(str(one.get("model"))).parts]
        end = end_of_training(data, run.name)
        if not steps:
            missing += [describe(run)] if run.env_id == settings.get("env_id") else []
        elif end in (None, steps[0]):
            runs[run.name] = run
        else:
            notes.append(f"Left out: {describe(run)}, its model of step {steps[0]} instead of {end}.")
    if missing:
        notes.append(f"Not analysed: {'; '.join(missing)}. To add them: sb3-mdpo features {data.folder}")
    policies = measurement.table("policies", ["policy", "model"], [*MEASURES, "features_dim"])
    owners = [
        (row.policy, run.task, run.method, run.seed, run.name)
        for row in policies.itertuples()
        for name, run in runs.items()
        if name in Path(row.model).parts
    ]
    owned = pd.DataFrame(owners, columns=["policy", *RUN]).drop_duplicates("policy").astype({"seed": int})
    others = owned[["policy", "run"]].set_axis(["b", "other"], axis="columns")
    cka = measurement.table("cka", ["a", "b"], ["cka"])
    tsne = measurement.table("tsne", ["policy", "observation", "perturbation"], ["x", "y"])
    about = f"All runs on the same {settings.get('n_observations')} observations of unseen levels ({path.parent.name})."
    cka = cka.merge(owned, left_on="a", right_on="policy").merge(others, on="b")
    return Analysis(path, policies.merge(owned, on="policy"), cka, tsne.merge(owned, on="policy"), about)


def _of_one_run(own: Measurement) -> Analysis:
    policies = own.table("policies", ["policy"], [*MEASURES, "features_dim"])
    cka = own.table("cka", ["a", "b"], ["cka"])
    tsne = own.table("tsne", ["policy", "observation", "perturbation"], ["x", "y"])
    count = own.settings.get("n_observations", own.settings.get("observations", "an unknown number of"))
    about = f"Each run on {count} observations of its own play on unseen levels."
    return Analysis(own.path, policies, cka.assign(other=cka["run"]), tsne, about)


def _check_single(measurements: Sequence[Measurement]) -> None:
    for own in measurements:
        analysed = own.settings.get("models", own.settings.get("runs"))
        if not isinstance(analysed, list):
            raise ValueError(f"{own.path} does not say which runs it is about: write it again.")
        if len(analysed) > 1:
            names = [str(one.get("model") if isinstance(one, dict) else one) for one in analysed]
            raise ValueError(
                f"{own.path} is about {', '.join(names)} together: write it anew with sb3-mdpo features "
                f"{own.path.parent}."
            )


def _numbers(of_runs: pd.DataFrame) -> pd.DataFrame:
    cells = of_runs.groupby(METHOD, sort=False)["features_dim"].agg(["size", "mean"]).reset_index()
    cells = cells.rename(columns={"size": "runs", "mean": "of"})
    cells["of"] = cells["of"].map("{:g}".format)
    for measure, title in MEASURES.items():
        estimates = mean_intervals(of_runs, METHOD, measure)
        estimates[title] = interval_cells(estimates, digits=3 if measure == "distance_ratio" else 1)
        cells = cells.merge(estimates[[*METHOD, title]], how="left", on=METHOD)
    return cells.fillna("")[[*METHOD, "runs", *MEASURES.values(), "of"]].rename(columns={"task": "environment"})


def _chart(data: ReportData, of_runs: pd.DataFrame) -> go.Figure:
    groups: dict[str, pd.DataFrame] = {}
    for measure, title in MEASURES.items():
        rows = mean_intervals(of_runs, METHOD, measure)
        groups |= {f"{title}, {task}": own for task, own in rows.groupby("task", sort=False)}
    return interval_plot(groups, data.styles)


def _cka(of_runs: pd.DataFrame, cka: pd.DataFrame) -> pd.DataFrame | None:
    """Between the members of a run, with intervals over runs, and between the runs of a method."""
    members = mean_intervals(of_runs, METHOD, "cka")
    members = members.assign(between="members of a run", CKA=interval_cells(members, digits=3))
    methods = cka.drop_duplicates("run").set_index("run")["method"]
    others = cka[(cka["run"] != cka["other"]) & (cka["other"].map(methods) == cka["method"])]
    means = others.groupby(METHOD, sort=False)["cka"].agg(["mean", "size"]).reset_index()
    means = means.assign(between="runs of the method", CKA=numbers(means["mean"], 3), n=means["size"])
    columns = [*METHOD, "between", "n", "CKA"]
    rows = pd.concat([part[columns] for part in (members, means) if not part.empty] or [pd.DataFrame()])
    return None if rows.empty else rows.rename(columns={"task": "environment", "n": "runs or pairs"})


def _tsne(data: ReportData, tsne: pd.DataFrame) -> dict[str, go.Figure]:
    """Of the first run of each method."""
    charts: dict[str, go.Figure] = {}
    for method in data.methods:
        rows = tsne[tsne["method"] == method]
        rows = rows[rows["run"] == rows["run"].iloc[0]] if len(rows) else rows
        charts |= {f"{method}, {name}": _scatter(own) for name, own in rows.groupby("policy", sort=False)}
    return charts


def _saliency(analyses: Sequence[Analysis]) -> list[tuple[str, Path]]:
    """Title and picture of each analysis of several runs, otherwise of the first run of each method."""
    pictures: dict[str, Path] = {}
    for one in analyses:
        title = ", ".join(one.policies["method"].unique())
        if (path := one.file.with_name(SALIENCY)).is_file():
            pictures.setdefault(title, path)
    return list(pictures.items())


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
