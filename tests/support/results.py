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


def synthetic_robustness(policies: Sequence[str], kl: float, timesteps: int | None, **settings: Any) -> dict[str, Any]:
    """
    Each policy's mean KL is the one before plus 0.01, and grows with the strength; total variation is half, between
    states it is 0.5. Without ``timesteps`` as earlier versions wrote it.
    """
    rows = []
    for k, policy in enumerate(policies):
        for perturbation, strengths in PERTURBATIONS.items():
            for strength in strengths:
                mean = kl + 0.01 * k + (strength or 0)
                row = {"policy": policy, "perturbation": perturbation, "strength": strength, "n": 64}
                rows.append(row | _interval("kl", mean) | _interval("tv", mean / 2))
    if timesteps is None:
        return {"settings": {"seed": 0}, "rows": rows}
    returns = dict.fromkeys(("return_mean", "return_low", "return_high"))
    settings = {**_model(timesteps), "states": 64, "players": [], "draws": 8, "episodes": 0, "seed": 0} | settings
    unperturbed = [{"policy": policy, "entropy": 1.25, "tv_states": 0.5, **returns} for policy in policies]
    return {
        "settings": settings,
        "unperturbed": unperturbed,
        "rows": [row | {"entropy": 1.0} | returns for row in rows],
    }


def _model(timesteps: int, path: str = "here") -> dict[str, Any]:
    return {"model": path, "model_sha256": "0" * 64, "timesteps": timesteps}


def _interval(name: str, mean: float) -> dict[str, float]:
    return {f"{name}_mean": mean, f"{name}_low": mean - 0.005, f"{name}_high": mean + 0.005, f"{name}_max": 3 * mean}


def synthetic_features(
    policies: Sequence[str], ratio: float, timesteps: int | None, models: Sequence[str] = ("here",)
) -> dict[str, Any]:
    """
    Distance ratio as given, plus 0.01 for each further policy of a model, and 0.1 for each further model; four
    observations on a circle, three times each. Without ``timesteps`` as earlier versions wrote it.
    """
    names = [
        (m, k, f"{model} {policy}" if len(models) > 1 else policy)
        for m, model in enumerate(models)
        for k, policy in enumerate(policies)
    ]
    measures = [
        {
            "policy": name,
            "model": models[m],
            "distance_ratio": ratio + 0.01 * k + 0.1 * m,
            "effective_rank": 12.5,
            "features_dim": 64,
        }
        for m, k, name in names
    ]
    settings: dict[str, Any] = {"seed": 0, "observations": 48, "draws": 3}
    if timesteps is None:
        settings["runs"] = list(models)
    else:
        settings |= {"models": [_model(timesteps, model) for model in models], "cka": "unbiased", "n_observations": 48}
    return {
        "settings": settings,
        "policies": measures,
        "cka": [
            {"a": a, "b": b, "cka": 0.875 if m == n else 0.25}
            for place, (m, _, a) in enumerate(names)
            for n, _, b in names[place + 1 :]
        ],
        "tsne": [
            {"policy": policy, "x": math.cos(k) + 0.1 * draw, "y": math.sin(k)}
            | {"observation": k, "perturbation": f"random convolution {draw}"}
            for *_, policy in names
            for k in range(4)
            for draw in range(3)
        ],
    }
