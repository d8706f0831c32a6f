"""Scores that are comparable between games."""

import csv
from functools import cache
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
    row = _procgen_ranges()[game]
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


@cache
def _procgen_ranges() -> dict[str, dict[str, str]]:
    text = (files("sb3_mdpo.lab.generalization") / "data" / "procgen_score_ranges.csv").read_text()
    return {row["game"]: row for row in csv.DictReader(text.splitlines())}
