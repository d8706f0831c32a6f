"""Tables of evaluations that nobody measured: every number follows from a formula."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from sb3_mdpo.lab.statistics.results import COLUMNS

PERTURBATIONS = {"random convolution": [None], "brightness": [0.1, 0.3], "no background": [None]}
BIGFISH, COINRUN = "procgen-bigfish-hard-v0", "procgen-coinrun-hard-v0"
# What a method ends with on unseen levels; the first has two members and an ensemble
LEVEL = {"mdpo": 0.6, "independent": 0.4, "ppo": 0.3}
RANGES = {BIGFISH: (0.0, 40.0), COINRUN: (5.0, 10.0)}
STEPS = tuple(range(100, 2001, 100))


def synthetic_results(
    methods: Sequence[str] = tuple(LEVEL),
    seeds: Sequence[int] = (0, 1, 2),
    env_ids: Sequence[str] = (BIGFISH, COINRUN),
    steps: Sequence[int] = STEPS,
) -> pd.DataFrame:
    """
    Unseen normalised score = level * progress + 0.01 * seed (member 1: 0.1 more, member 0: 0.1 less, ensemble: 0.05
    more), training 0.2 above.
    """
    rows = [
        _row(env_id, method, seed, policy, offset, step, step / steps[-1])
        for env_id in env_ids
        for method in methods
        for seed in seeds
        for step in steps
        for policy, offset in _policies(method).items()
    ]
    return pd.DataFrame(rows).reindex(columns=[*COLUMNS, "episodes", "training_stderr", "unseen_stderr"])


def _policies(method: str) -> dict[str, float]:
    if method.startswith("ppo"):
        return {"policy 0": 0.0}
    return {"policy 0": -0.1, "policy 1": 0.1, "ensemble": 0.05}


def _row(env_id: str, method: str, seed: int, policy: str, offset: float, step: int, progress: float) -> dict[str, Any]:
    low, high = RANGES[env_id]
    unseen = LEVEL.get(method, 0.5) * progress + 0.01 * seed + offset
    members = 1 if method.startswith("ppo") else 2
    row: dict[str, Any] = {"study": "synthetic", "env_id": env_id, "method": method, "seed": seed, "policy": policy}
    row |= {"num_levels": 500, "start_level": 0, "run": f"{env_id}_500_{method}_{seed}", "episodes": 10}
    row |= {"timesteps": step, "timesteps_per_policy": step // members, "seconds": step / 50}
    row |= {"trained_images": 3 * step * members, "gap": 0.2 * (high - low)}
    for levels, score in (("training", unseen + 0.2), ("unseen", unseen)):
        row |= {f"{levels}_return": low + score * (high - low), f"{levels}_normalized": score}
        row |= {f"{levels}_stderr": 0.1, f"{levels}_success": math.nan}
    return row | {"kl": 0.5 * (1 - progress) if members == 2 and policy != "ensemble" else math.nan}


def synthetic_robustness(policies: Sequence[str], kl: float) -> dict[str, Any]:
    """Each policy's mean KL is the one before plus 0.01, and grows with the strength; total variation is half."""
    rows = []
    for k, policy in enumerate(policies):
        for perturbation, strengths in PERTURBATIONS.items():
            for strength in strengths:
                mean = kl + 0.01 * k + (strength or 0)
                row = {"policy": policy, "perturbation": perturbation, "strength": strength, "n": 64}
                rows.append(row | _interval("kl", mean) | _interval("tv", mean / 2))
    return {"settings": {"seed": 0}, "rows": rows}


def _interval(name: str, mean: float) -> dict[str, float]:
    return {f"{name}_mean": mean, f"{name}_low": mean - 0.005, f"{name}_high": mean + 0.005, f"{name}_max": 3 * mean}


def synthetic_features(policies: Sequence[str], ratio: float) -> dict[str, Any]:
    """Distance ratio as given, plus 0.01 for each further policy; four observations on a circle, three times each."""
    return {
        "settings": {"seed": 0, "runs": ["here"]},
        "policies": [
            {"policy": policy, "distance_ratio": ratio + 0.01 * k, "effective_rank": 12.5, "features_dim": 64}
            for k, policy in enumerate(policies)
        ],
        "cka": [{"a": a, "b": b, "cka": 0.875} for a in policies for b in policies if a < b],
        "tsne": [
            {"policy": policy, "x": math.cos(k) + 0.1 * draw, "y": math.sin(k)}
            | {"observation": k, "perturbation": f"random convolution {draw}"}
            for policy in policies
            for k in range(4)
            for draw in range(3)
        ],
    }
