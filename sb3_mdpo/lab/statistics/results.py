"""The table of a study: one row per evaluation and policy."""

from pathlib import Path

import numpy as np
import pandas as pd

from sb3_mdpo.lab.generalization.results import ENSEMBLE, read_csv
from sb3_mdpo.lab.generalization.scores import score_range

TASK = ["env_id", "num_levels", "start_level"]
RUN = [*TASK, "method", "seed", "run"]
BUDGETS = ["timesteps", "timesteps_per_policy", "trained_images", "seconds"]
MEASURES = [
    *("training_return", "training_normalized", "training_success"),
    *("unseen_return", "unseen_normalized", "unseen_success", "gap", "kl"),
]
ERRORS = ["unseen_stderr", "training_stderr"]  # standard errors over episodes
NUMBERS = [*BUDGETS, *MEASURES, *ERRORS, "num_levels", "start_level", "seed", "episodes"]
COLUMNS = ["study", *RUN, *BUDGETS, "policy", *MEASURES]
# What a table has to have. All other columns, and empty cells in them, are derived from these or stay empty
REQUIRED = ["env_id", "num_levels", "method", "seed", "timesteps", "policy", "training_return", "unseen_return"]


def read_results(*paths: Path) -> pd.DataFrame:
    """
    :param paths: ``results.csv`` of a study, or another CSV file with at least the columns ``env_id``, ``num_levels``,
        ``method``, ``seed``, ``timesteps``, ``policy``, ``training_return`` and ``unseen_return``; or several of them
    :return: one row per evaluation and policy. Several tables are joined, with the path of each as ``source``. Methods
        that are in more than one have the name of the study's folder or of the file after theirs, e.g. ``mdpo (small)``
    :raises ValueError: if a file is not such a table, or methods cannot be told apart
    """
    tables = {path: check_results(read_csv(path), path) for path in paths}
    if len(paths) == 1:
        return tables[paths[0]]
    methods = {path: set(table["method"]) for path, table in tables.items()}
    renamed = []
    for path, table in tables.items():
        shared = {other: methods[path] & methods[other] for other in tables if other != path}
        for other, names in shared.items():
            if names and _name(path) == _name(other):
                raise ValueError(
                    f"{path} and {other} both have {', '.join(sorted(names))} and are both called {_name(path)}: "
                    "rename one of them, so that its methods can be told apart."
                )
        told_apart = {method: f"{method} ({_name(path)})" for method in set().union(*shared.values())}
        table = table.assign(method=table["method"].replace(told_apart), source=str(path))
        renamed.append(table.dropna(axis="columns", how="all"))
    return check_results(pd.concat(renamed, ignore_index=True))


def _name(path: Path) -> str:
    """Name of a study's folder or of another file."""
    return path.resolve().parent.name if path.name == "results.csv" else path.stem


def check_results(results: pd.DataFrame, source: object = "the table") -> pd.DataFrame:
    """Return the table with all columns of ``results.csv`` if it has the required ones, and each evaluation once."""
    missing = [column for column in REQUIRED if column not in results]
    if missing:
        raise ValueError(f"{source} has no column {', '.join(missing)}: a table needs {', '.join(REQUIRED)}.")
    if results.empty:
        raise ValueError(f"{source} has no rows: nothing has been evaluated yet.")
    numbers = [column for column in NUMBERS if column in results]
    texts = [column for column in numbers if not pd.api.types.is_numeric_dtype(results[column])]
    if texts:
        raise ValueError(f"{source} has values that are not numbers in {', '.join(texts)}.")
    unnamed = [column for column in REQUIRED if results[column].isna().any()]
    if unnamed:
        raise ValueError(f"{source} has rows without {', '.join(unnamed)}.")
    results = _completed(results)
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


def _completed(results: pd.DataFrame) -> pd.DataFrame:
    """With all columns; empty cells are derived from the required columns if they can be."""
    results = results.reindex(columns=[*COLUMNS, *(column for column in results if column not in COLUMNS)])
    results["start_level"] = results["start_level"].fillna(0)
    names = results["env_id"].str.replace("/", "-") + "_" + results["num_levels"].astype(str)
    derived = {"run": names + "_" + results["method"] + "_" + results["seed"].astype(str)}
    derived["gap"] = results["training_return"] - results["unseen_return"]
    ranges = {env_id: score_range(env_id) or (np.nan, np.nan) for env_id in results["env_id"].unique()}
    low, high = (results["env_id"].map({env_id: ends[k] for env_id, ends in ranges.items()}) for k in (0, 1))
    for levels in ("training", "unseen"):
        derived[f"{levels}_normalized"] = (results[f"{levels}_return"] - low) / (high - low)
    members = results["policy"].where(results["policy"] != ENSEMBLE)
    n_policies = members.groupby([results[key] for key in (*TASK, "method", "seed")]).transform("nunique")
    derived["timesteps_per_policy"] = results["timesteps"] / n_policies.clip(lower=1)
    return results.assign(**{column: results[column].fillna(values) for column, values in derived.items()})


def task_name(env_id: str, num_levels: float, start_level: float = 0) -> str:
    """Name of a task; 0 training levels are all of them."""
    levels = "all levels" if num_levels == 0 else f"{num_levels:g} level{'' if num_levels == 1 else 's'}"
    return f"{env_id}, {levels}" + (f" from {start_level:g}" if start_level else "")
