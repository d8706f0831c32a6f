"""Training minus unseen: how much of what was learned does not carry over."""

from sb3_mdpo.lab.report.data import ReportData
from sb3_mdpo.lab.report.html import chart, escape, paragraph, plus_minus, table
from sb3_mdpo.lab.report.over_time import course
from sb3_mdpo.lab.statistics.results import TASK, task_name
from sb3_mdpo.lab.statistics.tables import task_table


def html(data: ReportData) -> str | None:
    """
    :param data: what there is to report
    :return: table of the last gaps, and a chart of their course per task
    """
    if data.results is None:
        return None
    rows = task_table(data.scores)
    tasks = [task_name(*task) for task in rows[TASK].itertuples(index=False, name=None)]
    gaps = rows[["gap", "gap_std"]].itertuples(index=False, name=None)
    cells = rows[["method", "policies"]].assign(gap=[plus_minus(*pair) for pair in gaps])
    cells.insert(0, "environment", tasks)
    text = "Return on training levels minus return on unseen levels, mean \u00b1 standard deviation over seeds."
    charts = [
        f"<h3>{escape(task_name(*task))}</h3>" + chart(course(data.looks, of_task, "gap", "gap"), f"chart-gap-{number}")
        for number, (task, of_task) in enumerate(data.curves.groupby(TASK, sort=False))
    ]
    return paragraph(text) + table(cells) + "".join(charts)
