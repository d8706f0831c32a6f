"""Trainings of the zoo that are killed and resumed, and how their results differ from those of undisturbed ones."""

import csv
import os
import pickle
import random
import shutil
import subprocess
import sys
import time
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils._pytree import tree_map_only

from tests.support import commands

# These differ from run to run
TIMES = ("t", "seconds", "time/fps", "time/time_elapsed", "budget/seconds")
# Small trainings that together use everything that a checkpoint holds
SCENARIOS: dict[str, dict[str, Any]] = yaml.safe_load("""
CartPole-v1: {
  policy: MlpPolicy, policy_kwargs: "dict(net_arch=[16])", normalize: true, learning_rate: lin_1e-3,
  n_envs: 4, n_steps: 32, batch_size: 32, n_epochs: 4, n_timesteps: 4096,
  callback: [&checkpoints {sb3_mdpo.callbacks.ResumableCheckpointCallback: {save_freq: 1}},
             sb3_mdpo.callbacks.BudgetCallback]}
TexturedGrid-v0: {
  policy: StridedCnnPolicy, n_policies: 3, distill_mode: random, n_envs: 6, n_epochs: 2, <<: &native {
    vec_env_wrapper: sb3_mdpo.envs.native_vec_env, env_kwargs: {num_levels: 20, start_level: 0},
    normalize: "dict(norm_obs=False, norm_reward=True)", n_steps: 32, batch_size: 64, n_timesteps: 1536},
  callback: [*checkpoints,
             sb3_mdpo.callbacks.GeneralizationEvalCallback: {eval_freq: 500, episodes: 4, n_envs: 4}]}
procgen-starpilot-easy-v0: {
  policy: ImpalaCnnPolicy, policy_kwargs: "dict(features_extractor_kwargs=dict(channels=(4, 4)))",
  n_envs: 8, n_epochs: 1, <<: *native, callback: [*checkpoints, sb3_mdpo.callbacks.BudgetCallback]}
""")
EVALUATED = ("CartPole-v1", "procgen-starpilot-easy-v0")  # by SB3's callback; the grid by ours


@dataclass(frozen=True)
class Training:
    env_id: str  # the scenario
    folder: Path  # its working folder
    forked: bool = False  # with torch and rl-zoo3 imported

    @property
    def run(self) -> Path:
        return self.folder / "logs" / "mdpo" / f"{self.env_id}_1"

    @property
    def checkpoints(self) -> Path:
        return self.run / "checkpoints"

    @property
    def is_complete(self) -> bool:
        return (self.run / f"{self.env_id}.zip").is_file()

    def start(self) -> "subprocess.Popen[bytes] | ForkedProcess":
        """Start it, or resume it if there is a checkpoint."""
        if any(self.checkpoints.glob("checkpoint_*.zip")):
            return self._zoo("train", "--resume", str(self.run.resolve()))
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        (self.folder / "run.yml").write_text(yaml.safe_dump({self.env_id: SCENARIOS[self.env_id]}))
        evaluation = ("1000", "--eval-episodes", "2") if self.env_id in EVALUATED else ("-1",)
        return self._zoo(
            *("train", "--algo", "mdpo", "--env", self.env_id, "-conf", "run.yml", "-f", "logs", "-tb", "tb"),
            *("--seed", "1", "--device", "cpu", "--num-threads", "1", "--verbose", "0", "--eval-freq", *evaluation),
        )

    def _zoo(self, *arguments: str) -> "subprocess.Popen[bytes] | ForkedProcess":
        command = ["-m", "sb3_mdpo.zoo", *arguments]
        if self.forked:
            return ForkedProcess(["python", *command], self.folder)
        with (self.folder / "output.txt").open("ab") as output:
            return subprocess.Popen(
                [sys.executable, *command],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
            )

    def finish(self) -> None:
        self.start().wait()
        self.check()

    def check(self) -> None:
        if not self.is_complete:
            raise RuntimeError(f"{self.folder} has ended early:\n{(self.folder / 'output.txt').read_text()[-3000:]}")


class ForkedProcess:
    """A command of :mod:`tests.support.commands` with the methods of ``Popen`` that are needed here."""

    def __init__(self, argv: list[str], folder: Path) -> None:
        outputs = [Path(os.devnull), folder.resolve() / "output.txt"]
        self._process = commands._context.Process(target=commands._execute, args=(argv, folder, {}, outputs))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("forked process", timeout or 0)
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()


Process = subprocess.Popen[bytes] | ForkedProcess


def kill_at_a_moment(process: Process, seconds: float) -> bool:
    """Kill a training after some seconds, unless it has ended: whether it was killed."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    return False


def kill_while_writing(process: Process, checkpoints: Path, skip: int, patience: float = 120) -> bool:
    """Kill a training while a checkpoint is half written, after ``skip`` others: False if it ended before."""
    deadline = time.monotonic() + patience
    seen: set[str] = set()
    while process.poll() is None and time.monotonic() < deadline:
        writing = {path.name for path in checkpoints.glob(f".*.{process.pid}.tmp")}
        seen |= writing
        if writing and len(seen) > skip:
            process.kill()
            process.wait()
            return True
        with suppress(subprocess.TimeoutExpired):
            process.wait(1e-4)  # its end; the processor is the training's meanwhile
    if process.poll() is None:
        process.kill()
        process.wait()
        raise TimeoutError(f"No checkpoint was written to {checkpoints} in {patience} s.")
    return False


def run_with_kills(training: Training, kills: int, rng: random.Random, seconds: float) -> list[str]:
    """
    Kill a training again and again, every other time while it writes a checkpoint, then let it finish.

    :param seconds: duration of the undisturbed training, its start included
    :return: how each process ended: "killed while writing", "killed at 3.2 s", "complete"
    """
    attempts = []
    for number in range(kills):
        process = training.start()
        if number % 2:
            moment = rng.uniform(0, seconds)
            attempts.append(f"killed at {moment:.1f} s" if kill_at_a_moment(process, moment) else "complete")
        else:
            killed = kill_while_writing(process, training.checkpoints, rng.randrange(4))
            attempts.append("killed while writing" if killed else "complete")
        if attempts[-1] == "complete":
            training.check()
            return attempts
    training.finish()
    return attempts


def differences(one: Training, other: Training) -> list[str]:
    """Results of two complete trainings that differ, apart from times."""
    found = [name for name in ("policy.pth", "policy.optimizer.pth") if _tensors(one, name) != _tensors(other, name)]
    contents = [
        {"statistics": _statistics(it), "events": events(next(it.folder.glob("tb/*/*"))), **tables(it.run)}
        for it in (one, other)
    ]
    names = sorted(contents[0].keys() | contents[1].keys())
    return found + [name for name in names if contents[0].get(name) != contents[1].get(name)]


def _tensors(training: Training, name: str) -> Any:
    with zipfile.ZipFile(training.run / f"{training.env_id}.zip") as archive:
        content = th.load(BytesIO(archive.read(name)), weights_only=False)
    return tree_map_only(th.Tensor, lambda tensor: tensor.numpy().tobytes(), content)


def _statistics(training: Training) -> list[list[float]]:
    normalize = pickle.loads((training.run / training.env_id / "vecnormalize.pkl").read_bytes())
    means = [normalize.ret_rms] + ([normalize.obs_rms] if normalize.norm_obs else [])
    return [[*np.ravel(one.mean), *np.ravel(one.var), one.count] for one in means]


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values of all scalars in TensorBoard's files, apart from times."""
    accumulator = EventAccumulator(str(folder), purge_orphaned_data=False)  # it would hide repeated steps
    accumulator.Reload()
    tags = [tag for tag in accumulator.Tags()["scalars"] if tag not in TIMES]
    # TensorBoard reads files in the order of their names, not in that of their creation within a second
    return {tag: sorted((event.step, event.value) for event in accumulator.Scalars(tag)) for tag in tags}


def tables(folder: Path) -> dict[str, Any]:
    """Content of the CSV and NumPy files of logs and evaluations, apart from times."""
    found: dict[str, Any] = {}
    for path in folder.glob("*.csv"):
        lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        found[path.name] = [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(lines)]
    for path in folder.glob("evaluations.npz"):
        with np.load(path) as arrays:
            found[path.name] = {name: arrays[name].tolist() for name in arrays.files}
    return found
