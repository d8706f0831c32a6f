"""Execute runs on this machine."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
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
    Train one run with the zoo's command in another process, from the last checkpoint if there is one, and move its
    folder to its place in the study. A run that was killed, or that the polled function stopped, can be resumed.
    """
    work = folder.unfinished(run)
    begun = folder.resumable(run)
    if begun is None:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        with replacing(work / CONF) as file:
            file.write(yaml.safe_dump(run.conf).encode())
        arguments = run.arguments
    else:
        arguments = ["train", "--resume", str(begun.relative_to(work))]
    command = [sys.executable, "-m", "sb3_mdpo.lab.study.parent_watchdog", sys.executable, "-m", "sb3_mdpo.zoo"]
    with (work / LOG).open("ab") as log:
        process = subprocess.Popen(
            [*command, *arguments, "--device", device, "--num-threads", str(threads)],
            cwd=work,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": str(threads)},
            start_new_session=True,  # Ctrl-C must not reach the zoo, which would save half a training as a complete one
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
    finally:  # also if interrupted
        process.stdin.close()
        process.wait()
    if code < 0 or code > KILLED:
        return "interrupted"
    shutil.rmtree(folder.failed(run), ignore_errors=True)
    # The zoo exits with 0 after an interruption, too
    if code != 0 or folder.budget(run)[0] < run.n_timesteps:
        folder.failed(run).parent.mkdir(exist_ok=True)
        work.rename(folder.failed(run))
        return "failed"
    (produced,) = work.glob(f"{run.algo}/*")  # the zoo's run folder, mdpo/<env>_1
    for path in produced.iterdir():
        path.rename(work / path.name)
    shutil.rmtree(work / run.algo)
    shutil.rmtree(work / CHECKPOINTS, ignore_errors=True)
    work.rename(folder.complete(run))
    return "done"


def run_all(
    study: Study, runs: Sequence[PlannedRun], folder: StudyFolder
) -> Generator[tuple[PlannedRun, Outcome], None, None]:
    """Execute runs, ``study.jobs`` at a time. Closing the iterator, or an interrupt, ends the running ones."""
    stop = threading.Event()
    pool = ThreadPoolExecutor(study.jobs)
    try:
        futures = {pool.submit(execute, run, folder, study.threads, study.device, stop.is_set): run for run in runs}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
