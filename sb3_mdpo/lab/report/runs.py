"""What a run left on disk."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from sb3_mdpo.lab.statistics.results import task_name
from sb3_mdpo.lab.study.runs import CONF
from sb3_mdpo.utils.yaml_files import read_text
from sb3_mdpo.zoo.run import ARGS, COMMAND, CONFIG


@dataclass(frozen=True)
class RunFiles:
    """
    :param name: name of the run
    :param method: its method
    :param env_id: Gymnasium id
    :param num_levels: number of training levels, 0 for all
    :param start_level: first training level
    :param seed: seed of the training
    :param folder: run folder of the zoo, None where it is not here
    """

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
        """
        :param name: name of a file in the run's folder
        :return: the file where it is there
        """
        path = None if self.folder is None else self.folder / name
        return path if path is not None and path.is_file() else None

    def settings(self) -> dict[str, str]:
        """
        :return: name -> text of the files that say how the run was made
        """
        if self.folder is None:
            return {}
        patterns = (f"*/{COMMAND}", CONF, f"*/{CONFIG}", f"*/{ARGS}")
        paths = [path for pattern in patterns for path in sorted(self.folder.glob(pattern))]
        return {path.name: read_text(path) for path in paths}


def find_run_folder(folder: Path) -> Path | None:
    """
    :param folder: a run in a study's folder: a run folder of the zoo, or the log folder around one
    :return: the run folder
    """
    found = sorted(path for path in folder.rglob(ARGS) if path.parent != folder)
    return found[0].parent.parent if found else None


def read_rows(
    runs: Sequence[RunFiles], name: str, key: str, texts: Sequence[str], numbers: Sequence[str]
) -> pd.DataFrame:
    """
    The same table of several runs' JSON files as one.

    :param runs: runs
    :param name: name of the files
    :param key: where in them the table is
    :param texts: its columns of text
    :param numbers: its columns of numbers, NaN where a file has none
    :return: columns ``method``, ``task``, ``seed``, ``run`` and those of the table; no rows where no run has the file
    :raises ValueError: where a file is something else
    """
    tables = [_read_table(run, path, key, texts, numbers) for run in runs if (path := run.file(name)) is not None]
    if not tables:
        return pd.DataFrame(columns=["method", "task", "seed", "run", *texts, *numbers])
    return pd.concat(tables, ignore_index=True)


def read_analysis(path: Path) -> dict[str, Any]:
    """
    :param path: ``robustness.json`` or ``features.json``
    :return: what it says
    :raises ValueError: where it is no such file
    """
    try:
        document = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON ({error}): write it again.") from error
    if not isinstance(document, dict) or not isinstance(document.get("settings"), dict):
        raise ValueError(f"{path} has no settings, so it is no analysis of ours: write it again.")
    return document


def _read_table(run: RunFiles, path: Path, key: str, texts: Sequence[str], numbers: Sequence[str]) -> pd.DataFrame:
    columns = [*texts, *numbers]
    try:
        rows = pd.DataFrame(read_analysis(path)[key])
        rows = rows[columns] if len(rows) else pd.DataFrame(columns=columns)
        rows = rows.astype(dict.fromkeys(texts, str) | dict.fromkeys(numbers, float))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ValueError(f"{path} has no table {key} with {', '.join(columns)} ({error}): write it again.") from error
    rows.insert(0, "method", run.method)
    rows.insert(1, "task", run.task)
    rows.insert(2, "seed", run.seed)
    rows.insert(3, "run", run.name)
    return rows
