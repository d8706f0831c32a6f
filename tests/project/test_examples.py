"""Every example runs, on a tiny budget."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
ARGUMENTS = {
    "train_cartpole.py": ["--n-timesteps", "512"],
    "train_procgen.py": ["--n-timesteps", "512", "--n-envs", "8", "--episodes", "2"],
    "custom_policy.py": ["--n-timesteps", "1536"],
    "compare_with_ppo.py": ["--n-timesteps", "512"],
}
OUTPUT = {
    "train_cartpole.py": "ensemble: mean return",
    "train_procgen.py": "policy 1 on unseen levels: mean return",
    "custom_policy.py": "policy_2/",
    "compare_with_ppo.py": "MDPO: 256 steps per policy",
}


def test_all_examples_are_tested():
    scripts = {path.name for path in EXAMPLES.glob("*.py")}
    assert scripts - {"demo_report.py"} == ARGUMENTS.keys()


@pytest.mark.parametrize("name", sorted(ARGUMENTS))
def test_example(name, tmp_path):
    command = [sys.executable, str(EXAMPLES / name), *ARGUMENTS[name]]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    assert OUTPUT[name] in result.stdout
