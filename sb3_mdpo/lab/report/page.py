"""The page: one HTML file with everything in it, rendered by jinja2, which escapes all text."""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs
from tqdm import tqdm

from sb3_mdpo._version import __version__
from sb3_mdpo.lab.report.charts import chart
from sb3_mdpo.lab.report.data import ReportData
from sb3_mdpo.lab.report.sections import analyses, results, study


@dataclass(frozen=True)
class Section:
    """A section of the page."""

    anchor: str  #: its id in the page, and the name of its macro
    title: str
    content: Callable[[ReportData], Mapping[str, Any] | None]  #: arguments of the macro, None without any
    hint: str  #: which command produces what is missing; ``{run}`` stands for a run's folder


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
    Section("curves", "Learning curves", results.curves, EVALUATE),
    Section("aggregates", "Aggregates", results.aggregates, EVALUATE),
    Section("improvement", "Probability of improvement", results.improvement, COMPARE),
    Section("profiles", "Performance profiles", results.profiles, COMPARE),
    Section("games", "Game by game", results.games, EVALUATE),
    Section("gap", "Generalisation gap", results.gap, EVALUATE),
    Section("distillation", "Distance between policies", results.distillation, POLICIES),
    Section("robustness", "Robustness", analyses.robustness, ROBUSTNESS),
    Section("representation", "Representation", analyses.representation, FEATURES),
    Section("frames", "At play", study.frames, MODELS),
    Section("configuration", "Configuration and commands", study.configuration, FOLDERS),
)


def make_page(data: ReportData, progress: bool = False) -> str:
    """An HTML page that needs no other file and no network."""
    templates = Environment(
        loader=PackageLoader("sb3_mdpo.lab.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.globals["draw"] = chart
    templates.filters["base64"] = lambda path: base64.b64encode(path.read_bytes()).decode()
    with tqdm(SECTIONS, unit="section", disable=not progress) as bar:
        sections = [(section, section.content(data)) for section in bar]
    return templates.get_template("page.html.j2").render(
        title=data.name,
        plotly=Markup(get_plotlyjs()),
        sections=sections,
        folder=next((run.folder for run in data.runs if run.folder is not None), "RUN"),
        version=__version__,
    )
