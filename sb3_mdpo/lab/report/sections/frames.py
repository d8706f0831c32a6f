"""What the policies look like when they play."""

from sb3_mdpo.lab.report.data import ReportData
from sb3_mdpo.lab.report.filmstrip import frame_strips
from sb3_mdpo.lab.report.html import escape, paragraph, picture


def html(data: ReportData) -> str | None:
    """
    :param data: what there is to report
    :return: for one run of each method a picture with a strip of frames per policy
    """
    parts = []
    for run in data.examples():
        try:
            path = frame_strips(run)
        except ValueError as error:
            parts.append(paragraph(f"No frames of {run.method}: {error}", "note"))
            continue
        about = f"{run.method} on {run.task}, seed {run.seed}"
        parts.append(f"<h3>{escape(about)}</h3>" + picture(path, f"frames of each policy of {about}"))
    if not parts:
        return None
    text = "Frames of one episode of each policy on the same unseen level, with sampled actions, from left to right."
    return paragraph(text) + "".join(parts)
