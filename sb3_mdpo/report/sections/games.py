"""Task by task: mean and standard deviation over seeds, beside what the paper reports."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from sb3_mdpo.report.data import ReportData
from sb3_mdpo.report.html import chart, escape, number, paragraph, plus_minus, table
from sb3_mdpo.statistics.results import TASK, task_name
from sb3_mdpo.statistics.scores import MEMBERS
from sb3_mdpo.statistics.tables import paper_return, task_table

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
            "reference marks, not measurements of ours."
        )
    return paragraph(text) + table(_cells(rows)) + chart(_chart(data, rows), "chart-games", _height(rows))


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


def _chart(data: ReportData, rows: pd.DataFrame) -> go.Figure:
    figure = go.Figure()
    members = rows[rows["policies"] == MEMBERS]
    for method in data.methods:
        of_method, look = members[members["method"] == method], data.looks[method]
        names = [escape(task_name(*task)) for task in of_method[TASK].itertuples(index=False, name=None)]
        marks: dict[str, Any] = {"mode": "markers", "legendgroup": escape(method)}
        figure.add_scatter(
            x=of_method["unseen_return"].tolist(),
            y=names,
            error_x={"array": of_method["unseen_return_std"].fillna(0).tolist(), "color": look.color},
            marker={"color": look.color, "symbol": look.symbol, "size": 10},
            name=escape(method),
            **marks,
        )
        if of_method["paper"].notna().any():
            figure.add_scatter(
                x=of_method["paper"].tolist(),
                y=names,
                marker={"color": look.color, "symbol": "star-open", "size": 13},
                name=escape(f"{method}, {PAPER}"),
                **marks,
            )
    figure.update_layout(scattermode="group")
    figure.update_xaxes(title="return on unseen levels", rangemode="tozero")
    figure.update_yaxes(autorange="reversed", type="category", ticklabelposition="inside top", ticks="")
    return figure


def _height(rows: pd.DataFrame) -> int:
    return 170 + len(rows[TASK].drop_duplicates()) * (30 + 20 * int(rows["method"].nunique()))
