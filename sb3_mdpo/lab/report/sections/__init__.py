"""The sections of a report. Each is a function from the data to what its macro in sections.html.j2 shows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sb3_mdpo.lab.report.data import ReportData
from sb3_mdpo.lab.report.sections import analyses, comparisons, study, training


@dataclass(frozen=True)
class Section:
    """
    :param anchor: its id in the page, and the name of its macro
    :param title: its heading
    :param content: computes the arguments of the macro, or returns None if there is nothing to show
    :param hint: which command produces what is missing; ``{run}`` stands for a run's folder
    """

    anchor: str
    title: str
    content: Callable[[ReportData], Mapping[str, Any] | None]
    hint: str


STUDY = "sb3-mdpo study run STUDY.yml"
EVALUATE = f"It needs evaluations on training and unseen levels: {STUDY}, or train with GeneralizationEvalCallback."
COMPARE = f"It needs at least two methods with the same two or more seeds: {STUDY}."
POLICIES = f"It needs evaluations of runs with several policies: {STUDY}."
ROBUSTNESS = "It needs robustness.json: sb3-mdpo robustness {run}"
FEATURES = "It needs features.json: sb3-mdpo features {run}"
MODELS = f"It needs the runs' folders with their models: {STUDY}."
FOLDERS = f"It needs the runs' folders: {STUDY}."
SECTIONS = (
    Section("summary", "What was run", study.summary, EVALUATE),
    Section("curves", "Learning curves", training.curves, EVALUATE),
    Section("aggregates", "Aggregates", comparisons.aggregates, EVALUATE),
    Section("improvement", "Probability of improvement", comparisons.improvement, COMPARE),
    Section("profiles", "Performance profiles", comparisons.profiles, COMPARE),
    Section("games", "Game by game", training.games, EVALUATE),
    Section("gap", "Generalisation gap", training.gap, EVALUATE),
    Section("distillation", "Distance between policies", training.distillation, POLICIES),
    Section("robustness", "Robustness", analyses.robustness, ROBUSTNESS),
    Section("representation", "Representation", analyses.representation, FEATURES),
    Section("frames", "At play", study.frames, MODELS),
    Section("configuration", "Configuration and commands", study.configuration, FOLDERS),
)
