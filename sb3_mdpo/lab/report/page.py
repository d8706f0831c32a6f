"""The page: one HTML file with everything in it, rendered by jinja2, which escapes all text."""

import base64

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs
from tqdm import tqdm

from sb3_mdpo._version import __version__
from sb3_mdpo.lab.report.charts import chart
from sb3_mdpo.lab.report.data import ReportData
from sb3_mdpo.lab.report.sections import SECTIONS


def make_page(data: ReportData, progress: bool = False) -> str:
    """:return: an HTML page that needs no other file and no network"""
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
