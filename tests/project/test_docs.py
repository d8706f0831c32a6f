"""The documentation: builds without warnings, its code runs, and what it names exists."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from sb3_mdpo import MDPO
from tests.support.commands import run

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
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
    return [
        (text.count("\n", 0, match.start("code")) + 1, match["code"])
        for match in BLOCK.finditer(text)
        if match["note"] is None
    ]


def test_site_builds_without_warnings(tmp_path):
    # Without the highlighted sources of all modules, which take half of the time
    extensions = "extensions=myst_parser,sphinx.ext.autodoc,sphinx.ext.mathjax"
    options = ["-W", "--keep-going", "-q", "-b", "html", "-D", extensions, "-d", str(tmp_path / "doctrees")]
    result = run(["python", "-m", "sphinx", *options, "docs", str(tmp_path / "html")], cwd=ROOT)
    assert result.returncode == 0, result.stderr[-3000:]
    pages = {path.stem for path in (tmp_path / "html").glob("*.html")}
    assert {page.stem for page in PAGES[1:]} <= pages
    assert "distillation_kl" in (tmp_path / "html" / "api.html").read_text()


@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)], ids=lambda page: page.stem)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    """In their order, in one namespace."""
    monkeypatch.chdir(tmp_path)
    namespace: dict = {"__name__": "__main__"}
    for line, code in python_blocks(page):
        for pattern, short in SHORTER.items():
            code = re.sub(pattern, short, code)
        exec(compile("\n" * (line - 1) + code, str(page), "exec"), namespace)


def test_tests_that_are_named_exist():
    existing = {
        (str(path.relative_to(ROOT / "tests").with_suffix("")), node.name)
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }
    named = {(page.name, *test) for page in PAGES for test in NAMED_TEST.findall(page.read_text())}
    assert named
    assert not [entry for entry in named if entry[1:] not in existing]


def test_every_feature_of_sb3_names_a_test():
    lines = [line for line in (ROOT / "docs" / "migration.md").read_text().splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    features = [row for row in rows if row[0] != "SB3 feature" and not set(row[0]) <= {"-"}]
    assert features
    assert not [feature for feature, _ppo, mdpo in features if "TODO" in mdpo or not NAMED_TEST.search(mdpo)]


def test_every_argument_has_its_place():
    text = (ROOT / "docs" / "parameters.md").read_text()
    described = set(re.findall(r"^### `(\w+)`$", text, re.MULTILINE)) | set(re.findall(r"^\| `(\w+)` \|", text, re.M))
    assert described == set(inspect.signature(MDPO.__init__).parameters) - {"self"}


def test_defaults_are_those_of_the_code():
    text = (ROOT / "docs" / "parameters.md").read_text()
    told = dict(re.findall(r"^\| `(\w+)` \| (\S+) \|", text, re.M))
    told |= {name: value.strip("`") for name, value in re.findall(r"^### `(\w+)`\n\n\*Default (\S+)\.\*", text, re.M)}
    for name, parameter in inspect.signature(MDPO.__init__).parameters.items():
        if name in told:
            assert ast.literal_eval(told[name]) == parameter.default, name
    assert len(told) == len(inspect.signature(MDPO.__init__).parameters) - len(
        ("self", "policy", "env", "policy_kwargs")
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_relative_links_lead_somewhere(page):
    links = {link.partition("#")[0] for link in LINK.findall(page.read_text()) if "://" not in link}
    assert not [link for link in links if link and not (page.parent / link).exists()]


def test_links_between_pages_lead_to_a_heading():
    """Sphinx checks those between pages of the site; the README is not among them."""
    anchors = {page.name: headings(page) for page in PAGES}
    for link in LINK.findall((ROOT / "README.md").read_text()):
        path, _, anchor = link.partition("#")
        if anchor and "://" not in link:
            assert anchor in anchors[Path(path).name or "README.md"], link


def headings(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
