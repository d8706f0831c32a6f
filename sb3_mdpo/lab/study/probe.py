"""What a run needs of this machine: a real run of the zoo that is ended after a few rollouts."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch as th
import yaml

from sb3_mdpo.lab.generalization.callback import GeneralizationEvalCallback
from sb3_mdpo.lab.study.costs import evaluation_of, steps_per_rollout
from sb3_mdpo.lab.study.folder import LOG
from sb3_mdpo.lab.study.runs import CONF, PlannedRun
from sb3_mdpo.persistence.checkpoints.callback import FOLDER as CHECKPOINTS
from sb3_mdpo.utils.atomic import replacing
from sb3_mdpo.utils.terminal import one_line

RESULT = "probe.json"
PROBE = "sb3_mdpo.lab.study.probe.ProbeCallback"
RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
# Beside its values a parameter has a gradient and two moments of Adam
OTHERS_OF_A_PARAMETER = 3


@dataclass(frozen=True)
class Needs:
    """
    :param start_seconds: until the training begins, and after it has ended
    :param rollout_seconds: a rollout and its update
    :param evaluation_seconds: an evaluation
    :param memory: largest memory of the process, in bytes
    :param gpu_memory: largest memory on the GPU, in bytes, 0 without one
    :param model: size of a saved model, in bytes
    :param checkpoint: size of a checkpoint, in bytes
    :param monitor: bytes of the monitor file per environment step, None where nothing was trained
    :param log: bytes of the log per rollout, None where nothing was trained
    """

    start_seconds: float
    rollout_seconds: float | None
    evaluation_seconds: float | None
    memory: int
    gpu_memory: int
    model: int
    checkpoint: int
    monitor: float | None
    log: float | None


class ProbeCallback(GeneralizationEvalCallback):
    """
    Evaluates as its parent does, and writes what the training takes of time and memory to ``probe.json``.

    :param rollouts: rollouts to train for; with 0, training ends at its first step, nothing is evaluated, and memory
        is counted that it would have come to use
    :param kwargs: arguments of :class:`~sb3_mdpo.lab.generalization.callback.GeneralizationEvalCallback`
    """

    def __init__(self, rollouts: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rollouts = rollouts
        self._began = 0.0
        self._evaluations: list[float] = []
        self._rollouts: list[float] = []
        self._rollout_began: float | None = None

    def _on_training_start(self) -> None:
        self._began = time.perf_counter()
        super()._on_training_start()

    def _on_rollout_start(self) -> None:
        self._end_rollout()
        super()._on_rollout_start()
        self._rollout_began = time.perf_counter()

    def _on_step(self) -> bool:
        return super()._on_step() and self.rollouts > 0

    def _evaluate(self) -> None:
        if not self.rollouts:
            self._evaluated_at = self.model.num_timesteps
            return
        start = time.perf_counter()
        super()._evaluate()
        self._evaluations.append(time.perf_counter() - start)

    def _on_training_end(self) -> None:
        if not self._meter.running:
            return
        self._end_rollout()
        super()._on_training_end()
        measured = {
            "seconds": time.perf_counter() - self._began,
            "rollouts": self._rollouts,
            "evaluations": self._evaluations,
            "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT + self._not_used_yet(),
            "gpu_memory": th.cuda.max_memory_reserved() if th.cuda.is_available() else 0,
        }
        with replacing(self._table.parent / RESULT) as file:
            file.write(json.dumps(measured).encode())

    def _end_rollout(self) -> None:
        if self._rollout_began is not None:
            self._rollouts.append(time.perf_counter() - self._rollout_began)
            self._rollout_began = None

    def _not_used_yet(self) -> int:
        """Arrays take memory when they are written to; gradients and moments are made by the first update."""
        if self.rollouts:
            return 0
        buffer: Any = self.model.rollout_buffer  # type: ignore[attr-defined]
        arrays = sum(array.nbytes for array in vars(buffer).values() if isinstance(array, np.ndarray))
        parameters = sum(p.numel() * p.element_size() for p in self.model.policy.parameters())
        return arrays + (OTHERS_OF_A_PARAMETER * parameters if self.model.device.type == "cpu" else 0)


def probe(run: PlannedRun, rollouts: int, threads: int, device: str) -> Needs:
    """
    Train for a few rollouts with the zoo's own command, with an evaluation before and one after them.

    :param run: the run
    :param rollouts: how many, 0 to measure sizes only
    :param threads: PyTorch's threads
    :param device: PyTorch device
    :return: what was measured
    :raises ValueError: where the training fails, with the end of what it said
    """
    short = _shortened(run, rollouts)
    with TemporaryDirectory(prefix="sb3_mdpo_") as scratch:
        work = Path(scratch)
        (work / CONF).write_text(yaml.safe_dump(short.conf))
        command = [sys.executable, "-m", "sb3_mdpo.zoo", *short.arguments(threads, device)]
        start = time.perf_counter()
        with (work / LOG).open("wb") as log:
            environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
            ended = subprocess.run(
                command, cwd=work, stdout=log, stderr=subprocess.STDOUT, env=environment, check=False
            )
        seconds = time.perf_counter() - start
        results = list(work.glob(f"mdpo/*/{RESULT}"))
        if ended.returncode or not results:
            raise ValueError(f"{run.name} cannot be tried: {one_line((work / LOG).read_text(errors='replace')[-500:])}")
        return _needs(json.loads(results[0].read_text()), seconds, work, results[0].parent, short)


def _shortened(run: PlannedRun, rollouts: int) -> PlannedRun:
    steps = max(1, rollouts * steps_per_rollout(run))
    evaluation = evaluation_of(run) | {"eval_freq": 2 * steps}  # before the training and after it
    callbacks = [*run.hyperparams["callback"][:-1], {PROBE: evaluation | {"rollouts": rollouts}}]
    return replace(run, hyperparams=run.hyperparams | {"n_timesteps": steps, "callback": callbacks})


def _needs(measured: dict[str, Any], seconds: float, work: Path, folder: Path, run: PlannedRun) -> Needs:
    # The first rollout warms up caches and allocators: it is left out where there are others
    rollouts = measured["rollouts"][1:] or measured["rollouts"]
    is_timed = bool(measured["evaluations"])
    return Needs(
        start_seconds=seconds - measured["seconds"],
        rollout_seconds=float(np.mean(rollouts)) if is_timed else None,
        evaluation_seconds=float(np.mean(measured["evaluations"])) if is_timed else None,
        memory=measured["memory"],
        gpu_memory=measured["gpu_memory"],
        model=_size([folder / f"{run.env_id.replace('/', '-')}.zip"]),
        checkpoint=max((_size([path]) for path in (folder / CHECKPOINTS).glob("*.zip")), default=0),
        monitor=_size(folder.glob("*monitor.csv")) / run.n_timesteps if is_timed else None,
        log=_size([work / LOG]) / len(measured["rollouts"]) if is_timed else None,
    )


def _size(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths)
