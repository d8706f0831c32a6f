"""The page: its sections one below the other, with everything that they need inside."""

from importlib.resources import files

from plotly.offline import get_plotlyjs
from tqdm import tqdm

from sb3_mdpo._version import __version__
from sb3_mdpo.lab.report.data import ReportData
from sb3_mdpo.lab.report.html import escape, paragraph
from sb3_mdpo.lab.report.sections import SECTIONS, Section

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
{style}</style>
<script>{plotly}</script>
</head>
<body>
<header><h1>{title}</h1></header>
<nav aria-label="Sections">{links}</nav>
<main>
{sections}
</main>
<footer>sb3-mdpo {version}</footer>
</body>
</html>
"""


def make_page(data: ReportData, progress: bool = False) -> str:
    """
    :param data: what there is to report
    :param progress: whether to show a progress bar
    :return: one HTML page that needs nothing else, no network in particular
    """
    with tqdm(SECTIONS, unit="section", disable=not progress) as bar:
        sections = [_section(section, data) for section in bar]
    return PAGE.format(
        title=escape(data.name),
        style=(files("sb3_mdpo.lab.report") / "style.css").read_text(),
        plotly=get_plotlyjs(),
        links="".join(f'<a href="#{section.anchor}">{escape(section.title)}</a>' for section in SECTIONS),
        sections="\n".join(sections),
        version=__version__,
    )


def _section(section: Section, data: ReportData) -> str:
    folder = next((run.folder for run in data.runs if run.folder is not None), "RUN")
    inside = section.html(data) or paragraph(section.hint.format(run=folder), "hint")
    return f'<section id="{section.anchor}"><h2>{escape(section.title)}</h2>{inside}</section>'
