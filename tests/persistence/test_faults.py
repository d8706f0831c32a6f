"""Trainings of the zoo that are killed end like undisturbed ones. `benchmarks/faults.py` kills more of them."""

import random
import shutil
import signal
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from sb3_mdpo.zoo.resume import main
from tests.support.faults import SCENARIOS, Training, differences, run_with_kills
from tests.support.helpers import refusal


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Training, float]]:
    """Undisturbed trainings, and their durations in seconds."""

    @cache
    def run(env_id: str) -> tuple[Training, float]:
        start = time.monotonic()
        # One of them with hash seeds and imports of its own
        training = Training(env_id, tmp_path_factory.mktemp("alone") / "run", forked=env_id != "CartPole-v1")
        training.finish()
        return training, time.monotonic() - start

    return run


@pytest.mark.parametrize("env_id", SCENARIOS)
def test_killed_trainings_end_as_if_they_had_been_left_alone(env_id: str, alone, tmp_path: Path) -> None:
    left_alone, seconds = alone(env_id)
    killed = Training(env_id, tmp_path / "run", forked=True)
    attempts = run_with_kills(killed, 2, random.Random(0), seconds)
    assert "killed while writing" in attempts
    assert differences(left_alone, killed) == []


def test_differences_are_seen(alone, tmp_path: Path) -> None:
    training, _ = alone("CartPole-v1")
    (tmp_path / "run").symlink_to(training.folder)
    same = Training(training.env_id, tmp_path / "run")
    assert differences(training, same) == []
    monitor = next(training.run.glob("*.monitor.csv"))
    other = Training(training.env_id, tmp_path / "other")
    shutil.copytree(training.folder, other.folder)
    (other.run / monitor.name).write_text(monitor.read_text().replace("\n", "\n1.0,1,0.1\n", 3))
    (other.run / "evaluations.npz").unlink()
    shutil.copy(other.run / "best_model.zip", other.run / "CartPole-v1.zip")
    assert {"policy.optimizer.pth", monitor.name, "evaluations.npz"} <= set(differences(training, other))


def test_sigterm_ends_the_zoos_training_with_a_checkpoint(tmp_path: Path) -> None:
    training = Training("CartPole-v1", tmp_path / "run")
    process = training.start()
    try:
        while len(list(training.checkpoints.glob("checkpoint_*.zip"))) < 2:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    finally:
        process.kill()
    assert not training.is_complete
    last = (training.folder / "output.txt").read_text().strip().splitlines()[-1]
    assert "To resume from step" in last
    assert last.endswith(f": python -m sb3_mdpo.zoo train --resume {training.run.resolve()}")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("nothing", "There is no folder"),
        ("empty", "is not a run folder of rl_zoo3 train"),
        ("without checkpoints", "holds no checkpoints: ResumableCheckpointCallback writes them"),
        ("damaged", "are damaged: delete the folder to start anew"),
    ],
)
def test_what_cannot_be_resumed_ends_in_one_line(what: str, message: str, alone, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "run"
    if what == "empty":
        folder.mkdir()
    elif what != "nothing":
        shutil.copytree(alone("CartPole-v1")[0].run, folder)
        for path in (folder / "checkpoints").iterdir():
            path.write_bytes(b"damaged") if what == "damaged" else path.unlink()
    line = refusal(capsys, main, str(folder))
    assert line.startswith("python -m sb3_mdpo.zoo train --resume: ")
    assert message in line
