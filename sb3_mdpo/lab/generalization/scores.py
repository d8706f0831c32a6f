"""Scores that are comparable between games, and the returns that the paper reports."""

import csv
from importlib.resources import files

import gymnasium as gym

from sb3_mdpo.envs.native import is_procgen

# Environments whose returns are scores from 0 to 1
UNIT_RETURNS = ("TexturedGrid-v0",)


def score_range(env_id: str) -> tuple[float, float] | None:
    """
    Returns with the scores 0 and 1. For Procgen's easy and hard modes these are the constants of its paper (arXiv
    1912.01588, appendix C), in which 0 is the return of policies trained without observations.
    """
    if env_id in UNIT_RETURNS:
        return 0.0, 1.0
    if not is_procgen(env_id):
        return None
    kwargs = gym.spec(env_id).kwargs
    game, mode = kwargs["env_name"], kwargs["distribution_mode"]
    if mode not in ("easy", "hard"):
        return None
    row = next(row for row in _read("procgen_score_ranges.csv") if row["game"] == game)
    return float(row[f"{mode}_min"]), float(row[f"{mode}_max"])


def normalized_score(mean_return: float, env_id: str) -> float | None:
    """
    :param mean_return: a return, or a mean of returns
    :param env_id: Gymnasium id
    :return: ``(R - min) / (max - min)``, see :func:`score_range`; can be below 0 or above 1. None if there is no
        range
    """
    limits = score_range(env_id)
    return None if limits is None else (mean_return - limits[0]) / (limits[1] - limits[0])


def paper_returns() -> dict[str, dict[str, float]]:
    """
    Test returns of the MDPO paper (arXiv 2501.02481): hard mode, 500 training levels, at the end of training, read off
    the curves of its figure.

    :return: mean return on unseen levels by method (``ppo``, ``ppo_l2``, ``ppo_dropout``, ``mdpo``) and game
    """
    rows = _read("test_return_hard500.csv")
    return {method: {row["game"]: float(row[method]) for row in rows} for method in rows[0] if method != "game"}


def paper_return(env_id: str, num_levels: int, start_level: int, method: str) -> float | None:
    """
    The return on unseen levels that the paper (arXiv 2501.02481) reports for this method in this setting: Procgen hard,
    500 training levels, 5e7 steps per policy; read off its figure: approximate, 3 seeds, 8 of the 16 games.
    """
    if (num_levels, start_level) != (500, 0) or not is_procgen(env_id):
        return None
    kwargs = gym.spec(env_id).kwargs
    if kwargs["distribution_mode"] != "hard":
        return None
    return paper_returns().get(method, {}).get(kwargs["env_name"])


def _read(name: str) -> list[dict[str, str]]:
    text = (files("sb3_mdpo.lab.generalization") / "data" / name).read_text()
    return list(csv.DictReader(text.splitlines()))
