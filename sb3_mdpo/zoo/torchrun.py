"""``torchrun ... -m sb3_mdpo.zoo train``: one run of the zoo on one process or several."""

import argparse
import os
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from sb3_mdpo.common.ranks import current_ranks
from sb3_mdpo.distributed.launch import process_group
from sb3_mdpo.persistence.checkpoints.archive import checkpoints
from sb3_mdpo.persistence.checkpoints.callback import FOLDER
from sb3_mdpo.utils.atomic import replacing
from sb3_mdpo.utils.terminal import one_line
from sb3_mdpo.utils.yaml_files import read_text

JOB = "torchrun.txt"  # in the run folder: the id of the job, and the command line of the zoo
NO_ID = "none"  # torchrun without --rdzv-id


@contextmanager
def launched() -> Iterator[None]:
    """Context manager for training on all processes of torchrun. Only the first one prints and is tracked."""
    with process_group() as ranks:
        from rl_zoo3 import train

        train.ExperimentManager = for_all_ranks(train.ExperimentManager)
        if ranks.is_first:
            yield
            return
        os.environ["WANDB_MODE"] = "disabled"
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            yield


def unfinished_run() -> Path | None:
    """The run folder that earlier processes of this job have started; ends the program if it may not be resumed."""
    ranks, run, problem = current_ranks(), None, ""
    if ranks.is_first:
        try:
            run = run_to_resume()
        except (OSError, ValueError) as error:
            problem = one_line(error)
            print(f"python -m sb3_mdpo.zoo train: {problem}", file=sys.stderr)
    run, problem = ranks.broadcast((run, problem))
    if problem:
        sys.exit(2)
    return run


def for_all_ranks(manager: Any) -> Any:
    """
    A subclass of the zoo's ``ExperimentManager`` for several processes: each one makes its share of the training
    environments, and only the first one evaluates and writes. Without torchrun, the class itself.
    """
    return manager if job() is None and current_ranks().size == 1 else type("SharedExperiment", (_Shared, manager), {})


class _Shared:
    """Mixin for experiments of torchrun, before the zoo's ``ExperimentManager``."""

    save_path: str
    seed: int
    callbacks: list[Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ranks = current_ranks()
        manager: Any = self
        if self.ranks.size > 1 and (manager.algo != "mdpo" or manager.optimize_hyperparameters):
            raise ValueError("torchrun trains --algo mdpo on several processes, without -optimize: start it alone.")
        self.seed, self.save_path = self.ranks.broadcast((self.seed, self.save_path))
        manager.params_path = f"{self.save_path}/{manager.env_name}"
        if not self.ranks.is_first:
            manager.eval_freq = manager.save_freq = -1
            manager.show_progress = False

    def create_envs(self, n_envs: int, eval_env: bool = False, no_log: bool = False) -> Any:
        share = n_envs if eval_env else self.ranks.share(n_envs, "n_envs")
        return super().create_envs(share, eval_env, no_log or not self.ranks.is_first)  # type: ignore[misc]

    def create_callbacks(self) -> None:
        super().create_callbacks()  # type: ignore[misc]
        self.callbacks = self.ranks.callbacks(self.callbacks)

    def _save_config(self, saved_hyperparams: dict[str, Any]) -> None:
        if self.ranks.is_first:
            super()._save_config(saved_hyperparams)  # type: ignore[misc]
            sign(Path(self.save_path))

    def save_trained_model(self, model: Any) -> None:
        if self.ranks.is_first:
            super().save_trained_model(model)  # type: ignore[misc]


def job() -> str | None:
    """An id that is the same for all attempts of a torchrun job and differs between jobs; None without torchrun."""
    run_id = os.environ.get("TORCHELASTIC_RUN_ID")
    return _launcher() if run_id == NO_ID else run_id


def _launcher() -> str:
    """An id of the torchrun process that has started this one."""
    reports = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if reports:  # FOLDER/attempt_0/0/error.json in a folder with a new random name
        return Path(reports).parents[2].name
    return f"{socket.gethostname()} {os.getppid()}"


def sign(run: Path) -> None:
    """Record the job in the folder of the run that it starts. Does nothing without torchrun, or if it is resumed."""
    name = job()
    if name and not (run / JOB).exists():
        with replacing(run / JOB) as file:
            file.write(f"{name}\n{_command()}\n".encode())


def run_to_resume() -> Path | None:
    """The folder of the run that this job has started, if it has checkpoints."""
    name = job()
    if name is None or _is_first_of_nameless():
        return None
    signed = {file.parent: read_text(file).splitlines() for file in sorted(_log_folder().glob(f"*/*/{JOB}"))}
    ours = [run for run, lines in signed.items() if lines[:1] == [name] and checkpoints(run / FOLDER)]
    if not ours:
        return None
    run = max(ours, key=lambda run: (run / JOB).stat().st_mtime)
    if signed[run][1:] != [_command()]:
        then = " ".join(signed[run][1:])
        raise ValueError(
            f"--rdzv-id={name} belongs to {run}, which was started with `{then}`: use the same command to resume it, "
            "or a new --rdzv-id for another run."
        )
    return run


def _is_first_of_nameless() -> bool:
    """Whether this is the first attempt without --rdzv-id: runs found would belong to earlier launchers."""
    if os.environ["TORCHELASTIC_RUN_ID"] != NO_ID:
        return False
    if os.environ.get("GROUP_WORLD_SIZE", "1") != "1":  # each machine counts its own restarts
        raise ValueError(
            "on several machines torchrun needs a --rdzv-id, new for every run: restarts find the run by it."
        )
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"


def _command() -> str:
    return shlex.join(sys.orig_argv)  # the zoo changes sys.argv


def _log_folder() -> Path:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-f", "--log-folder", type=Path, default=Path("logs"))
    folder: Path = parser.parse_known_args(sys.orig_argv)[0].log_folder
    return folder
