"""How probably a run of one method beats one of another."""

from sb3_mdpo.lab.report.data import ReportData
from sb3_mdpo.lab.report.html import between, chart, escape, number, paragraph, table
from sb3_mdpo.lab.report.interval_plot import estimates


def html(data: ReportData) -> str | None:
    """
    :param data: what there is to report
    :return: table and chart of the probabilities of improvement
    """
    improvement = data.comparison.improvement
    if improvement is None:
        return None
    method = improvement["method"].iloc[0]
    intervals = [between(low, high) for low, high in zip(improvement["low"], improvement["high"], strict=True)]
    cells = improvement.assign(probability=improvement["probability"].map(number), interval=intervals)
    rows = improvement.assign(method=improvement["other"], estimate=improvement["probability"])
    figure, height = estimates({"": rows}, data.looks)
    figure.add_vline(0.5, line={"dash": "dot", "color": "#666666"})
    figure.update_xaxes(range=[-0.02, 1.02], title=escape(f"probability that {method} is better"))
    figure.update_yaxes(autorange="reversed", type="category")
    text = (
        f"The probability that a run of {method} has a higher score than a run of the other method on the same task, "
        "averaged over tasks; 0.5 is no difference. An interval that holds 0.5 shows none."
    )
    cells = cells[["method", "other", "probability", "interval"]].rename(columns={"other": "against"})
    return paragraph(text) + table(cells) + chart(figure, "chart-improvement", height)
