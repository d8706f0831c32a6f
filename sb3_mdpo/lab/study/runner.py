"""A single run, from nothing to its folder, and a pool of them."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Literal

import yaml

from sb3_mdpo.lab.study.config import Study
from sb3_mdpo.lab.study.folder import LOG, StudyFolder
from sb3_mdpo.lab.study.runs import CONF, PlannedRun
from sb3_mdpo.persistence.checkpoints.callback import FOLDER as CHECKPOINTS
from sb3_mdpo.utils.atomic import replacing

Outcome = Literal["done", "failed", "interrupted"]
Engine = Callable[[Study, Sequence[PlannedRun], StudyFolder], Generator[tuple[PlannedRun, Outcome], None, None]]
POLL_SECONDS = 0.2
KILLED = 128  # exit codes of the watchdog above it: a signal ended the training; negative: the watchdog itself


def execute(
    run: PlannedRun, folder: StudyFolder, threads: int, device: str, stopped: Callable[[], bool] = lambda: False
) -> Outcome:
    """
    Train one run with the zoo's own command, in a process of its own, from the last checkpoint of an earlier attempt
    if there is one. Its folder appears in the study when it is complete.

    :param run: the run
    :param folder: the study's folder
    :param threads: PyTorch's threads
    :param device: PyTorch device
    :param stopped: asked now and then whether to give up
    :return: how it ended; a training that was killed counts as interrupted and can resume
    """
    work = folder.unfinished(run)
    begun = folder.resumable(run)
    if begun is None:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        with replacing(work / CONF) as file:
            file.write(yaml.safe_dump(run.conf).encode())
        arguments = run.arguments(threads, device)
    else:
        arguments = ["train", "--resume", str(begun.relative_to(work)), *run.hardware(threads, device)]
    command = [sys.executable, "-m", "sb3_mdpo.lab.study.parent_watchdog", sys.executable, "-m", "sb3_mdpo.zoo"]
    with (work / LOG).open("ab") as log:
        process = subprocess.Popen(
            [*command, *arguments],
            cwd=work,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": str(threads)},
            start_new_session=True,  # Ctrl-C is for the runner: the zoo would save half a training as if it were whole
        )
    assert process.stdin is not None
    try:
        while True:
            try:
                code = process.wait(POLL_SECONDS)
                break
            except subprocess.TimeoutExpired:
                if stopped():
                    return "interrupted"
    finally:  # whatever it is, an interrupt too
        process.stdin.close()
        process.wait()
    if code < 0 or code > KILLED:
        return "interrupted"
    shutil.rmtree(folder.failed(run), ignore_errors=True)
    # An interrupted training of the zoo saves its model and succeeds, too early
    if code != 0 or folder.budget(run)[0] < run.n_timesteps:
        folder.failed(run).parent.mkdir(exist_ok=True)
        work.rename(folder.failed(run))
        return "failed"
    (produced,) = work.glob("mdpo/*")  # the run folder as the zoo knows it, mdpo/<env>_1
    for path in produced.iterdir():
        path.rename(work / path.name)
    shutil.rmtree(work / "mdpo")
    shutil.rmtree(work / CHECKPOINTS, ignore_errors=True)  # not needed any more
    work.rename(folder.complete(run))
    return "done"


def run_all(
    study: Study, runs: Sequence[PlannedRun], folder: StudyFolder
) -> Generator[tuple[PlannedRun, Outcome], None, None]:
    """
    Execute runs, several at a time, on this machine.

    :param study: the study, whose jobs, threads and device are used
    :param runs: the runs
    :param folder: the study's folder
    :return: each run with how it ended, as they end. When nobody wants the rest any more (the iterator is closed, or
        an interrupt), those under way are ended
    """
    stop = threading.Event()
    pool = ThreadPoolExecutor(study.jobs)
    try:
        futures = {pool.submit(execute, run, folder, study.threads, study.device, stop.is_set): run for run in runs}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def tail(log: Path, n_lines: int = 8) -> str:
    """
    :param log: text file
    :param n_lines: number of lines
    :return: its last lines that are not empty
    """
    lines = [line.rstrip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return "\n".join(lines[-n_lines:])
