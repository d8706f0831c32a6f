"""Which run a job of torchrun has begun, so that processes that it starts again go on with it."""

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

JOB = "torchrun.txt"  # in the run folder: the job, and the zoo's command line
NO_ID = "none"  # of torchrun without --rdzv-id


def job() -> str | None:
    """
    :return: what all attempts of a job of torchrun have in common, and no other job; None without torchrun
    """
    run_id = os.environ.get("TORCHELASTIC_RUN_ID")
    return _launcher() if run_id == NO_ID else run_id


def _launcher() -> str:
    """A word for the torchrun that has started this process."""
    reports = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if reports:  # FOLDER/attempt_0/0/error.json in a folder with a new random name
        return Path(reports).parents[2].name
    return f"{socket.gethostname()} {os.getppid()}"


def sign(run: Path) -> None:
    """
    Write down which job has begun a run, where torchrun has. One that goes on with it changes nothing.

    :param run: its folder
    """
    name = job()
    if name and not (run / JOB).exists():
        with replacing(run / JOB) as file:
            file.write(f"{name}\n{_command()}\n".encode())


def run_to_go_on_with() -> Path | None:
    """
    :return: folder of the run that this job has begun, if it has checkpoints
    :raises ValueError: if it was begun by another command, or could not be told from those of other jobs
    """
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
            f"--rdzv-id={name} is that of {run}, which was begun as `{then}`: repeat that to go on with it, or "
            "give every training an id of its own."
        )
    return run


def _is_first_of_nameless() -> bool:
    """Whether runs of jobs without --rdzv-id can only be those of earlier launchers with the number of ours."""
    if os.environ["TORCHELASTIC_RUN_ID"] != NO_ID:
        return False
    if os.environ.get("GROUP_WORLD_SIZE", "1") != "1":  # each counts its own restarts
        raise ValueError("on several machines torchrun needs a --rdzv-id, new for every run: restarts find it by that.")
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"


def _command() -> str:
    return shlex.join(sys.orig_argv)  # the zoo changes sys.argv


def _log_folder() -> Path:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-f", "--log-folder", type=Path, default=Path("logs"))
    folder: Path = parser.parse_known_args(sys.orig_argv)[0].log_folder
    return folder
