"""What was run, with which configuration, and how its policies play."""

from pathlib import Path
from typing import Any

import pandas as pd

from sb3_mdpo.lab.report.data import ReportData
from sb3_mdpo.lab.report.filmstrip import filmstrips
from sb3_mdpo.lab.report.formatting import numbers, task_names
from sb3_mdpo.lab.report.runs import RunFiles
from sb3_mdpo.lab.statistics.results import BUDGETS, RUN, TASK
from sb3_mdpo.utils.yaml_files import read_text
from sb3_mdpo.zoo.run import COMMAND


def summary(data: ReportData) -> dict[str, Any]:
    """Environments, methods, seeds and budgets."""
    results = data.results
    if results is None:
        return {"lacking": data.lacking, "run": data.runs[0], "facts": None, "costs": None}
    facts = {
        "environments": "; ".join(task_names(results[TASK].drop_duplicates())),
        "methods": ", ".join(data.methods),
        "seeds": ", ".join(str(seed) for seed in sorted(results["seed"].unique())),
        "runs": f"{len(data.runs)}",
        "episodes per evaluation": _episodes(results),
    }
    groups = results.groupby(RUN)[BUDGETS].max().groupby("method")
    costs = groups.median().loc[data.methods].apply(numbers, digits=0)
    costs.columns = pd.Index(["environment steps", "per policy", "images trained on", "seconds"])
    costs.insert(0, "runs", groups.size())
    facts_table = pd.DataFrame(facts.items(), columns=["what", "value"])
    return {"lacking": data.lacking, "run": None, "facts": facts_table, "costs": costs.reset_index()}


def _episodes(results: pd.DataFrame) -> str:
    counts = sorted(results["episodes"].dropna().unique()) if "episodes" in results else []
    if not counts:
        return ""
    return " or ".join(f"{count:g}" for count in counts) + " per policy and set of levels"


def frames(data: ReportData) -> dict[str, Any] | None:
    """For one run of each method a picture with a strip of frames per policy."""
    strips = [(run, *_filmstrips(run)) for run in data.one_per_method()]
    return {"strips": strips} if strips else None


def _filmstrips(run: RunFiles) -> tuple[Path | None, ValueError | None]:
    try:
        return filmstrips(run), None
    except ValueError as error:
        return None, error


def configuration(data: ReportData) -> dict[str, Any] | None:
    """The study's own files, the zoo's files of one run per method, and the commands of all runs."""
    folders = [folder for folder in (data.folder, *data.others) if folder.is_dir()]
    paths = [path for folder in folders for path in sorted(folder.glob("*.y*ml"))]
    studies = {str(path) if data.others else path.name: read_text(path) for path in paths}
    examples = [(run, files) for run in data.one_per_method() if (files := run.settings())]
    commands = {run.name: command.strip() for run in data.runs if (command := run.settings().get(COMMAND))}
    if not (studies or examples or commands):
        return None
    return {"studies": studies, "examples": examples, "commands": commands}
