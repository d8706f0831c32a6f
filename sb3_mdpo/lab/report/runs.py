"""The files of a run."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from sb3_mdpo.lab.statistics.results import task_name
from sb3_mdpo.lab.study.folder import damage
from sb3_mdpo.lab.study.runs import CONF
from sb3_mdpo.utils.yaml_files import read_text
from sb3_mdpo.zoo.run import ARGS, COMMAND, CONFIG

ABOUT = ("method", "task", "seed", "run")


@dataclass(frozen=True)
class RunFiles:
    """A run of a report; ``folder`` is its run folder of the zoo, None if it is missing."""

    name: str
    method: str
    env_id: str
    num_levels: int
    start_level: int
    seed: int
    folder: Path | None

    @property
    def task(self) -> str:
        return task_name(self.env_id, self.num_levels, self.start_level)

    def file(self, name: str) -> Path | None:
        """The file with this name in the run's folder, None if there is none."""
        path = None if self.folder is None else self.folder / name
        return path if path is not None and path.is_file() else None

    def settings(self) -> dict[str, str]:
        """Name -> text of the files with the run's command and settings."""
        if self.folder is None:
            return {}
        patterns = (f"*/{COMMAND}", CONF, f"*/{CONFIG}", f"*/{ARGS}")
        paths = [path for pattern in patterns for path in sorted(self.folder.glob(pattern))]
        return {path.name: read_text(path) for path in paths}


def find_run_folder(folder: Path) -> Path | None:
    """The run folder of the zoo in a run's folder in a study: that folder, or one below it."""
    found = sorted(path for path in folder.rglob(ARGS) if path.parent != folder)
    return found[0].parent.parent if found else None


def what_is_lacking(study: Path) -> Iterator[str]:
    """A message for each complete run of a study whose evaluations or model are gone."""
    for conf in sorted(study.glob(f"*/{CONF}")):
        models = [f"{path.parent.name}.zip" for path in conf.parent.glob(f"*/{ARGS}")]
        if damaged := damage(conf.parent, *models):
            yield f"{damaged}."


@dataclass(frozen=True, eq=False)
class Measurement:
    """The content of a ``robustness.json`` or ``features.json``, which is read once."""

    path: Path
    document: dict[str, Any]
    run: RunFiles | None = None  #: None if it is about several runs

    @property
    def settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = self.document["settings"]
        return settings

    def table(self, key: str, texts: Sequence[str], numbers: Sequence[str]) -> pd.DataFrame:
        """The table ``key`` with columns of texts and numbers, and of one run first its :data:`ABOUT`."""
        columns = [*texts, *numbers]
        try:
            rows = pd.DataFrame(self.document[key])
            rows = rows[columns] if len(rows) else pd.DataFrame(columns=columns)
            rows = rows.astype(dict.fromkeys(texts, str) | dict.fromkeys(numbers, float))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ValueError(
                f"{self.path} has no table {key} with {', '.join(columns)} ({error}): write it again."
            ) from error
        if self.run is None:
            return rows
        about = dict(zip(ABOUT, (self.run.method, self.run.task, self.run.seed, self.run.name), strict=True))
        return rows.assign(**about)[[*about, *columns]]


def read_measurement(path: Path, run: RunFiles | None = None) -> Measurement:
    """Read ``robustness.json`` or ``features.json``."""
    try:
        document = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}): write it again.") from error
    if not isinstance(document, dict) or not isinstance(document.get("settings"), dict):
        raise ValueError(f"{path} has no settings, so it was not written by sb3-mdpo: write it again.")
    return Measurement(path, document, run)


def read_measurements(runs: Iterable[RunFiles], name: str) -> list[Measurement]:
    """The files of this name of those runs that have one."""
    return [read_measurement(path, run) for run in runs if (path := run.file(name)) is not None]


def joined(measurements: Sequence[Measurement], key: str, texts: Sequence[str], numbers: Sequence[str]) -> pd.DataFrame:
    """The table ``key`` of several runs, see :meth:`Measurement.table`."""
    tables = [one.table(key, texts, numbers) for one in measurements]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=[*ABOUT, *texts, *numbers])
