"""The main charts of the page as PNG and PDF files, for papers."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rliable import plot_utils

from sb3_mdpo.lab.report.data import ReportData
from sb3_mdpo.lab.report.lines import Line, Task, method_lines
from sb3_mdpo.lab.report.references import task_lines
from sb3_mdpo.lab.statistics.results import task_name
from sb3_mdpo.utils.atomic import replacing

COLUMNS = 3
STEPS = "environment steps in total"
DASHES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}


def write_figures(data: ReportData, folder: Path) -> list[Path]:
    """Write a PNG and a PDF of each chart that has something to show, and return their paths."""
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
    """Both rliable and this module use pyplot, which would open windows."""
    backend = plt.get_backend()
    plt.switch_backend("agg")
    try:
        with plt.rc_context({"text.parse_math": False, "pdf.fonttype": 42}):  # dollars in names are no formulas
            yield
    finally:
        plt.switch_backend(backend)


def _draw(axis: Axes, lines: Iterable[Line], ylabel: str, x: str = "timesteps", xlabel: str = STEPS) -> None:
    dashes = set()
    for line in lines:
        if line.mark:
            point = (line.rows[x].iloc[0], line.rows["estimate"].iloc[0])
            axis.plot(*point, "o", color=line.style.color, markerfacecolor="none", markersize=9)
            axis.annotate(line.mark, point, (0, 8), textcoords="offset points", ha="center", fontsize="small")
            continue
        color, dash, marker = line.style.color, DASHES[line.dash], line.style.marker if line.marked else None
        label = line.method if line.in_legend else None
        axis.plot(line.rows[x], line.rows["estimate"], dash, color=color, marker=marker, markersize=3, label=label)
        if not (band := line.band).empty:
            axis.fill_between(band[x], band["low"], band["high"], color=color, alpha=0.15, linewidth=0)
        dashes.add(line.dash)
    for dash, label in (("dash", "on training levels"), ("dashdot", "published, on training levels")):
        if dash in dashes:
            axis.plot([], [], DASHES[dash], color="gray", label=label)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.grid(alpha=0.3)


def _panels(lines: dict[Task, list[Line]], ylabel: str) -> Figure:
    columns = min(COLUMNS, len(lines))
    rows = -(-len(lines) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4.2 * columns, 3.2 * rows), squeeze=False, layout="constrained")
    for axis, (task, of_task) in zip(axes.flat, lines.items(), strict=False):
        _draw(axis, of_task, ylabel)
        axis.set_title(task_name(*task), fontsize="medium")
    for axis in axes.flat[len(lines) :]:
        axis.set_axis_off()
    legend = {
        label: handle for axis in axes.flat for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(legend.values(), legend.keys(), loc="outside lower center", ncols=4, fontsize="small")
    return figure


def _measure(measure: str, label: str) -> Callable[[ReportData], Figure | None]:
    def draw(data: ReportData) -> Figure | None:
        lines = task_lines(data, measure)
        return _panels(lines, label) if lines else None

    return draw


def _single(lines: list[Line], **labels: str) -> Figure:
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    _draw(axis, lines, **labels)
    axis.legend()
    return figure


def _efficiency(data: ReportData) -> Figure | None:
    table = data.comparison.efficiency
    return None if table is None else _single(method_lines(data, table), ylabel=f"IQM of the {data.comparison.label}")


def _profiles(data: ReportData) -> Figure | None:
    table = data.comparison.profiles
    if table is None:
        return None
    lines = method_lines(data, table.assign(estimate=table["fraction"]))
    return _single(lines, ylabel="fraction of runs above it", x="threshold", xlabel=data.comparison.label)


def _aggregates(data: ReportData) -> Figure | None:
    table = data.comparison.aggregates
    if table is None or "low" not in table:
        return None
    rows = {method: table[table["method"] == method] for method in reversed(data.methods)}
    figure: Figure = plot_utils.plot_interval_estimates(
        {method: of_one["estimate"].to_numpy() for method, of_one in rows.items()},
        {method: of_one[["low", "high"]].to_numpy().T for method, of_one in rows.items()},
        list(table["metric"].unique()),
        colors={method: style.color for method, style in data.styles.items()},
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
        ends = [[np.maximum(row.probability - row.low, 0)], [np.maximum(row.high - row.probability, 0)]]
        style = data.styles[row.other]
        axis.errorbar(row.probability, row.other, xerr=ends, color=style.color, marker=style.marker, capsize=4)
    axis.axvline(0.5, color="gray", linestyle=":")
    axis.set_xlim(-0.02, 1.02)
    axis.set_xlabel(f"probability that {table['method'].iloc[0]} is better")
    axis.invert_yaxis()
    return figure


FIGURES: dict[str, Callable[[ReportData], Figure | None]] = {
    "learning_curves": _measure("return", "return"),
    "aggregates": _aggregates,
    "probability_of_improvement": _improvement,
    "performance_profiles": _profiles,
    "sample_efficiency": _efficiency,
    "gap": _measure("gap", "generalisation gap (return)"),
    "inter_policy_kl": _measure("kl", "inter-policy KL (nats)"),
}
