"""A study on disk.

The place of a run's folder is its state: complete runs are in the study's folder, unfinished ones in ``unfinished``,
and those that ended with an error in ``failed``.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import yaml

from sb3_mdpo.lab.generalization.results import COLUMNS, TABLE, read_table, write_table
from sb3_mdpo.lab.study.claims import Claims, briefly_locked
from sb3_mdpo.lab.study.runs import ALGO, CONF, PlannedRun
from sb3_mdpo.persistence.checkpoints.archive import checkpoints, steps_of
from sb3_mdpo.persistence.checkpoints.callback import FOLDER as CHECKPOINTS
from sb3_mdpo.utils.yaml_files import read_mapping

State = Literal["done", "running", "interrupted", "failed", "missing", "damaged"]
LOG, LOCK, CLAIMS = "run.log", ".lock", ".claims"
RESULTS, COPY = "results.csv", "study.yml"
RUN_COLUMNS = ("study", "env_id", "num_levels", "start_level", "method", "seed", "run")


def newest_checkpoint(work: Path) -> Path | None:
    """The newest checkpoint in the working folder of a run, if there is one."""
    return next((found[0] for folder in work.glob(f"*/*/{CHECKPOINTS}") if (found := checkpoints(folder))), None)


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

    def same_settings(self, run: PlannedRun) -> bool:
        """Whether the study still has the settings of an unfinished run."""
        conf = self.unfinished(run) / CONF
        return conf.is_file() and read_mapping(conf) == yaml.safe_load(yaml.safe_dump(run.conf))

    def resumable(self, run: PlannedRun) -> Path | None:
        """The zoo's folder in an unfinished run with checkpoints and unchanged settings, if there is one."""
        if not self.same_settings(run):
            return None
        newest = newest_checkpoint(self.unfinished(run))
        return newest and newest.parents[1]

    def state(self, run: PlannedRun, trained_now: Collection[str]) -> State:
        """State of a run, given the names of those that are being trained."""
        if self.complete(run).is_dir():
            return "damaged" if self.damage(run) else "done"
        if self.unfinished(run).is_dir():
            return "running" if run.name in trained_now else "interrupted"
        return "failed" if self.failed(run).is_dir() else "missing"

    def damage(self, run: PlannedRun) -> str:
        """See :func:`damage`."""
        return damage(self.complete(run), run.model_file)

    def evaluations(self, run: PlannedRun) -> Path | None:
        """File with the evaluations of a complete or unfinished run, if there is one."""
        places = [self.complete(run), *self.unfinished(run).glob("*/*")]
        return next((place / TABLE for place in places if (place / TABLE).is_file()), None)

    def budget(self, run: PlannedRun) -> tuple[int, float]:
        """Environment steps and seconds until the last evaluation of a run."""
        path = self.evaluations(run)
        if path is None:
            return 0, 0.0
        last = read_table(path)[-1]
        return last["timesteps"], last["seconds"] or 0.0

    def saved_timesteps(self, run: PlannedRun) -> int:
        """Environment steps of an unfinished run that are in its newest checkpoint."""
        newest = newest_checkpoint(self.unfinished(run))
        return 0 if newest is None else steps_of(newest)

    def check(self, runs: Sequence[PlannedRun]) -> None:
        """
        Raise ``ValueError`` if this is the folder of another study, or a complete run was trained with other settings
        than the study has now, or has lost a file.
        """
        self._check_is_of(runs)
        for run in runs:
            self._check_settings(run)
        for run in runs:
            if self.complete(run).is_dir() and (damaged := self.damage(run)):
                raise ValueError(f"{damaged}.")

    def _check_is_of(self, runs: Sequence[PlannedRun]) -> None:
        there = sorted(conf.parent.name for conf in self.path.glob(f"*/{CONF}"))
        if there and not {run.name for run in runs} & set(there):
            raise ValueError(
                f"{self.path} holds the complete runs of another study ({there[0]}, {len(there)} in all) and none of "
                f"this one ({runs[0].name}, {len(runs)} in all): give this study another name or folder (-o), or keep "
                f"a run of that one ({self.path / COPY})."
            )

    def _check_settings(self, run: PlannedRun) -> None:
        conf = self.complete(run) / CONF
        if not conf.is_file():
            return
        written = read_mapping(conf)
        then = written.get(run.env_id)
        if not isinstance(then, dict):
            raise ValueError(f"{conf} has no hyperparameters of {run.env_id}, the environment of {run.name}.")
        then = then | {ALGO: written.get(ALGO, "mdpo")}
        now = yaml.safe_load(yaml.safe_dump(run.hyperparams)) | {ALGO: run.algo}
        for key in sorted(then.keys() | now.keys(), key=str):
            if then.get(key) != now.get(key):
                raise ValueError(
                    f"{self.path} has a complete run {run.name} with {key} {then.get(key)}, but the study (or "
                    f"mdpo.yml) says {now.get(key)} now: undo the change, name the variant differently, or give "
                    "the study another name or folder (-o)."
                )

    @contextmanager
    def claimed(self, runs: Sequence[PlannedRun]) -> Iterator[list[PlannedRun]]:
        """
        Context in which no other command trains those of the runs that are not complete, which it yields. Raises
        ``OSError`` if another command does already.
        """
        claims = Claims(self.path / CLAIMS)
        with self.locked():
            missing = [run for run in runs if not self.complete(run).is_dir()]
            taken = claims.taken()
            if twice := [run.name for run in missing if run.name in taken]:
                raise OSError(
                    f"{self.path} is being run already: another command trains {twice[0]}. Wait for it, stop it, or "
                    "give each command a part of its own, e.g. --only 1/2 and --only 2/2."
                )
            claim = claims.claim(run.name for run in missing)
        try:
            yield missing
        finally:
            claims.release(claim)

    def trained_now(self) -> set[str]:
        """Names of the runs that commands are training, or will train before they end."""
        if not (self.path / CLAIMS).is_dir():
            return set()
        with self.locked():
            return Claims(self.path / CLAIMS).taken()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the study's lock, for what takes a moment."""
        self.path.mkdir(parents=True, exist_ok=True)
        with briefly_locked(self.path / LOCK):
            yield

    def write_results(self, runs: Sequence[PlannedRun]) -> Path:
        """Write the evaluations of all complete runs to ``results.csv``, in this order, and return its path."""
        rows: list[dict[str, Any]] = []
        with self.locked():  # an older table never replaces one with more runs
            for run in runs:
                if self.complete(run).is_dir() and (path := self.evaluations(run)) is not None:
                    key = (run.study, run.env_id, run.num_levels, run.start_level, run.method, run.seed, run.name)
                    about = dict(zip(RUN_COLUMNS, key, strict=True))
                    rows += [about | row for row in read_table(path)]
            write_table(self.path / RESULTS, rows, (*RUN_COLUMNS, *COLUMNS))
        return self.path / RESULTS


def damage(complete: Path, *models: str) -> str:
    """What is wrong with the folder of a complete run that has lost files, and what to do; empty if it has not."""
    lost = " and no ".join(name for name in (TABLE, *models) if not (complete / name).is_file())
    return f"{complete} has no {lost}: put it back, or delete the folder to train the run again" if lost else ""
