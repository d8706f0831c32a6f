"""One table of all evaluations of a study."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from sb3_mdpo.lab.generalization.table import read_table
from sb3_mdpo.lab.study.folder import StudyFolder
from sb3_mdpo.lab.study.runs import PlannedRun
from sb3_mdpo.utils.atomic import replacing

RESULTS = "results.csv"
RUN_COLUMNS = ("study", "env_id", "num_levels", "start_level", "method", "seed", "run")


def write_results(folder: StudyFolder, runs: Sequence[PlannedRun]) -> Path:
    """
    Put the evaluations of all complete runs into one table, in the order of the study. The numbers are
    copied as the runs wrote them.

    :param folder: the study's folder
    :param runs: the runs of the study; those that are not complete are left out
    :return: the table, ``results.csv`` in the study's folder
    :raises ValueError: if the evaluations of the runs have different columns
    """
    columns: list[str] = []
    table: list[list[object]] = []
    for run in runs:
        path = folder.evaluations(run) if folder.complete(run).is_dir() else None
        if path is None:
            continue
        read_table(path)  # which says so where it is none
        with path.open(newline="", encoding="utf-8") as evaluations:
            header, *rows = csv.reader(evaluations)
        columns = columns or header
        if header != columns:
            raise ValueError(f"{path} has the columns {', '.join(header)}, other runs {', '.join(columns)}.")
        key = (run.study, run.env_id, run.num_levels, run.start_level, run.method, run.seed, run.name)
        table += [[*key, *row] for row in rows]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([[*RUN_COLUMNS, *columns], *table])
    with replacing(folder.path / RESULTS) as file:
        file.write(text.getvalue().encode())
    return folder.path / RESULTS
