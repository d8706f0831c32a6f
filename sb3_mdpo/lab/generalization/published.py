"""Published returns on Procgen, for comparison at the same number of steps."""

from functools import cache
from importlib.resources import files

import gymnasium as gym
import numpy as np
import pandas as pd

from sb3_mdpo.envs.native import is_procgen
from sb3_mdpo.lab.generalization.scores import normalized_score

PAPER, PROCGEN_AUTHORS = "MDPO paper", "Procgen authors"
SETTING = ["env_id", "num_levels", "start_level"]
RETURNS = ["training_return", "training_std", "unseen_return", "unseen_std"]
COLUMNS = [
    *("source", *SETTING, "method", "timesteps", "timesteps_per_policy"),
    *(*RETURNS[:2], "training_normalized", *RETURNS[2:], "unseen_normalized"),
]
CURVE = ["source", *SETTING, "method"]
# A training ends with the rollout in which it reaches its number of steps, and so a little after the published ones
OVERSHOOT = 1.05


def reference_curves() -> pd.DataFrame:
    """
    Published returns on training and unseen levels during training, means over 3 runs. The names of columns are those
    of a study's ``results.csv``:

    - ``source``: ``"MDPO paper"`` (arXiv 2501.02481: PPO and MDPO in all 16 games, hard mode, 500 levels, read from
      its first version's figure; ``ppo_l2`` and ``ppo_dropout`` at the end of training only, unseen levels, 8 games) or
      ``"Procgen authors"`` (PPO, all 16 games, easy mode with 200 and hard mode with 500 levels, from the training
      logs in github.com/openai/train-procgen)
    - ``env_id``, ``num_levels``, ``start_level``: the environment and its training levels
    - ``method``: ``mdpo``, ``ppo``, ``ppo_l2`` or ``ppo_dropout``
    - ``timesteps``, ``timesteps_per_policy``: environment steps of all policies together, and of each. MDPO has two
      policies
    - ``training_return``, ``unseen_return``: mean returns
    - ``training_std``, ``unseen_std``: standard deviations over runs; NaN if not published
    - ``training_normalized``, ``unseen_normalized``: mean returns as scores, see
      :func:`~sb3_mdpo.lab.normalized_score`

    :return: one row per curve and number of steps, sorted by steps within a curve
    """
    return _curves().copy()


def matching_curves(env_id: str, num_levels: int, start_level: int) -> dict[tuple[str, str], pd.DataFrame]:
    """The curves of this game, mode and set of training levels by source and method; none in other environments."""
    if not is_procgen(env_id):
        return {}
    kwargs = gym.spec(env_id).kwargs  # procgen-bigfish-v0 is procgen-bigfish-hard-v0
    setting = (f"procgen-{kwargs['env_name']}-{kwargs['distribution_mode']}-v0", num_levels, start_level)
    curves = _curves()
    rows = curves[(curves[SETTING] == setting).all(axis=1)]
    return dict(list(rows.groupby(["source", "method"], sort=False)))


def until(curve: pd.DataFrame, steps_per_policy: float) -> pd.DataFrame:
    """
    One curve up to this number of steps per policy. Its last row is at this number, interpolated linearly, unless the
    curve ends before. Empty if the curve starts later.
    """
    steps = curve["timesteps_per_policy"]
    before = curve[steps < steps_per_policy]
    if not steps.iloc[0] <= steps_per_policy <= steps.iloc[-1]:
        return before
    numbers = curve.select_dtypes("number")
    here = {name: np.interp(steps_per_policy, steps, values) for name, values in numbers.items()}
    return pd.concat([before, curve.iloc[[-1]].assign(**here)], ignore_index=True)


def value_at(curve: pd.DataFrame, column: str, steps_per_policy: float) -> float:
    """One curve's value at this number of steps per policy; NaN if nothing is published for it."""
    last = float(curve["timesteps_per_policy"].iloc[-1])
    rows = until(curve, min(steps_per_policy, last))
    return float("nan") if rows.empty or steps_per_policy > OVERSHOOT * last else float(rows[column].iloc[-1])


@cache
def _curves() -> pd.DataFrame:
    curves = pd.concat([_paper(), _procgen_authors()], ignore_index=True)
    for levels in ("training", "unseen"):
        returns = zip(curves[f"{levels}_return"], curves["env_id"], strict=True)
        curves[f"{levels}_normalized"] = [normalized_score(mean, env_id) for mean, env_id in returns]
    return curves[COLUMNS]


def _paper() -> pd.DataFrame:
    table = _read("paper_hard_500.csv")
    curves = []
    for method in ("ppo", "mdpo", "ppo_l2", "ppo_dropout"):
        rows = table.reindex(columns=["game", "steps_per_policy", f"{method}_training", f"{method}_unseen"])
        rows.columns = pd.Index(["game", "timesteps_per_policy", "training_return", "unseen_return"])
        curves.append(rows[rows["unseen_return"].notna()].assign(method=method))
    every = pd.concat(curves, ignore_index=True)
    policies = every["method"].map(lambda method: 2 if method == "mdpo" else 1)
    return every.assign(
        source=PAPER,
        env_id="procgen-" + every["game"] + "-hard-v0",
        num_levels=500,
        start_level=0,
        timesteps=every["timesteps_per_policy"] * policies,
        training_std=float("nan"),
        unseen_std=float("nan"),
    )


def _procgen_authors() -> pd.DataFrame:
    table = _read("procgen_authors_ppo.csv")
    return table.assign(
        source=PROCGEN_AUTHORS,
        env_id="procgen-" + table["game"] + "-" + table["mode"] + "-v0",
        start_level=0,
        method="ppo",
        timesteps_per_policy=table["timesteps"],
    )


def _read(name: str) -> pd.DataFrame:
    path = files("sb3_mdpo.lab.generalization") / "data" / name
    with path.open() as file:
        return pd.read_csv(file, comment="#")
