"""The demo's report, on a run of a few steps: the demo itself takes minutes."""

import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
ENV_ID = "procgen-starpilot-easy-v0"


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


def test_report_says_which_run_it_misses(tmp_path):
    result = run(sys.executable, str(ROOT / "examples" / "demo_report.py"), ENV_ID, "-f", "nowhere", cwd=tmp_path)
    assert result.returncode == 2
    assert "there is no trained model in nowhere" in result.stderr


def test_demo_settings_train_and_are_reported(tmp_path):
    conf = ROOT / "examples" / "demo.yml"
    assert ENV_ID in yaml.safe_load(conf.read_text())
    train = run(
        str(Path(sys.executable).with_name("rl_zoo3")), "train", "--algo", "mdpo", "--env", ENV_ID, "-conf", str(conf),
        "-f", "demo/logs", "--device", "cpu", "--seed", "1", "--progress", "--verbose", "0", "-n", "4096",
        "--eval-freq", "2048", "--eval-episodes", "8", "--n-eval-envs", "4", "--num-threads", "1", cwd=tmp_path,
    )  # fmt: skip
    assert train.returncode == 0, train.stderr[-3000:]
    report = run(sys.executable, str(ROOT / "examples" / "demo_report.py"), ENV_ID, "--episodes", "32", cwd=tmp_path)
    assert report.returncode == 0, report.stderr[-3000:]
    rows = [line.split() for line in report.stdout.splitlines()]
    table = [row for row in rows if row and row[0] in ("untrained", "policy")]
    # Two cells of the form "a +/- b" after the name
    assert [row[:-6] for row in table] == [["untrained"], ["policy", "0"], ["policy", "1"]]
    assert all(float(row[column]) > 0 for row in table for column in (-6, -4, -3, -1))
    assert "Learning curves:             demo/learning_curve.png" in report.stdout
    picture = tmp_path / "demo" / "learning_curve.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in picture.parent.glob("*.png")] == ["learning_curve.png"]
