"""The run of a torchrun job, which its restarted processes resume."""

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
    """A name that all attempts of a torchrun job share, and no other job; None without torchrun."""
    run_id = os.environ.get("TORCHELASTIC_RUN_ID")
    if run_id != NO_ID:
        return run_id
    reports = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if reports:  # FOLDER/attempt_0/0/error.json in a folder with a new random name
        return Path(reports).parents[2].name
    return f"{socket.gethostname()} {os.getppid()}"


def sign(run: Path) -> None:
    """Write the job that started a run to its folder, unless it is there already."""
    name = job()
    if name and not (run / JOB).exists():
        with replacing(run / JOB) as file:
            file.write(f"{name}\n{_command()}\n".encode())


def resumable_run() -> Path | None:
    """
    Folder of the run that this job started, if it has checkpoints.

    :raises ValueError: if another command started it, or it cannot be distinguished from runs of other jobs
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
            f"--rdzv-id={name} is the id of {run}, which was started with `{then}`: repeat this command to resume it, "
            "or choose a new id."
        )
    return run


def _is_first_of_nameless() -> bool:
    """Whether this is the first attempt of a job without --rdzv-id: matching runs are of earlier launchers."""
    if os.environ["TORCHELASTIC_RUN_ID"] != NO_ID:
        return False
    if os.environ.get("GROUP_WORLD_SIZE", "1") != "1":  # each machine counts its own restarts
        raise ValueError("on several machines torchrun needs a --rdzv-id, new for every run, to find it again.")
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"


def _command() -> str:
    return shlex.join(sys.orig_argv)  # the zoo changes sys.argv


def _log_folder() -> Path:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-f", "--log-folder", type=Path, default=Path("logs"))
    folder: Path = parser.parse_known_args(sys.orig_argv)[0].log_folder
    return folder
