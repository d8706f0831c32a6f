"""The sections of a report: each a function from what there is to HTML, or to None where there is nothing."""

from collections.abc import Callable
from dataclasses import dataclass

from sb3_mdpo.lab.report.data import ReportData
from sb3_mdpo.lab.report.sections import (
    aggregates,
    configuration,
    curves,
    distillation,
    frames,
    games,
    gap,
    improvement,
    profiles,
    representation,
    robustness,
    summary,
)


@dataclass(frozen=True)
class Section:
    """
    :param anchor: its id in the page
    :param title: its heading
    :param html: what makes it
    :param hint: which command produces what it shows; ``{run}`` stands for a run's folder
    """

    anchor: str
    title: str
    html: Callable[[ReportData], str | None]
    hint: str


EVALUATE = (
    "It needs evaluations on training and unseen levels: sb3-mdpo study run STUDY.yml, or GeneralizationEvalCallback "
    "in the training."
)
COMPARE = "It needs at least two methods with the same two or more seeds: sb3-mdpo study run STUDY.yml."
SECTIONS = (
    Section("summary", "What was run", summary.html, EVALUATE),
    Section("curves", "Learning curves", curves.html, EVALUATE),
    Section("aggregates", "Aggregates", aggregates.html, EVALUATE),
    Section("improvement", "Probability of improvement", improvement.html, COMPARE),
    Section("profiles", "Performance profiles", profiles.html, COMPARE),
    Section("games", "Game by game", games.html, EVALUATE),
    Section("gap", "Generalisation gap", gap.html, EVALUATE),
    Section(
        "distillation",
        "Distance between policies",
        distillation.html,
        "It needs evaluations of runs with several policies: sb3-mdpo study run STUDY.yml.",
    ),
    Section("robustness", "Robustness", robustness.html, "It needs robustness.json: sb3-mdpo robustness {run}"),
    Section("representation", "Representation", representation.html, "It needs features.json: sb3-mdpo features {run}"),
    Section(
        "frames", "At play", frames.html, "It needs the runs' folders with their models: sb3-mdpo study run STUDY.yml."
    ),
    Section(
        "configuration",
        "Configuration and commands",
        configuration.html,
        "It needs the runs' folders: sb3-mdpo study run STUDY.yml.",
    ),
)
