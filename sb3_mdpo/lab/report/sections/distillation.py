"""How far the members are from each other while they learn."""

from sb3_mdpo.lab.report.data import ReportData
from sb3_mdpo.lab.report.html import chart, escape, number, paragraph, table
from sb3_mdpo.lab.report.over_time import course
from sb3_mdpo.lab.statistics.results import TASK, task_name


def html(data: ReportData) -> str | None:
    """
    :param data: what there is to report
    :return: chart of the inter-policy KL per task and table of its last values
    """
    if data.results is None or data.results["kl"].isna().all():
        return None
    last = data.scores[data.scores["kl"].notna()].groupby(["method", *TASK], sort=False)["kl"].mean().reset_index()
    cells = last[["method"]].assign(KL=last["kl"].map(lambda value: number(value, 4)))
    cells.insert(0, "environment", [task_name(*task) for task in last[TASK].itertuples(index=False, name=None)])
    text = (
        "KL(peer || policy) in nats on the policy's own observations of unseen levels, mean over peers and policies, "
        "with a band of one standard deviation over seeds. The table has the mean over the end of training."
    )
    curves = data.curves[data.curves["kl"].notna()]
    charts = [
        f"<h3>{escape(task_name(*task))}</h3>"
        + chart(course(data.looks, rows, "kl", "inter-policy KL"), f"chart-distillation-{place}")
        for place, (task, rows) in enumerate(curves.groupby(TASK, sort=False))
    ]
    return paragraph(text) + table(cells) + "".join(charts)
