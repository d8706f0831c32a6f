"""The table of a study: one row per evaluation and policy."""

from pathlib import Path
from typing import Literal

import pandas as pd

TASK = ["env_id", "num_levels", "start_level"]
RUN = [*TASK, "method", "seed", "run"]
BUDGETS = ["timesteps", "timesteps_per_policy", "trained_images", "seconds"]
MEASURES = [
    *("training_return", "training_normalized", "training_success"),
    *("unseen_return", "unseen_normalized", "unseen_success", "gap", "kl"),
]
NUMBERS = [*BUDGETS, *MEASURES, "num_levels", "start_level", "seed"]
COLUMNS = ["study", *RUN, *BUDGETS, "policy", *MEASURES]
# pandas' own reader of numbers crashes the process at one like 4e492493924924 (pandas issue 63089); Python's does not
SAFE: Literal["round_trip"] = "round_trip"
_TEXT = dict.fromkeys(("study", "env_id", "method", "run", "policy"), str)


def read_results(path: Path) -> pd.DataFrame:
    """
    :param path: ``results.csv`` of a study
    :return: the table, checked by :func:`check_results`
    :raises ValueError: if it is not such a table
    """
    return check_results(read_csv(path), path)


def read_csv(path: Path) -> pd.DataFrame:
    """A table of evaluations, of a run or of a study, unchecked; only empty cells are undefined."""
    try:
        return pd.read_csv(path, dtype=_TEXT, keep_default_na=False, na_values=[""], float_precision=SAFE)
    except (ValueError, OverflowError) as error:  # pandas' own errors and UnicodeDecodeError are ValueErrors
        raise ValueError(f"{path} is not a table: {error}") from error


def check_results(results: pd.DataFrame, source: object = "the table") -> pd.DataFrame:
    """
    Return the table if it has the columns of ``results.csv``.

    :param source: its file, for messages
    :raises ValueError: if a column is missing or not numeric, there is no row, or two rows are of the same evaluation
    """
    missing = [column for column in COLUMNS if column not in results]
    if missing:
        raise ValueError(f"{source} has no column {', '.join(missing)}: give the results.csv of a study.")
    if results.empty:
        raise ValueError(f"{source} has no rows: nothing has been evaluated yet.")
    numbers = [column for column in (*NUMBERS, "episodes") if column in results]
    texts = [column for column in numbers if not pd.api.types.is_numeric_dtype(results[column])]
    if texts:
        raise ValueError(f"{source} has values that are not numbers in {', '.join(texts)}.")
    unnamed = [column for column in (*RUN, "timesteps", "policy") if results[column].isna().any()]
    if unnamed:
        raise ValueError(f"{source} has rows without {', '.join(unnamed)}.")
    twice = results.duplicated([*TASK, "method", "seed", "timesteps", "policy"])
    if twice.any():
        row = results[twice].iloc[0]
        raise ValueError(
            f"{source} has two rows for {row.method}, seed {row.seed}, {row.env_id}, step {row.timesteps}, "
            f"{row.policy}: one seed is one run."
        )
    runs = results.drop_duplicates(RUN)
    of_two_runs = runs[runs.duplicated([*TASK, "method", "seed"])]
    if not of_two_runs.empty:
        row = of_two_runs.iloc[0]
        raise ValueError(
            f"{source} has two runs of {row.method}, seed {row.seed}, on {row.env_id}: one seed is one run."
        )
    return results


def task_name(env_id: str, num_levels: float, start_level: float = 0) -> str:
    """Name of a task; 0 training levels are all of them."""
    levels = "all levels" if num_levels == 0 else f"{num_levels:g} level{'' if num_levels == 1 else 's'}"
    return f"{env_id}, {levels}" + (f" from {start_level:g}" if start_level else "")
