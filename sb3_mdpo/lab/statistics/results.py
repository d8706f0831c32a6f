"""The table of a study: one row per evaluation and policy."""

from pathlib import Path

import pandas as pd

from sb3_mdpo.lab.generalization.results import read_csv

TASK = ["env_id", "num_levels", "start_level"]
RUN = [*TASK, "method", "seed", "run"]
BUDGETS = ["timesteps", "timesteps_per_policy", "trained_images", "seconds"]
MEASURES = [
    *("training_return", "training_normalized", "training_success"),
    *("unseen_return", "unseen_normalized", "unseen_success", "gap", "kl"),
]
NUMBERS = [*BUDGETS, *MEASURES, "num_levels", "start_level", "seed"]
COLUMNS = ["study", *RUN, *BUDGETS, "policy", *MEASURES]


def read_results(path: Path) -> pd.DataFrame:
    """
    :param path: ``results.csv`` of a study
    :return: the table
    :raises ValueError: if it is not such a table
    """
    return check_results(read_csv(path), path)


def check_results(results: pd.DataFrame, source: object = "the table") -> pd.DataFrame:
    """Return the table if it has the columns and types of ``results.csv``, and each run and evaluation once."""
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
