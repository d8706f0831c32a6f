"""The documentation: builds without warnings, its code runs, and what it names exists."""

import ast
import inspect
import re
from html import unescape
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import sb3_mdpo.callbacks
import sb3_mdpo.distributed
import sb3_mdpo.envs
import sb3_mdpo.lab
from sb3_mdpo import MDPO
from tests.support.commands import run

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(?P<note><!-- not run: .+ -->\n+)?```python\n(?P<code>.*?)\n```", re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
NAMED_TEST = re.compile(r"`tests/([\w/]+)\.py::(\w+)`")
# Each training is a single rollout and epoch with a small network, each evaluation two episodes
SHORTER = {
    r"\.learn\([\d_]+": ".learn(1",
    r"\bepisodes=\d+": "episodes=2",
    r"\bn_epochs=\d+": "n_epochs=1",
    '"ImpalaCnnPolicy"': '"StridedCnnPolicy"',
}


def python_blocks(page: Path) -> list[tuple[int, str]]:
    """The blocks to run, each with the number of its first line."""
    text = page.read_text()
    blocks = (match for match in BLOCK.finditer(text) if match["note"] is None)
    return [(text.count("\n", 0, block.start("code")) + 1, block["code"]) for block in blocks]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The built site, without the highlighted sources of all modules, which take half of the time."""
    folder = tmp_path_factory.mktemp("site")
    extensions = "extensions=myst_parser,sphinx.ext.autodoc,formulas,tutorial_page"
    options = ["-W", "--keep-going", "-q", "-b", "html", "-D", extensions, "-d", str(folder / "doctrees")]
    run(["python", "-m", "sphinx", *options, "docs", str(folder / "html")], cwd=ROOT, check=True)
    return folder / "html"


def test_site_builds_without_warnings(site):
    pages = {path.stem for path in site.glob("*.html")}
    assert {page.stem for page in (ROOT / "docs").glob("*.md")} <= pages
    assert "weight of the distillation KL" in (site / "api.html").read_text()
    assert "Room" in (site / "tutorial.html").read_text()  # from the notebook


def test_links_in_the_site_lead_to_a_page_and_an_anchor(site):
    texts = {path: path.read_text() for path in site.rglob("*.html")}
    anchors = {path: set(map(unescape, re.findall(r' id="([^"]+)"', text))) for path, text in texts.items()}
    links = [
        (page, unescape(link))
        for page, text in texts.items()
        for link in re.findall(r'<a [^>]*href="([^"]+)"', text)
        if not urlsplit(link).scheme
    ]
    assert len(links) > 1000
    for page, link in links:
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), (page.name, link)
        assert not anchor or anchor in anchors[target], (page.name, link)


def test_formulas_are_in_the_pages_and_nothing_is_fetched(site):
    url = r"(?:https?:)?//"
    loads = re.compile(rf'<(?:script|img|iframe)[^>]* src="{url}|<link[^>]* rel="stylesheet"[^>]* href="{url}')
    for page in site.glob("*.html"):
        assert not loads.search(page.read_text()), page.name
    concepts = (site / "concepts.html").read_text()
    assert concepts.count("<math") == formulas(ROOT / "docs" / "concepts.md") > 20
    loss = re.search(r'<math[^>]* display="block">(.*?)</math>', concepts, re.DOTALL)[1]
    assert re.sub(r"<[^>]+>|\s+", "", loss).endswith("∑j≠kKL(πj‖πk)")


def formulas(page: Path) -> int:
    """Their number, outside code."""
    prose = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(), flags=re.DOTALL)
    return prose.replace("$$", "$").count("$") // 2


def test_api_page_lists_exactly_the_public_names():
    documented = set(re.findall(r"^\.\. auto\w+:: (\S+)$", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE))
    public = {
        f"{module.__name__}.{name}"
        for module in (sb3_mdpo, sb3_mdpo.callbacks, sb3_mdpo.envs, sb3_mdpo.distributed, sb3_mdpo.lab)
        for name in module.__all__
    }
    constants = {"sb3_mdpo.__version__", "sb3_mdpo.envs.UNSEEN_LEVELS"}
    assert documented == public - constants


def test_the_house_shows_every_package():
    packages = {path.parent.name for path in (ROOT / "sb3_mdpo").glob("*/__init__.py")}
    contract = (ROOT / "pyproject.toml").read_text().split("layers = [")[1].split("]")[0]
    picture = (ROOT / "docs" / "_static" / "house.svg").read_text()
    table = (ROOT / "CONTRIBUTING.md").read_text()
    assert set(re.findall(r"\w+", contract)) == packages | {"callbacks", "_version"}
    assert set(re.findall(r'class="name"[^>]*>(\w+)<', picture)) == packages
    assert set(re.findall(r"^\| `(\w+)/` \|", table, re.MULTILINE)) == packages


@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)], ids=lambda page: page.stem)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    """In their order, in one namespace."""
    monkeypatch.chdir(tmp_path)
    namespace: dict = {"__name__": "__main__"}
    for line, code in python_blocks(page):
        for pattern, short in SHORTER.items():
            code = re.sub(pattern, short, code)
        exec(compile("\n" * (line - 1) + code, str(page), "exec"), namespace)


def test_tests_that_are_named_exist_and_every_feature_of_sb3_names_one():
    existing = {
        (str(path.relative_to(ROOT / "tests").with_suffix("")), node.name)
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef)
    }
    for page in PAGES:
        assert set(NAMED_TEST.findall(page.read_text())) <= existing, page.name
    table = re.findall(r"^\|.*\|$", (ROOT / "docs" / "migration.md").read_text(), re.MULTILINE)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    features = [row for row in rows if row[0] != "SB3 feature" and not set(row[0]) <= {"-"}]
    assert features
    assert not [feature for feature, _ppo, mdpo in features if "TODO" in mdpo or not NAMED_TEST.search(mdpo)]


def test_every_argument_has_its_place_and_default():
    text, arguments = (ROOT / "docs" / "parameters.md").read_text(), dict(inspect.signature(MDPO.__init__).parameters)
    del arguments["self"]
    described = set(re.findall(r"^### `(\w+)`$", text, re.MULTILINE)) | set(re.findall(r"^\| `(\w+)` \|", text, re.M))
    assert described == set(arguments)
    told = dict(re.findall(r"^\| `(\w+)` \| (\S+) \|", text, re.M))
    told |= {name: value.strip("`") for name, value in re.findall(r"^### `(\w+)`\n\n\*Default (\S+)\.\*", text, re.M)}
    assert set(told) == set(arguments) - {"policy", "env", "policy_kwargs"}
    for name, value in told.items():
        assert ast.literal_eval(value) == arguments[name].default, name


def test_relative_links_lead_somewhere_and_those_of_the_readme_to_a_heading():
    """Sphinx checks the headings in links between pages of the site; the README is not among them."""
    anchors = {page.name: headings(page) for page in PAGES}
    for page in PAGES:
        for link in LINK.findall(page.read_text()):
            path, _, anchor = link.partition("#")
            if "://" not in link:
                assert (page.parent / path).exists(), link
                if anchor and page.name == "README.md":
                    assert anchor in anchors[Path(path).name or "README.md"], link


def headings(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
