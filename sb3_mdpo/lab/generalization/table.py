"""The table of a run's evaluations, ``generalization.csv``: one row per evaluation and policy."""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from sb3_mdpo.utils.atomic import replacing

TABLE: Final = "generalization.csv"
# Returns are means over episodes with their standard errors; undefined values are empty
COLUMNS: Final = (
    *("timesteps", "timesteps_per_policy", "trained_images", "seconds", "policy", "episodes"),
    *("training_return", "training_stderr", "training_normalized", "training_success"),
    *("unseen_return", "unseen_stderr", "unseen_normalized", "unseen_success", "gap", "kl"),
)


def write_table(path: Path, rows: Iterable[Mapping[str, Any]], columns: Iterable[str] = COLUMNS) -> None:
    """
    :param path: file to write
    :param rows: values by column, None if undefined
    :param columns: names of the columns
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(columns))
    writer.writeheader()
    writer.writerows(rows)
    with replacing(path) as file:
        file.write(text.getvalue().encode())


def read_table(path: Path) -> list[dict[str, Any]]:
    """
    :param path: file that :func:`write_table` wrote
    :return: values by column, None if undefined; at least one row
    :raises ValueError: if it is not such a table
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            if missing := set(COLUMNS) - set(reader.fieldnames or ()):
                raise ValueError(f"it has no column {', '.join(sorted(missing))}")
            rows = [{name: _value(name, row[name]) for name in COLUMNS} for row in reader]
    except (csv.Error, ValueError, OverflowError) as error:
        raise ValueError(f"{path} is not a table of evaluations: {error}.") from error
    if not rows:
        raise ValueError(f"{path} is not a table of evaluations: it has no rows.")
    return rows


def _value(name: str, text: str | None) -> str | int | float | None:
    if text is None:
        raise ValueError(f"a row ends before {name}")
    if text == "" or name == "policy":
        return text or None
    return int(text) if name in ("timesteps", "timesteps_per_policy", "trained_images", "episodes") else float(text)
