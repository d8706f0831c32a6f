"""What was run."""

import pandas as pd

from sb3_mdpo.lab.report.data import ReportData
from sb3_mdpo.lab.report.html import paragraph, table
from sb3_mdpo.lab.statistics.results import BUDGETS, TASK, task_name


def html(data: ReportData) -> str | None:
    """
    :param data: what there is to report
    :return: environments, methods, seeds and budgets
    """
    if data.results is None:
        run = data.runs[0]
        return paragraph(f"One run on {run.env_id}, seed {run.seed}.")
    results = data.results
    tasks = results[TASK].drop_duplicates().itertuples(index=False, name=None)
    seeds = sorted(results["seed"].unique())
    facts = pd.DataFrame(
        [
            ("environments", "; ".join(task_name(*task) for task in tasks)),
            ("methods", ", ".join(data.methods)),
            ("seeds", ", ".join(str(seed) for seed in seeds)),
            ("runs", f"{len(data.runs)}"),
            ("episodes per evaluation", _episodes(results)),
        ],
        columns=["", "what was run"],
    )
    return table(facts, "facts") + paragraph("What the runs have cost so far, at most:") + table(_costs(data, results))


def _episodes(results: pd.DataFrame) -> str:
    if "episodes" not in results:
        return ""
    counts = sorted(results["episodes"].dropna().unique())
    return " or ".join(f"{count:g}" for count in counts) + " per policy and set of levels"


def _costs(data: ReportData, results: pd.DataFrame) -> pd.DataFrame:
    groups = results.groupby("method")
    costs = groups[BUDGETS].max().loc[data.methods]
    seeds = groups["seed"].nunique().loc[data.methods]
    return pd.DataFrame(
        {
            "method": data.methods,
            "seeds": [f"{count}" for count in seeds],
            "environment steps": [f"{steps:,.0f}" for steps in costs["timesteps"]],
            "per policy": [f"{steps:,.0f}" for steps in costs["timesteps_per_policy"]],
            "images trained on": [f"{images:,.0f}" for images in costs["trained_images"]],
            "seconds": [f"{seconds:,.0f}" for seconds in costs["seconds"]],
        }
    )
