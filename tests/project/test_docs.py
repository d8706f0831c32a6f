"""The documentation: builds without warnings, its code runs, and what it names exists."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sb3_mdpo import MDPO

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "sb3_mdpo"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(?P<note><!-- not run: .+ -->\n+)?```python\n(?P<code>.*?)\n```", re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
NAMED_TEST = re.compile(r"`tests/(\w+)\.py::(\w+)`")


def python_blocks(page: Path) -> list[tuple[int, str]]:
    """The blocks to run, each with the number of its first line."""
    text = page.read_text()
    return [
        (text.count("\n", 0, match.start("code")) + 1, match["code"])
        for match in BLOCK.finditer(text)
        if match["note"] is None
    ]


def test_site_builds_without_warnings(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs", str(tmp_path / "html")]
    result = subprocess.run(
        [*command, "-d", str(tmp_path / "doctrees")], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    pages = {path.stem for path in (tmp_path / "html").glob("*.html")}
    assert {page.stem for page in PAGES[1:]} <= pages
    assert "distillation_kl" in (tmp_path / "html" / "api.html").read_text()


@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)], ids=lambda page: page.stem)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    """In their order, in one namespace, each training for a single rollout."""
    monkeypatch.chdir(tmp_path)
    namespace: dict = {"__name__": "__main__"}
    for line, code in python_blocks(page):
        short = re.sub(r"\.learn\([\d_]+", ".learn(1", code)
        exec(compile("\n" * (line - 1) + short, str(page), "exec"), namespace)


def rows(page: Path) -> list[list[str]]:
    """The rows of all feature tables, without heads and rules."""
    lines = [line for line in page.read_text().splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0] != "SB3 feature" and not set(row[0]) <= {"-"}]


@pytest.fixture(scope="module")
def existing() -> set[tuple[str, str]]:
    """File and name of every test that there is."""
    return {
        (path.stem, node.name)
        for path in (ROOT / "tests").glob("test_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


@pytest.mark.parametrize("row", rows(ROOT / "docs" / "migration.md"), ids=lambda row: row[0])
def test_every_feature_has_a_test_that_exists(row, existing):
    _feature, _ppo, mdpo = row
    assert "TODO" not in mdpo
    named = NAMED_TEST.findall(mdpo)
    assert named
    assert not set(named) - existing


def test_every_test_that_is_named_anywhere_exists(existing):
    named = {(page.name, *test) for page in PAGES for test in NAMED_TEST.findall(page.read_text())}
    assert not [entry for entry in named if entry[1:] not in existing]


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


def imported(path: Path) -> set[str]:
    """Entries of ``sb3_mdpo/`` that a file needs to run, wherever in it they are imported."""
    tree = ast.parse(path.read_text())
    for_types = {id(node) for branch in ast.walk(tree) if is_for_types(branch) for node in ast.walk(branch)}
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and id(node) not in for_types]
    modules = {node.module.split(".")[1] for node in nodes if (node.module or "").startswith("sb3_mdpo.")}
    return {f"{module}.py" if (PACKAGE / f"{module}.py").exists() else f"{module}/" for module in modules}


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def test_imports_go_up_in_the_table_of_files():
    order = re.findall(r"^\| `([\w./]+)` \|", (ROOT / "docs" / "contributing.md").read_text(), re.M)
    there_is = {path.name for path in PACKAGE.glob("*.py")} | {
        f"{path.parent.name}/" for path in PACKAGE.glob("*/*.py")
    }
    assert set(order) == there_is
    for place, entry in enumerate(order):
        files = PACKAGE.glob(f"{entry}*.py") if entry.endswith("/") else [PACKAGE / entry]
        for file in files:
            assert imported(file) <= set(order[: place + 1]), file
