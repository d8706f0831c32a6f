"""How far a study has come."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sb3_mdpo.lab.study.folder import State, StudyFolder
from sb3_mdpo.lab.study.runs import PlannedRun
from sb3_mdpo.utils.terminal import text_table

STATES: tuple[State, ...] = ("done", "running", "failed", "missing")


@dataclass(frozen=True)
class Progress:
    """
    :param run: a run
    :param state: its state
    :param timesteps: environment steps at its last evaluation
    :param seconds: wall time until then
    """

    run: PlannedRun
    state: State
    timesteps: int = 0
    seconds: float = 0.0

    @property
    def missing_timesteps(self) -> int:
        """Environment steps that are still to be done."""
        return 0 if self.state == "done" else max(0, self.run.n_timesteps - self.timesteps)


def progress_of(folder: StudyFolder, runs: Sequence[PlannedRun]) -> list[Progress]:
    """
    :param folder: the study's folder
    :param runs: the runs of the study
    :return: how far each of them is
    """
    is_running = folder.is_running()
    states = {run.name: folder.state(run, is_running) for run in runs}
    return [
        Progress(run, states[run.name], *folder.budget(run))
        if states[run.name] in ("done", "running")
        else Progress(run, states[run.name])
        for run in runs
    ]


def remaining_seconds(progress: Sequence[Progress], jobs: int) -> float | None:
    """
    How long the rest takes if it takes as long per environment step as what has been done by the same method,
    or by all methods where one has done nothing yet.

    :param progress: all runs
    :param jobs: runs at the same time
    :return: an estimate in seconds, None as long as nothing has been evaluated
    """
    steps: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    for one in progress:
        for key in (one.run.method, ""):
            steps[key] += one.timesteps
            seconds[key] += one.seconds  # type: ignore[assignment]
    if not steps[""]:
        return None

    def rate(method: str) -> float:
        key = method if steps[method] else ""
        return seconds[key] / steps[key]

    work = [one.missing_timesteps * rate(one.run.method) for one in progress]
    return max(sum(work) / jobs, *work) if work else 0.0


def table(progress: Sequence[Progress]) -> str:
    """
    :param progress: all runs
    :return: for people: a line per environment, number of levels and method
    """
    counts: dict[tuple[str, str, str], Counter[State]] = {}
    for one in progress:
        key = (one.run.env_id, str(one.run.num_levels), one.run.method)
        counts.setdefault(key, Counter())[one.state] += 1
    rows = [(*key, *(str(count[state] or "-") for state in STATES)) for key, count in counts.items()]
    return text_table(("environment", "levels", "method", *STATES), rows, left=(0, 2))
