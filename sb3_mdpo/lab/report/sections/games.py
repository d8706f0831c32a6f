"""Task by task: mean and standard deviation over seeds, beside what the paper reports."""

import pandas as pd
import plotly.graph_objects as go

from sb3_mdpo.lab.report.data import ReportData
from sb3_mdpo.lab.report.html import chart, escape, number, paragraph, plus_minus, table
from sb3_mdpo.lab.report.interval_plot import estimates
from sb3_mdpo.lab.statistics.results import TASK, task_name
from sb3_mdpo.lab.statistics.scores import MEMBERS
from sb3_mdpo.lab.statistics.tables import paper_return, task_table

PAPER = "the paper's (read off its figure)"


def html(data: ReportData) -> str | None:
    """
    :param data: what there is to report
    :return: table and chart per task
    """
    if data.results is None:
        return None
    rows = task_table(data.scores)
    rows["paper"] = [paper_return(*row) for row in rows[[*TASK, "method"]].itertuples(index=False, name=None)]
    rows["paper"] = rows["paper"].astype(float).where(rows["policies"] == MEMBERS)
    text = "End of training, mean \u00b1 standard deviation over seeds."
    if rows["paper"].notna().any():
        text += (
            " The paper's returns are read off its published figure (approximate; 3 seeds, 5e7 steps per policy): "
            "reference marks (stars), not measurements of ours."
        )
    figure, height = _chart(data, rows)
    return (
        paragraph(text)
        + table(_cells(rows))
        + paragraph("Return on unseen levels:")
        + chart(figure, "chart-games", height)
    )


def _cells(rows: pd.DataFrame) -> pd.DataFrame:
    cells = pd.DataFrame(
        {
            "environment": [task_name(*task) for task in rows[TASK].itertuples(index=False, name=None)],
            "method": rows["method"],
            "policies": rows["policies"],
            "seeds": rows["n_seeds"],
            "unseen return": _column(rows, "unseen_return"),
            "unseen score": _column(rows, "unseen_normalized"),
            "training return": _column(rows, "training_return"),
            "training score": _column(rows, "training_normalized"),
            "unseen success": _column(rows, "unseen_success"),
            "training success": _column(rows, "training_success"),
            PAPER: rows["paper"].map(number),
        }
    )
    return cells.loc[:, (cells != "").any()]


def _column(rows: pd.DataFrame, measure: str) -> list[str]:
    return [plus_minus(*pair) for pair in rows[[measure, f"{measure}_std"]].itertuples(index=False, name=None)]


def _chart(data: ReportData, rows: pd.DataFrame) -> tuple[go.Figure, int]:
    members = rows[rows["policies"] == MEMBERS]
    deviation = members["unseen_return_std"].fillna(0)
    members = members.assign(
        estimate=members["unseen_return"],
        low=members["unseen_return"] - deviation,
        high=members["unseen_return"] + deviation,
    )
    tasks = {task_name(*task): of_task for task, of_task in members.groupby(TASK, sort=False)}
    figure, height = estimates(tasks, data.looks)
    for place, of_task in enumerate(tasks.values(), start=1):
        for row in of_task[of_task["paper"].notna()].itertuples():
            star = {"color": data.looks[row.method].color, "symbol": "star-open", "size": 12}
            name = escape(f"{row.method}, {PAPER}")
            text = f"{name}: %{{x}}<extra></extra>"
            figure.add_scatter(
                x=[row.paper],
                y=[escape(row.method)],
                marker=star,
                name=name,
                hovertemplate=text,
                showlegend=False,
                row=place,
                col=1,
            )
    return figure, height
