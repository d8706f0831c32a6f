"""ppo as the first half of ppo_2x_data: with a constant learning rate both train alike, bit for bit, until ppo ends."""

import pandas as pd

from sb3_mdpo.lab.statistics.results import RUN

PPO, TWICE = "ppo", "ppo_2x_data"
NAME = f"{PPO} (first half of {TWICE})"
NEAR = 0.02  # trainings end with whole rollouts


def first_half(results: pd.DataFrame) -> pd.DataFrame:
    """
    The evaluations of ppo_2x_data until half of its training, as those of a method :data:`NAME`. Empty if ppo itself
    was trained, or if there was no evaluation at the half.
    """
    if PPO in results["method"].to_numpy():
        return results[:0]
    rows = results[results["method"] == TWICE]
    half = rows.groupby(RUN)["timesteps"].transform("max") / 2
    rows, half = rows[rows["timesteps"] <= (1 + NEAR) * half], half[rows["timesteps"] <= (1 + NEAR) * half]
    reached = rows.groupby(RUN)["timesteps"].transform("max") >= (1 - NEAR) * half
    return rows[reached].assign(method=NAME)
