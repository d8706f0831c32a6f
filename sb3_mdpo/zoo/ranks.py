"""``torchrun ... -m sb3_mdpo.zoo train``: one run of the zoo on several processes."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from sb3_mdpo.checkpoints import ResumableCheckpointCallback
from sb3_mdpo.distributed.launch import process_group, times_restarted
from sb3_mdpo.ranks import current_ranks
from sb3_mdpo.saving import replacing

LAUNCH = "torchrun.txt"  # in the run folder: what started it


@contextmanager
def launched() -> Iterator[None]:
    """
    Train on all processes that torchrun has started. Only the first one prints, and is tracked.

    :return: context manager in which the zoo may train
    """
    with process_group() as ranks:
        from rl_zoo3 import train

        train.ExperimentManager = for_all_ranks(train.ExperimentManager)
        if ranks.rank == 0:
            yield
            return
        os.environ["WANDB_MODE"] = "disabled"
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            yield


def for_all_ranks(manager: Any) -> Any:
    """
    :param manager: the zoo's ``ExperimentManager``, or a subclass
    :return: a subclass that has its share of the training environments in every process, while the first one
        evaluates and writes; the class itself where there is one process only
    """
    return manager if current_ranks().size == 1 else type("SharedExperiment", (_Shared, manager), {})


class _Shared:
    """What is different in an experiment on several processes; comes before the zoo's ``ExperimentManager``."""

    save_path: str
    seed: int
    callbacks: list[Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ranks = current_ranks()
        manager: Any = self
        if manager.algo != "mdpo" or manager.optimize_hyperparameters:
            raise ValueError("torchrun trains --algo mdpo on several processes, without -optimize: start it alone.")
        earlier = _earlier_attempt(Path(manager.log_path), manager.env_name) if self._writes else None
        save_path = str(earlier or self.save_path)
        self.seed, self.save_path, self.resumes = self.ranks.broadcast((self.seed, save_path, bool(earlier)))
        manager.params_path = f"{self.save_path}/{manager.env_name}"
        if not self._writes:
            manager.eval_freq = manager.save_freq = -1
            manager.show_progress = False

    @property
    def _writes(self) -> bool:
        return self.ranks.rank == 0

    def create_envs(self, n_envs: int, eval_env: bool = False, no_log: bool = False) -> Any:
        share = n_envs if eval_env else self.ranks.share(n_envs, "n_envs")
        return super().create_envs(share, eval_env, no_log or not self._writes)  # type: ignore[misc]

    def create_callbacks(self) -> None:
        super().create_callbacks()  # type: ignore[misc]
        checkpoints = [one for one in self.callbacks if isinstance(one, ResumableCheckpointCallback)]
        if self.resumes and self._writes and not checkpoints:
            print("Restarted: there are no checkpoints to go on from, training begins anew.", file=sys.stderr)
        for callback in checkpoints if self.resumes else []:
            callback.resume = True
        self.callbacks = self.ranks.callbacks(self.callbacks)

    def _save_config(self, saved_hyperparams: dict[str, Any]) -> None:
        if self._writes:
            super()._save_config(saved_hyperparams)  # type: ignore[misc]
            with replacing(Path(self.save_path) / LAUNCH) as file:
                file.write(_launch().encode())

    def save_trained_model(self, model: Any) -> None:
        if self._writes:
            super().save_trained_model(model)  # type: ignore[misc]


def _launch() -> str:
    """What all attempts of one torchrun have in common, and no other one."""
    run_id = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    return f"{socket.gethostname()} {os.getppid()}" if run_id == "none" else run_id


def _earlier_attempt(log_path: Path, env_name: str) -> Path | None:
    """Where torchrun has started all processes again: the run folder that they had before."""
    if not times_restarted():
        return None
    ours = [file for file in log_path.glob(f"{env_name}_*/{LAUNCH}") if file.read_text() == _launch()]
    return max(ours, key=lambda file: file.stat().st_mtime).parent if ours else None
