"""The commands of `make demo`, on runs of a few steps: the demo itself takes minutes."""

import re
import shlex
from pathlib import Path

import pytest

from tests.support.commands import run

ROOT = Path(__file__).parents[2]
RUN = "demo/logs/mdpo/procgen-starpilot-easy-v0_1"
SHORTER = {  # in the settings
    "n_envs: 64": "n_envs: 8",
    "episodes: [0-9]+": "episodes: 8",
    "n_steps: 64": "n_steps: 16",
    "batch_size: 256": "batch_size: 64",
    "n_timesteps: [0-9]+": "n_timesteps: 256",
    "timesteps: 409_600": "timesteps: 8_192",
    "freq: 102_400": "freq: 8_192",
}


def commands() -> list[list[str]]:
    """What the recipes of `make demo` run, without make's variables."""
    text = (ROOT / "Makefile").read_text().replace("\\\n", " ").replace("$(STARPILOT)", RUN)
    return [shlex.split(line) for line in re.findall(r"^\t\$\(BIN\)/(.*demo/.*)$", text, re.MULTILINE)]


@pytest.mark.expensive
def test_commands_of_the_demo_show_tables_pages_and_a_picture(tmp_path):
    for file in (ROOT / "examples").glob("demo*"):
        text = file.read_text()
        for pattern, short in SHORTER.items():
            text = re.sub(pattern, short, text)
        (tmp_path / "examples").mkdir(exist_ok=True)
        (tmp_path / "examples" / file.name).write_text(text)
    found = commands()
    train = next(command for command in found if command[0] == "rl_zoo3")
    rest = [command for command in found if command is not train]
    assert [command[0] for command in rest] == ["sb3-mdpo", "sb3-mdpo", "sb3-mdpo", "python"]
    for command in (train, *rest):
        result = run(command, cwd=tmp_path, check=True)
    tables = [line.split() for line in result.stdout.splitlines() if line]
    rows = {" ".join(row[:-6]): row for row in tables if row.count("+/-") == 2}
    assert set(rows) == {"untrained", "policy 0", "policy 1"}
    assert all(float(row[column]) >= 0 for row in rows.values() for column in (-6, -4, -3, -1))
    assert [row[:-2] for row in tables if row[0] in ("MDPO", "without")] == [["MDPO"], ["without", "the", "KL"]]
    assert (tmp_path / "demo" / "picture.png").read_bytes().startswith(b"\x89PNG")
    for page in ("starpilot.html", "textured_grid.html"):
        assert "<html" in (tmp_path / "demo" / page).read_text()


def test_the_picture_needs_both_tables(tmp_path):
    result = run(["python", str(ROOT / "examples" / "demo_report.py"), "nowhere", "there"], cwd=tmp_path)
    assert result.returncode == 2
    assert "nowhere/generalization.csv does not exist: run make demo" in result.stderr
