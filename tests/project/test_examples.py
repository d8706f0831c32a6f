"""Every example runs, on a tiny budget."""

import json
from pathlib import Path

import pytest

from tests.support.commands import run

EXAMPLES = Path(__file__).parents[2] / "examples"
# Script -> arguments, and what it prints
RUNS = {
    "train_cartpole.py": ("--n-timesteps 512", "ensemble: mean return"),
    "train_procgen.py": ("--n-timesteps 512 --n-envs 8 --episodes 2", "policy 1 on unseen levels: mean return"),
    "custom_policy.py": ("--n-timesteps 1536", "policy_2/"),
    "masks_and_memory.py": ("--n-timesteps 1024", "with memory, policy 1: mean return"),
    "compare_with_ppo.py": ("--n-timesteps 512", "MDPO: 256 steps per policy"),
}


def test_all_examples_are_tested():
    scripts = {path.name for path in EXAMPLES.glob("*.py")}
    assert scripts - {"demo_report.py"} == RUNS.keys()


@pytest.mark.parametrize("name", sorted(RUNS))
def test_example(name, tmp_path):
    arguments, output = RUNS[name]
    assert output in run(f"python {EXAMPLES / name} {arguments}", cwd=tmp_path, check=True).stdout


def test_tutorial(tmp_path):
    """Its cells in their order, with a shorter training."""
    cells = json.loads((EXAMPLES / "tutorial.ipynb").read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    assert "20_480" in code
    (tmp_path / "tutorial.py").write_text(code.replace("20_480", "2048"))
    output = run("python tutorial.py", cwd=tmp_path, check=True).stdout
    assert "ensemble: 0." in output
    assert "Report: room/report.html" in output
    assert "Room, 50 levels" in (tmp_path / "room" / "report.html").read_text()
