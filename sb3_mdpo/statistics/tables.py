"""Means and standard deviations over seeds, task by task, and what the paper reports beside them."""

from importlib import resources

import gymnasium as gym
import pandas as pd

from sb3_mdpo.envs.native import is_procgen
from sb3_mdpo.statistics.results import MEASURES, TASK

DATA = resources.files("sb3_mdpo.generalization") / "data"


def task_table(scores: pd.DataFrame) -> pd.DataFrame:
    """
    :param scores: table of :func:`~sb3_mdpo.statistics.scores.final_scores`
    :return: one row per task, method and ``policies``: the number of seeds as ``n_seeds``, the mean over seeds of
        each measure, and its standard deviation as ``*_std`` (empty for one seed)
    """
    groups = scores.groupby([*TASK, "method", "policies"], sort=False)
    means, deviations = groups[MEASURES].mean(), groups[MEASURES].std(ddof=1).add_suffix("_std")
    return pd.concat([groups.size().rename("n_seeds"), means, deviations], axis=1).reset_index()


def paper_returns() -> pd.DataFrame:
    """
    :return: columns ``game``, ``method``, ``unseen_return`` and ``unseen_normalized``: what the paper (arXiv
        2501.02481) reports for Procgen hard with 500 training levels and 5e7 steps per policy, read off the
        published learning curves: approximate, 3 seeds, 8 of the 16 games
    """
    returns = _read("test_return_hard500.csv").melt("game", var_name="method", value_name="unseen_return")
    ranges = _read("procgen_score_ranges.csv").set_index("game").loc[returns["game"]]
    low, high = ranges["hard_min"].to_numpy(), ranges["hard_max"].to_numpy()
    return returns.assign(unseen_normalized=(returns["unseen_return"] - low) / (high - low))


def paper_return(env_id: str, num_levels: int, start_level: int, method: str) -> float | None:
    """
    :param env_id: Gymnasium id
    :param num_levels: number of training levels
    :param start_level: first training level
    :param method: name of a method
    :return: what the paper reports for this method in this setting, or None
    """
    if (num_levels, start_level) != (500, 0) or not is_procgen(env_id):
        return None
    kwargs = gym.spec(env_id).kwargs
    if kwargs["distribution_mode"] != "hard":
        return None
    table = paper_returns()
    row = table[(table["game"] == kwargs["env_name"]) & (table["method"] == method)]
    return None if row.empty else float(row["unseen_return"].iloc[0])


def _read(name: str) -> pd.DataFrame:
    with (DATA / name).open() as file:
        return pd.read_csv(file)
