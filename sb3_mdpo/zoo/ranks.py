"""``torchrun ... -m sb3_mdpo.zoo train``: one run of the zoo, on one process or several."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from torch.distributed import is_torchelastic_launched

from sb3_mdpo.checkpoints import ResumableCheckpointCallback
from sb3_mdpo.distributed.launch import process_group
from sb3_mdpo.ranks import current_ranks
from sb3_mdpo.saving import replacing

JOB = "torchrun.txt"  # in the run folder: the job that it belongs to
NO_ID = "none"  # of torchrun without --rdzv-id


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


def for_all_ranks(manager: Any, finds_run: bool = True) -> Any:
    """
    :param manager: the zoo's ``ExperimentManager``, or a subclass
    :param finds_run: whether to go on with the run that earlier processes of this job began
    :return: a subclass that has its share of the training environments in every process, while the first one
        evaluates and writes; the class itself without torchrun
    """
    alone = current_ranks().size == 1 and not is_torchelastic_launched()
    return manager if alone else type("SharedExperiment", (_Shared, manager), {"finds_run": finds_run})


class _Shared:
    """What is different in an experiment of torchrun; comes before the zoo's ``ExperimentManager``."""

    finds_run: bool
    save_path: str
    seed: int
    callbacks: list[Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ranks = current_ranks()
        manager: Any = self
        if self.ranks.size > 1 and (manager.algo != "mdpo" or manager.optimize_hyperparameters):
            raise ValueError("torchrun trains --algo mdpo on several processes, without -optimize: start it alone.")
        finds = self._writes and self.finds_run
        earlier = _run_of_job(Path(manager.log_path), manager.env_name) if finds else None
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
        if self._writes and not self.resumes:  # else they are there
            super()._save_config(saved_hyperparams)  # type: ignore[misc]
            with replacing(Path(self.save_path) / JOB) as file:
                file.write(_job().encode())

    def save_trained_model(self, model: Any) -> None:
        if self._writes:
            super().save_trained_model(model)  # type: ignore[misc]


def _job() -> str:
    """What all attempts of one job of torchrun have in common, and no other job."""
    return f"{socket.gethostname()} {os.getppid()}" if _is_nameless() else os.environ["TORCHELASTIC_RUN_ID"]


def _is_nameless() -> bool:
    return os.environ.get("TORCHELASTIC_RUN_ID", NO_ID) == NO_ID


def _run_of_job(log_path: Path, env_name: str) -> Path | None:
    """The run folder that earlier processes of this job had."""
    if _is_nameless() and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
        return None  # an earlier launcher can have had the number of ours
    runs = [file for file in log_path.glob(f"{env_name}_*/{JOB}") if file.read_text() == _job()]
    return max(runs, key=lambda file: file.stat().st_mtime).parent if runs else None
