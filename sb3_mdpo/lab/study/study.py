"""``sb3-mdpo study``: run what is missing of a study, and show its progress."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import get_args

from tqdm import tqdm

from sb3_mdpo.lab.study.config import Study
from sb3_mdpo.lab.study.folder import COPY, LOG, State, StudyFolder
from sb3_mdpo.lab.study.runner import Engine, run_all
from sb3_mdpo.lab.study.runs import PlannedRun, plan_runs
from sb3_mdpo.utils.atomic import replacing
from sb3_mdpo.utils.terminal import text_table

STATES: tuple[State, ...] = get_args(State)
Part = tuple[int, int]  # 2, 3: the second of three


def run_study(
    study: Study,
    file: Path,
    output: Path | None = None,
    *,
    jobs: int | None = None,
    threads: int | None = None,
    device: str | None = None,
    engine: Engine = run_all,
    only: Part | None = None,
) -> int:
    """
    Train the runs of a study that are not complete, including those that failed before, and collect all evaluations in
    ``results.csv`` as the runs complete.

    :param study: the study
    :param file: its file, which is copied to the folder
    :param output: its folder, ``studies/<name>`` by default
    :param jobs: runs at the same time, instead of the study's number
    :param threads: PyTorch's threads in each, instead of the study's number
    :param device: PyTorch device, instead of the study's
    :param engine: executes the runs: on this machine by default, or
        :func:`~sb3_mdpo.lab.study.ray_engine.on_ray`
    :param only: ``(i, n)`` trains every n-th run of the study from the i-th on, with i from 1 to n, so that n commands
        share the study
    :return: number of failed runs
    :raises ValueError: if the folder holds another study, or a complete run was trained with other settings than the
        study has now or has lost a file
    :raises OSError: if another command trains one of these runs
    """
    folder = StudyFolder(output or Path("studies") / study.name)
    runs = plan_runs(study)
    folder.check(runs)
    mine = runs if only is None else runs[only[0] - 1 :: only[1]]
    with folder.claimed(mine) as missing:
        with folder.locked(), replacing(folder.path / COPY) as copy:
            copy.write(file.read_bytes())
        n_failed = 0
        bar = tqdm(total=len(mine), initial=len(mine) - len(missing), desc=study.name, unit="run")
        given = {"jobs": jobs or study.jobs, "threads": threads or study.threads, "device": device or study.device}
        outcomes = engine(study.model_copy(update=given), missing, folder)
        with bar, closing(outcomes):
            for run, outcome in outcomes:
                if outcome == "done":
                    folder.write_results(runs)
                    bar.update()
                else:
                    n_failed += 1
                    # A killed run stays unfinished: the next start resumes it
                    log = (folder.failed(run) if outcome == "failed" else folder.unfinished(run)) / LOG
                    ended = "failed" if outcome == "failed" else "was killed"
                    bar.write(f"{run.name} {ended}, the end of {log}:\n{tail(log)}\n")
        n_done = sum(folder.complete(run).is_dir() for run in runs)
        results = f", evaluations are in {folder.write_results(runs)}" if n_done else ""
    part = "" if only is None else f"{len(mine) - n_failed} of {len(mine)} runs of part {only[0]}/{only[1]} and "
    print(f"{part}{n_done} of {len(runs)} runs are complete{results}.")
    return n_failed


def tail(log: Path, n_lines: int = 8) -> str:
    """The last lines of a text file that are not empty."""
    lines = [line.rstrip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return "\n".join(lines[-n_lines:])


def study_status(study: Study, output: Path | None = None, jobs: int | None = None) -> str:
    """
    :param study: the study
    :param output: its folder, ``studies/<name>`` by default
    :param jobs: runs at the same time, for the remaining time, instead of the study's number
    :return: number of runs in each state as text, what is known of those that are not complete, and an estimate of the
        remaining time
    """
    folder = StudyFolder(output or Path("studies") / study.name)
    trained_now = folder.trained_now()
    progress = [progress_of(run, folder, trained_now) for run in plan_runs(study)]
    lines = [table(progress)]
    for state, describe in DETAILS.items():
        lines += [f"{state}: {describe(one, folder)}" for one in progress if one.state == state]
    if any(one.missing_timesteps for one in progress):
        seconds = remaining_seconds(progress, jobs or study.jobs)
        lines.append(
            "remaining: not known yet" if seconds is None else f"remaining: about {timedelta(seconds=round(seconds))}"
        )
    return "\n".join(lines)


@dataclass(frozen=True)
class Progress:
    """
    :param run: a run
    :param state: its state
    :param timesteps: environment steps until its last evaluation
    :param seconds: seconds until then
    :param steps: environment steps that need not be repeated, None for those until the last evaluation
    """

    run: PlannedRun
    state: State
    timesteps: int = 0
    seconds: float = 0.0
    steps: int | None = None

    @property
    def done_timesteps(self) -> int:
        return self.timesteps if self.steps is None else self.steps

    @property
    def missing_timesteps(self) -> int:
        return 0 if self.state == "done" else max(0, self.run.n_timesteps - self.done_timesteps)


def progress_of(run: PlannedRun, folder: StudyFolder, trained_now: Collection[str]) -> Progress:
    """What is known of a run, given the names of those that are being trained."""
    state = folder.state(run, trained_now)
    if state == "done":
        return Progress(run, state, *folder.budget(run))
    if state == "running":
        timesteps, seconds = folder.budget(run)
        return Progress(run, state, timesteps, seconds, max(timesteps, folder.saved_timesteps(run)))
    if state == "interrupted" and folder.resumable(run) is not None:
        return Progress(run, state, *folder.budget(run), folder.saved_timesteps(run))
    return Progress(run, state)


def _half_done(one: Progress, folder: StudyFolder) -> str:
    if one.state == "interrupted" and one.steps is None:
        why = "it has no checkpoint" if folder.same_settings(one.run) else "its settings have changed"
        return f"{one.run.name}, starts again: {why}"
    return f"{one.run.name}, {one.done_timesteps} of {one.run.n_timesteps} steps"


DETAILS: dict[State, Callable[[Progress, StudyFolder], str]] = {
    "running": _half_done,
    "interrupted": _half_done,
    "failed": lambda one, folder: str(folder.failed(one.run) / LOG),
    "damaged": lambda one, folder: folder.damage(one.run),
}


def remaining_seconds(progress: Sequence[Progress], jobs: int) -> float | None:
    """
    Estimate the remaining time from the seconds per environment step of each method so far, or of all methods if a
    method has not started; None if nothing has been evaluated yet.
    """
    if not any(one.timesteps for one in progress):
        return None

    def rate(method: str) -> float:
        done = [one for one in progress if one.run.method == method and one.timesteps] or progress
        return sum(one.seconds for one in done) / sum(one.timesteps for one in done)

    work = [one.missing_timesteps * rate(one.run.method) for one in progress]
    return max(sum(work) / jobs, *work)


def table(progress: Sequence[Progress]) -> str:
    """Number of runs in each state, one line per environment, number of levels and method."""
    counts: dict[tuple[str, str, str], Counter[State]] = {}
    for one in progress:
        key = (one.run.env_id, str(one.run.num_levels), one.run.method)
        counts.setdefault(key, Counter())[one.state] += 1
    rows = [(*key, *(str(count[state] or "-") for state in STATES)) for key, count in counts.items()]
    return text_table(("environment", "levels", "method", *STATES), rows, left=(0, 2))
