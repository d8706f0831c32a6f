"""Which run a job of torchrun has started, so that restarted processes resume it."""

import argparse
import os
import shlex
import socket
import sys
from pathlib import Path

from sb3_mdpo.persistence.checkpoints.archive import checkpoints
from sb3_mdpo.persistence.checkpoints.callback import FOLDER
from sb3_mdpo.utils.atomic import replacing
from sb3_mdpo.utils.yaml_files import read_text

JOB = "torchrun.txt"  # in the run folder: the id of the job, and the command line of the zoo
NO_ID = "none"  # torchrun without --rdzv-id


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
