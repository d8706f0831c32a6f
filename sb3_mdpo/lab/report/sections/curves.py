"""Learning curves on training and on unseen levels."""

import pandas as pd
import plotly.graph_objects as go

from sb3_mdpo.lab.report.data import ReportData
from sb3_mdpo.lab.report.html import chart, escape, paragraph
from sb3_mdpo.lab.report.over_time import band, line, switch_axis
from sb3_mdpo.lab.statistics.results import TASK, task_name
from sb3_mdpo.lab.statistics.tables import paper_return

READING = (
    "Mean return of the members, averaged over seeds. Solid: unseen levels, with a band of one standard deviation over "
    "seeds. Dashed: training levels. A legend entry hides and shows its method; the menu changes the horizontal axis."
)
PAPER = " Dotted: what the paper reports at the end of its training, read off its figure."


def html(data: ReportData) -> str | None:
    """
    :param data: what there is to report
    :return: a chart per task, or for a run without evaluations one of what the zoo logged
    """
    if data.results is None:
        return None if data.training is None else _logged(data.training)
    charts, any_paper = [], False
    for number, (task, rows) in enumerate(data.curves.groupby(TASK, sort=False)):
        figure, has_paper = _chart(data, rows, task)
        any_paper |= has_paper
        charts.append(f"<h3>{escape(task_name(*task))}</h3>" + chart(figure, f"chart-curves-{number}", 480))
    return paragraph(READING + (PAPER if any_paper else "")) + "".join(charts)


def _chart(data: ReportData, curves: pd.DataFrame, task: tuple[str, int, int]) -> tuple[go.Figure, bool]:
    figure, has_paper = go.Figure(), False
    for method in data.methods:
        rows = curves[curves["method"] == method]
        if rows.empty:
            continue
        look, name = data.looks[method], escape(method)
        band(figure, rows, "unseen_return", look, name)
        line(figure, rows, "unseen_return", look, name, f"{name}, unseen")
        line(figure, rows, "training_return", look, name, f"{name}, training", dash="dash")
        reported = paper_return(*task, method)
        if reported is not None:
            has_paper = True
            ends = rows.iloc[[0, -1]].assign(paper=reported)
            line(figure, ends, "paper", look, name, f"{name}, the paper's, read off its figure", dash="dot")
    figure.update_yaxes(title="return")
    switch_axis(figure)
    return figure, has_paper


def _logged(training: pd.DataFrame) -> str:
    figure = go.Figure()
    for name, rows in training.groupby("series", sort=False):
        x, y = rows["timesteps"].tolist(), rows["mean_return"].tolist()
        figure.add_scatter(x=x, y=y, name=escape(name), mode="lines")
    figure.update_xaxes(title="environment steps")
    figure.update_yaxes(title="return")
    text = "What the zoo logged. There is no generalization.csv with returns on training and unseen levels."
    return paragraph(text, "note") + chart(figure, "chart-curves-0")
