"""A study on disk.

Complete runs lie in the study's folder under their names, those under way in ``unfinished``, and
those that ended with an error in ``failed``: what state a run is in is where its folder is.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import yaml
from filelock import FileLock, Timeout

from sb3_mdpo.lab.generalization.table import TABLE, read_table
from sb3_mdpo.lab.study.runs import CONF, PlannedRun
from sb3_mdpo.persistence.checkpoints.archive import checkpoints
from sb3_mdpo.persistence.checkpoints.callback import FOLDER as CHECKPOINTS
from sb3_mdpo.utils.yaml_files import read_mapping

State = Literal["done", "running", "failed", "missing"]
LOG, LOCK = "run.log", ".lock"


class StudyFolder:
    """
    :param path: the study's folder, which need not exist yet
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def complete(self, run: PlannedRun) -> Path:
        """
        :param run: a run
        :return: its folder once it is complete
        """
        return self.path / run.name

    def unfinished(self, run: PlannedRun) -> Path:
        """
        :param run: a run
        :return: its folder while it is under way, and after an interruption
        """
        return self.path / "unfinished" / run.name

    def failed(self, run: PlannedRun) -> Path:
        """
        :param run: a run
        :return: its folder after an error
        """
        return self.path / "failed" / run.name

    def resumable(self, run: PlannedRun) -> Path | None:
        """
        :param run: a run
        :return: the zoo's folder of an interrupted attempt with the settings of today, if it can be resumed
        """
        work = self.unfinished(run)
        conf = work / CONF
        if not conf.is_file() or read_mapping(conf) != yaml.safe_load(yaml.safe_dump(run.conf)):
            return None
        return next((path.parent for path in work.glob(f"mdpo/*/{CHECKPOINTS}") if checkpoints(path)), None)

    def state(self, run: PlannedRun, is_running: bool) -> State:
        """
        :param run: a run
        :param is_running: whether the study is being run
        :return: state of the run
        """
        if self.complete(run).is_dir():
            return "done"
        if is_running and self.unfinished(run).is_dir():
            return "running"
        return "failed" if self.failed(run).is_dir() else "missing"

    def evaluations(self, run: PlannedRun) -> Path | None:
        """
        :param run: a run
        :return: the file with its evaluations so far, where it is complete or under way and has some
        """
        places = [self.complete(run), *self.unfinished(run).glob("mdpo/*")]
        return next((place / TABLE for place in places if (place / TABLE).is_file()), None)

    def budget(self, run: PlannedRun) -> tuple[int, float]:
        """
        :param run: a run
        :return: environment steps until its last evaluation, and seconds
        """
        path = self.evaluations(run)
        if path is None:
            return 0, 0.0
        last = read_table(path)[-1]
        return last["timesteps"] or 0, last["seconds"] or 0.0

    def check(self, runs: Sequence[PlannedRun]) -> None:
        """
        Check that complete runs are what the study wants today.

        :param runs: runs of the study
        :raises ValueError: if a complete run was trained with other settings
        """
        for run in runs:
            conf = self.complete(run) / CONF
            if not conf.is_file():
                continue
            then = read_mapping(conf).get(run.env_id)
            if not isinstance(then, dict):
                raise ValueError(f"{conf} has no hyperparameters of {run.env_id}, which {run.name} was trained on.")
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
        """
        Keep others from running the study at the same time.

        :return: context manager
        :raises OSError: if somebody does already
        """
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
        """
        :return: whether the study is being run
        """
        if not (self.path / LOCK).exists():
            return False
        try:
            with FileLock(self.path / LOCK, blocking=False):
                return False
        except Timeout:
            return True
