"""The main charts as PNG and PDF, for papers, from what the page shows."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rliable import plot_utils

from sb3_mdpo.lab.report.data import ReportData
from sb3_mdpo.lab.statistics.results import TASK, task_name
from sb3_mdpo.lab.statistics.tables import paper_return
from sb3_mdpo.utils.atomic import replacing

COLUMNS = 3
Task = tuple[str, int, int]


def write_figures(data: ReportData, folder: Path) -> list[Path]:
    """
    :param data: what there is to report
    :param folder: where to
    :return: the files: of each chart that has something to show a PNG and a PDF
    :raises ValueError: where there are no evaluations to draw
    """
    if data.results is None:
        raise ValueError(f"{data.folder} has no evaluations to draw figures from: leave out --figures.")
    written = []
    with _without_screen():
        for name, draw in FIGURES.items():
            figure = draw(data)
            if figure is None:
                continue
            for kind in ("png", "pdf"):
                path = folder / f"{name}.{kind}"
                with replacing(path) as file:
                    figure.savefig(file, format=kind, dpi=200, bbox_inches="tight")
                written.append(path)
            plt.close(figure)
    return written


@contextmanager
def _without_screen() -> Iterator[None]:
    """rliable makes its figures with pyplot, which would ask for a screen where there is one."""
    backend = plt.get_backend()
    plt.switch_backend("agg")
    try:
        with plt.rc_context({"text.parse_math": False, "pdf.fonttype": 42}):  # a name with a dollar is a name
            yield
    finally:
        plt.switch_backend(backend)


def _panels(data: ReportData, draw: Callable[[ReportData, Axes, pd.DataFrame, Task], None]) -> Figure:
    tasks = list(data.curves.groupby(TASK, sort=False))
    columns = min(COLUMNS, len(tasks))
    rows = -(-len(tasks) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4.2 * columns, 3.2 * rows), squeeze=False, layout="constrained")
    for axis, (task, of_task) in zip(axes.flat, tasks, strict=False):
        draw(data, axis, of_task, task)
        axis.set_title(task_name(*task), fontsize="medium")
        axis.set_xlabel("environment steps in total")
        axis.grid(alpha=0.3)
    for axis in axes.flat[len(tasks) :]:
        axis.set_axis_off()
    legend = {
        label: handle for axis in axes.flat for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(legend.values(), legend.keys(), loc="outside lower center", ncols=4, fontsize="small")
    return figure


def _line(data: ReportData, axis: Axes, rows: pd.DataFrame, method: str, measure: str) -> None:
    color = data.looks[method].color
    axis.plot(rows["timesteps"], rows[measure], color=color, label=method)
    low, high = (rows[measure] + sign * rows[f"{measure}_std"] for sign in (-1, 1))
    axis.fill_between(rows["timesteps"], low, high, color=color, alpha=0.15, linewidth=0)


def _learning_panel(data: ReportData, axis: Axes, curves: pd.DataFrame, task: Task) -> None:
    has_paper = False
    for method in data.methods:
        rows = curves[curves["method"] == method]
        if rows.empty:
            continue
        _line(data, axis, rows, method, "unseen_return")
        axis.plot(rows["timesteps"], rows["training_return"], color=data.looks[method].color, linestyle="--")
        reported = paper_return(*task, method)
        if reported is not None:
            has_paper = True
            axis.axhline(reported, color=data.looks[method].color, linestyle=":")
    axis.plot([], [], color="gray", linestyle="--", label="on training levels")
    if has_paper:
        axis.plot([], [], color="gray", linestyle=":", label="the paper's, read off its figure")
    axis.set_ylabel("return")


def _measure_panel(measure: str, label: str) -> Callable[[ReportData, Axes, pd.DataFrame, Task], None]:
    def draw(data: ReportData, axis: Axes, curves: pd.DataFrame, _task: Task) -> None:
        for method in data.methods:
            rows = curves[(curves["method"] == method) & curves[measure].notna()]
            if not rows.empty:
                _line(data, axis, rows, method, measure)
        axis.set_ylabel(label)

    return draw


def _learning(data: ReportData) -> Figure | None:
    return _panels(data, _learning_panel)


def _gap(data: ReportData) -> Figure | None:
    return _panels(data, _measure_panel("gap", "generalisation gap (return)"))


def _distillation(data: ReportData) -> Figure | None:
    if data.results is None or data.results["kl"].isna().all():
        return None
    return _panels(data, _measure_panel("kl", "inter-policy KL (nats)"))


def _colors(data: ReportData) -> dict[str, str]:
    return {method: look.color for method, look in data.looks.items()}


def _aggregates(data: ReportData) -> Figure | None:
    table = data.comparison.aggregates
    if table is None or "low" not in table:
        return None
    rows = {method: table[table["method"] == method] for method in reversed(data.methods)}
    figure: Figure = plot_utils.plot_interval_estimates(
        {method: of_one["estimate"].to_numpy() for method, of_one in rows.items()},
        {method: of_one[["low", "high"]].to_numpy().T for method, of_one in rows.items()},
        list(table["metric"].unique()),
        colors=_colors(data),
        xlabel=data.comparison.label,
        xlabel_y_coordinate=-1.5 / len(rows),
    )[0]
    return figure


def _improvement(data: ReportData) -> Figure | None:
    table = data.comparison.improvement
    if table is None:
        return None
    figure, axis = plt.subplots(figsize=(5, 0.6 * len(table) + 1))
    for row in table.itertuples():
        look, ends = data.looks[row.other], [[row.probability - row.low], [row.high - row.probability]]
        axis.errorbar(row.probability, row.other, xerr=ends, color=look.color, marker=look.marker, capsize=4)
    axis.axvline(0.5, color="gray", linestyle=":")
    axis.set_xlim(-0.02, 1.02)
    axis.set_xlabel(f"probability that {table['method'].iloc[0]} is better")
    axis.invert_yaxis()
    return figure


def _profiles(data: ReportData) -> Figure | None:
    table = data.comparison.profiles
    if table is None:
        return None
    rows = {method: table[table["method"] == method] for method in data.methods}
    axis = plot_utils.plot_performance_profiles(
        {method: of_one["fraction"].to_numpy() for method, of_one in rows.items()},
        next(iter(rows.values()))["threshold"].to_numpy(),
        {method: of_one[["low", "high"]].to_numpy().T for method, of_one in rows.items()},
        colors=_colors(data),
        figsize=(6, 4),
        xlabel=data.comparison.label,
        ylabel="fraction of runs above it",
        legend=True,
        legendsize="medium",
    )
    figure: Figure = axis.figure
    return figure


def _efficiency(data: ReportData) -> Figure | None:
    table = data.comparison.efficiency
    if table is None:
        return None
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    for method in data.methods:
        rows, look = table[table["method"] == method], data.looks[method]
        axis.plot(rows["timesteps"], rows["estimate"], color=look.color, marker=look.marker, markersize=3, label=method)
        axis.fill_between(rows["timesteps"], rows["low"], rows["high"], color=look.color, alpha=0.15, linewidth=0)
    axis.set(xlabel="environment steps in total", ylabel=f"IQM of the {data.comparison.label}")
    axis.grid(alpha=0.3)
    axis.legend()
    return figure


FIGURES: dict[str, Callable[[ReportData], Figure | None]] = {
    "learning_curves": _learning,
    "aggregates": _aggregates,
    "probability_of_improvement": _improvement,
    "performance_profiles": _profiles,
    "sample_efficiency": _efficiency,
    "gap": _gap,
    "inter_policy_kl": _distillation,
}
