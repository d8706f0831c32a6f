"""A study on disk.

The place of a run's folder is its state: complete runs are in the study's folder, unfinished ones in ``unfinished``,
and those that ended with an error in ``failed``.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import yaml
from filelock import FileLock, Timeout

from sb3_mdpo.lab.generalization.results import COLUMNS, TABLE, read_table, write_table
from sb3_mdpo.lab.study.runs import CONF, PlannedRun
from sb3_mdpo.persistence.checkpoints.archive import checkpoints
from sb3_mdpo.persistence.checkpoints.callback import FOLDER as CHECKPOINTS
from sb3_mdpo.utils.yaml_files import read_mapping

State = Literal["done", "running", "failed", "missing"]
LOG, LOCK = "run.log", ".lock"
RESULTS = "results.csv"
RUN_COLUMNS = ("study", "env_id", "num_levels", "start_level", "method", "seed", "run")


class StudyFolder:
    """The study's folder, which need not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def complete(self, run: PlannedRun) -> Path:
        """Folder of a complete run."""
        return self.path / run.name

    def unfinished(self, run: PlannedRun) -> Path:
        """Folder of a run that is running or was interrupted."""
        return self.path / "unfinished" / run.name

    def failed(self, run: PlannedRun) -> Path:
        """Folder of a run that ended with an error."""
        return self.path / "failed" / run.name

    def resumable(self, run: PlannedRun) -> Path | None:
        """The zoo's folder in an unfinished run with checkpoints and unchanged settings, if there is one."""
        work = self.unfinished(run)
        conf = work / CONF
        if not conf.is_file() or read_mapping(conf) != yaml.safe_load(yaml.safe_dump(run.conf)):
            return None
        return next((path.parent for path in work.glob(f"mdpo/*/{CHECKPOINTS}") if checkpoints(path)), None)

    def state(self, run: PlannedRun, is_running: bool) -> State:
        """State of a run, given whether the study is running."""
        if self.complete(run).is_dir():
            return "done"
        if is_running and self.unfinished(run).is_dir():
            return "running"
        return "failed" if self.failed(run).is_dir() else "missing"

    def evaluations(self, run: PlannedRun) -> Path | None:
        """File with the evaluations of a complete or unfinished run, if there is one."""
        places = [self.complete(run), *self.unfinished(run).glob("mdpo/*")]
        return next((place / TABLE for place in places if (place / TABLE).is_file()), None)

    def budget(self, run: PlannedRun) -> tuple[int, float]:
        """Environment steps and seconds until the last evaluation of a run."""
        path = self.evaluations(run)
        if path is None:
            return 0, 0.0
        last = read_table(path)[-1]
        return last["timesteps"], last["seconds"] or 0.0

    def check(self, runs: Sequence[PlannedRun]) -> None:
        """Raise ``ValueError`` if a complete run was trained with other settings than the study has now."""
        for run in runs:
            conf = self.complete(run) / CONF
            if not conf.is_file():
                continue
            then = read_mapping(conf).get(run.env_id)
            if not isinstance(then, dict):
                raise ValueError(f"{conf} has no hyperparameters of {run.env_id}, the environment of {run.name}.")
            now = yaml.safe_load(yaml.safe_dump(run.hyperparams))
            for key in sorted(then.keys() | now.keys(), key=str):
                if then.get(key) != now.get(key):
                    raise ValueError(
                        f"{self.path} has a complete run {run.name} with {key} {then.get(key)}, but the study (or "
                        f"mdpo.yml) says {now.get(key)} now: undo the change, name the variant differently, or give "
                        "the study another name or folder (-o)."
                    )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the study's lock; raise ``OSError`` if another process holds it."""
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / LOCK)
        try:
            lock.acquire(timeout=1)  # longer than is_running() holds it
        except Timeout as error:
            raise OSError(f"{self.path} is being run already: wait for it, or stop it.") from error
        try:
            yield
        finally:
            lock.release()

    def is_running(self) -> bool:
        """Whether a process is running the study."""
        if not (self.path / LOCK).exists():
            return False
        try:
            with FileLock(self.path / LOCK, blocking=False):
                return False
        except Timeout:
            return True

    def write_results(self, runs: Sequence[PlannedRun]) -> Path:
        """Write the evaluations of all complete runs to ``results.csv``, in this order, and return its path."""
        rows: list[dict[str, Any]] = []
        for run in runs:
            if self.complete(run).is_dir() and (path := self.evaluations(run)) is not None:
                key = (run.study, run.env_id, run.num_levels, run.start_level, run.method, run.seed, run.name)
                about = dict(zip(RUN_COLUMNS, key, strict=True))
                rows += [about | row for row in read_table(path)]
        write_table(self.path / RESULTS, rows, (*RUN_COLUMNS, *COLUMNS))
        return self.path / RESULTS
