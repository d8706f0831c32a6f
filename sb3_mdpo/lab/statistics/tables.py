"""Means and standard deviations over seeds per task, and the returns that the paper reports."""

import gymnasium as gym
import pandas as pd

from sb3_mdpo.envs.native import is_procgen
from sb3_mdpo.lab.generalization.scores import paper_returns
from sb3_mdpo.lab.statistics.results import MEASURES, TASK


def task_table(scores: pd.DataFrame) -> pd.DataFrame:
    """
    :param scores: table of :func:`~sb3_mdpo.lab.statistics.scores.final_scores`
    :return: one row per task, method and ``policies``: the number of seeds as ``n_seeds``, the mean over seeds of
        each measure, and its standard deviation as ``*_std`` (NaN for one seed)
    """
    groups = scores.groupby([*TASK, "method", "policies"], sort=False)
    means, deviations = groups[MEASURES].mean(), groups[MEASURES].std(ddof=1).add_suffix("_std")
    return pd.concat([groups.size().rename("n_seeds"), means, deviations], axis=1).reset_index()


def paper_return(env_id: str, num_levels: int, start_level: int, method: str) -> float | None:
    """
    :param env_id: Gymnasium id
    :param num_levels: number of training levels
    :param start_level: first training level
    :param method: name of a method
    :return: the return on unseen levels that the paper (arXiv 2501.02481) reports for this method in this setting:
        Procgen hard, 500 training levels, 5e7 steps per policy; read off its figure: approximate, 3 seeds, 8 of the
        16 games. None in all other settings
    """
    if (num_levels, start_level) != (500, 0) or not is_procgen(env_id):
        return None
    kwargs = gym.spec(env_id).kwargs
    if kwargs["distribution_mode"] != "hard":
        return None
    return paper_returns().get(method, {}).get(kwargs["env_name"])
