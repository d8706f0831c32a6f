"""The page: one HTML file with everything in it, rendered by jinja2, which escapes all text."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs
from tqdm import tqdm

from sb3_mdpo._version import __version__
from sb3_mdpo.lab.report.charts import chart
from sb3_mdpo.lab.report.data import ReportData
from sb3_mdpo.lab.report.sections import analyses, representation, results, study


@dataclass(frozen=True)
class Section:
    """A section of the page."""

    anchor: str  #: its id in the page, and the name of its macro
    title: str
    content: Callable[[ReportData], Mapping[str, Any] | None]  #: arguments of the macro, None without any
    hint: str  #: which command produces what is missing; ``{run}`` stands for a run's folder
    measured: bool = False  #: it shows measurement files; if one is broken, the other sections are made


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
    Section("robustness", "Robustness", analyses.robustness, ROBUSTNESS, measured=True),
    Section("representation", "Representation", representation.representation, FEATURES, measured=True),
    Section("frames", "At play", study.frames, MODELS),
    Section("configuration", "Configuration and commands", study.configuration, FOLDERS),
)


@dataclass(frozen=True)
class Content:
    """What a section shows."""

    section: Section
    values: Mapping[str, Any] | None = None  #: arguments of the macro, None without any
    problem: str | None = None  #: which file is broken, in place of values


@dataclass(frozen=True)
class Page:
    """All sections of a report."""

    data: ReportData
    contents: Sequence[Content]

    @property
    def problems(self) -> list[str]:
        """The sections that are left out because of broken files, with those files."""
        return [f"no {content.section.title}: {content.problem}" for content in self.contents if content.problem]

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """All tables by name."""
        return {
            content.section.anchor if key == "cells" else f"{content.section.anchor}_{key}": value
            for content in self.contents
            for key, value in (content.values or {}).items()
            if isinstance(value, pd.DataFrame)
        }

    def html(self, made: str = "") -> str:
        """
        The page, which needs no other file and no network.

        :param made: what the footer says after the name; the version and today's date by default
        """
        templates = Environment(
            loader=PackageLoader("sb3_mdpo.lab.report", ""),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        templates.globals["draw"] = chart
        templates.filters["base64"] = lambda path: base64.b64encode(path.read_bytes()).decode()
        return templates.get_template("page.html.j2").render(
            title=self.data.name,
            plotly=Markup(get_plotlyjs()),
            contents=self.contents,
            folder=next((run.folder for run in self.data.runs if run.folder is not None), "RUN"),
            made=made or f"{__version__}, {date.today().isoformat()}",
        )


def make_page(data: ReportData, progress: bool = False) -> Page:
    """Compute everything that the page shows."""
    with tqdm(SECTIONS, unit="section", disable=not progress) as bar:
        return Page(data, [_content(section, data) for section in bar])


def _content(section: Section, data: ReportData) -> Content:
    try:
        return Content(section, section.content(data))
    except ValueError as error:
        if not section.measured:
            raise
        return Content(section, problem=str(error))
