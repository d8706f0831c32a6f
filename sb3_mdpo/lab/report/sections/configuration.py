"""How each method was run, to the letter."""

from sb3_mdpo.lab.report.data import ReportData
from sb3_mdpo.lab.report.html import code, folded, paragraph
from sb3_mdpo.utils.yaml_files import read_text
from sb3_mdpo.zoo.run import COMMAND


def html(data: ReportData) -> str | None:
    """
    :param data: what there is to report
    :return: the study's own files, the zoo's files of one run per method, and the commands of all runs
    """
    parts = [folded(f"The study: {path.name}", code(read_text(path))) for path in sorted(data.folder.glob("*.y*ml"))]
    for run in data.examples():
        texts = run.settings()
        files = "".join(paragraph(name) + code(text) for name, text in texts.items())
        if files:
            parts.append(folded(f"{run.method}: {run.task}, seed {run.seed}", files))
    commands = {run.name: text for run in data.runs if (text := run.settings().get(COMMAND))}
    if commands:
        lines = [f"# {name}\n{command.strip()}" for name, command in commands.items()]
        parts.append(folded(f"All commands ({len(lines)})", code("\n".join(lines))))
    return "".join(parts) or None
