"""Every example runs, on a tiny budget."""

from pathlib import Path

import pytest

from tests.support.commands import run

EXAMPLES = Path(__file__).parents[2] / "examples"
# Script -> arguments, and what it prints
RUNS = {
    "train_cartpole.py": ("--n-timesteps 512", "ensemble: mean return"),
    "train_procgen.py": ("--n-timesteps 512 --n-envs 8 --episodes 2", "policy 1 on unseen levels: mean return"),
    "custom_policy.py": ("--n-timesteps 1536", "policy_2/"),
    "compare_with_ppo.py": ("--n-timesteps 512", "MDPO: 256 steps per policy"),
}


def test_all_examples_are_tested():
    scripts = {path.name for path in EXAMPLES.glob("*.py")}
    assert scripts - {"demo_report.py"} == RUNS.keys()


@pytest.mark.parametrize("name", sorted(RUNS))
def test_example(name, tmp_path):
    arguments, output = RUNS[name]
    assert output in run(f"python {EXAMPLES / name} {arguments}", cwd=tmp_path, check=True).stdout
