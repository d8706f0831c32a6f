"""The command ``sb3-mdpo study``, in this process or beside it, and what it leaves."""

import csv
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from sb3_mdpo.callbacks import ResumableCheckpointCallback
from sb3_mdpo.cli.main import main

ROOT = Path(__file__).parents[2]  # on PYTHONPATH, trainings can have the callback below


class Gate(BaseCallback):
    """Writes the file ``reached`` when a rollout begins at this step or later, and waits for the file ``opened``."""

    def __init__(self, reached: str, at_step: int, opened: str) -> None:
        super().__init__()
        self.reached, self.at_step, self.opened = Path(reached), at_step, Path(opened)

    def _on_rollout_start(self) -> None:
        if self.num_timesteps >= self.at_step:
            self.reached.touch()
            wait_until(self.opened.exists, 600)

    def _on_step(self) -> bool:
        return True


class Unwritten(BaseCallback):
    """Writes the file ``reached`` when the training has a newer snapshot than its first checkpoint."""

    def __init__(self, reached: str) -> None:
        super().__init__()
        self.reached = Path(reached)

    def _on_rollout_start(self) -> None:
        (checkpoints,) = (one for one in gc.get_objects() if isinstance(one, ResumableCheckpointCallback))
        if checkpoints.snapshot is not None and checkpoints.snapshot.num_timesteps > 0:
            self.reached.touch()

    def _on_step(self) -> bool:
        return True


class OwnPPO(PPO):
    """An algorithm of one's own, with an argument of its own."""

    def __init__(self, *args: Any, own_coef: float = 0.5, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.own_coef = own_coef


def write_study(path: Path, study: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(study))
    return path


def study_command(*arguments: object) -> int:
    """Exit code of ``sb3-mdpo study ...``, in this process."""
    try:
        main(["study", *map(str, arguments)])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def interrupted_study(meanwhile: Callable[[], None], *arguments: object, **environment: str) -> tuple[int, str]:
    """Exit code and output of ``sb3-mdpo study ...``, in a process that gets Ctrl-C after ``meanwhile()``."""
    study = subprocess.Popen(
        [sys.executable, "-c", "from sb3_mdpo.cli.main import main; main()", "study", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | environment,
        # As in a terminal: what is started in the background inherits that it ignores interrupts
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        meanwhile()
    finally:
        study.send_signal(signal.SIGINT)
        try:
            output, _ = study.communicate(timeout=120)
        finally:
            study.kill()
    return study.returncode, output


def results(folder: Path, without: tuple[str, ...] = ()) -> list[dict[str, str]]:
    """The table of a study, but for some of its columns."""
    with (folder / "results.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if key not in without} for row in csv.DictReader(file)]


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
