"""Learning curves in float32 and in bfloat16 on a small Procgen task, and a control: float32 in other chunks.

python benchmarks/precision.py

The control computes the same update and differs in rounding alone, so it shows how far apart two runs of one seed
drift by themselves.

Interrupted, it goes on with the runs that are missing. Two cores are used best by one process per seed:
``--threads 1 --seeds 0 --only-train`` and so on, and then a call for all seeds, which writes the table.
"""

import json
from typing import Any

import numpy as np
import torch as th
from report import argument_parser, table, write
from scipy import stats
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

from sb3_mdpo import MDPO
from sb3_mdpo.envs import ProcgenVecEnv

REFERENCE = "fp32"
VARIANTS: dict[str, dict[str, Any]] = {
    REFERENCE: {"precision": "fp32", "chunk_size": 128},
    "bf16": {"precision": "bf16", "chunk_size": 128},
    "control": {"precision": "fp32", "chunk_size": 64},
}
# make demo's task and settings with half of its encoder's width
TASK = {"env_name": "starpilot", "distribution_mode": "easy", "num_levels": 200}
SETTINGS = {
    "n_steps": 64,
    "batch_size": 256,
    "n_epochs": 2,
    "learning_rate": 5e-4,
    "gamma": 0.99,
    "ent_coef": 0.01,
    "clip_range_vf": 0.2,
    "vf_coef": 0.25,
    "policy_kwargs": {"features_extractor_kwargs": {"channels": (4, 8, 8)}},
}
N_ENVS = 64
INTERVALS = 4


class Episodes(BaseCallback):
    """The step at which every episode ended, and its return."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: list[tuple[int, float]] = []

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            if "episode" in info:
                self.ended.append((self.num_timesteps, float(info["episode"]["r"])))
        return True


def train(variant: str, seed: int, steps: int) -> list[tuple[int, float]]:
    env = VecNormalize(VecMonitor(ProcgenVecEnv(N_ENVS, seed=seed, **TASK)), norm_obs=False, gamma=0.99)
    episodes = Episodes()
    MDPO("ImpalaCnnPolicy", env, seed=seed, **VARIANTS[variant], **SETTINGS).learn(steps, callback=episodes)
    env.close()
    return episodes.ended


def per_interval(episodes: list[tuple[int, float]], steps: int) -> np.ndarray:
    """Mean return of the episodes that ended in each of ``INTERVALS`` equal parts of the training."""
    at, returns = np.array(episodes).T
    interval = np.minimum(at * INTERVALS // (steps + 1), INTERVALS - 1).astype(int)
    return np.array([returns[interval == part].mean() for part in range(INTERVALS)])


def difference(variant: np.ndarray, reference: np.ndarray) -> list[str]:
    """Mean difference over seeds in each interval, with its 95 % interval by Welch's t test: runs are independent
    once rounding has separated them, so they are not paired."""
    tests = stats.ttest_ind(variant, reference, equal_var=False)
    low, high = tests.confidence_interval(0.95)
    means = (variant - reference).mean(axis=0)
    return [f"{m:+.2f} ({a:+.2f} to {b:+.2f})" for m, a, b in zip(means, low, high, strict=True)]


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--steps", type=int, default=98_304, help="of both policies together")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--threads", type=int, default=th.get_num_threads())
    parser.add_argument("--only-train", action="store_true", help="leave the table to another call: for parallel seeds")
    args = parser.parse_args()
    th.set_num_threads(args.threads)

    args.folder.mkdir(parents=True, exist_ok=True)
    runs: dict[tuple[str, int], Any] = {}
    for seed in args.seeds:
        for variant, arguments in VARIANTS.items():
            part = args.folder / f"precision_{variant}_{seed}.part.json"
            facts = {"task": TASK, "settings": SETTINGS | arguments, "n_envs": N_ENVS, "steps": args.steps}
            facts = json.loads(json.dumps(facts | {"threads": args.threads}))
            run = json.loads(part.read_text()) if part.exists() else {}
            if run.get("facts") != facts:  # not trained yet, or differently
                run = {"facts": facts, "episodes": train(variant, seed, args.steps)}
                unfinished = part.with_suffix(".tmp")
                unfinished.write_text(json.dumps(run))
                unfinished.replace(part)
            runs[variant, seed] = run["episodes"]
            print(variant, seed, per_interval(runs[variant, seed], args.steps).round(2), flush=True)

    if args.only_train:
        return
    curves = {v: np.stack([per_interval(runs[v, seed], args.steps) for seed in args.seeds]) for v in VARIANTS}
    rows = [
        [f"{v}, seed {seed}", *(f"{value:.2f}" for value in curves[v][k])]
        for v in VARIANTS
        for k, seed in enumerate(args.seeds)
    ]
    rows += [[f"{v}, mean", *(f"{value:.2f}" for value in curves[v].mean(axis=0))] for v in VARIANTS]
    rows += [
        [f"{v} - {REFERENCE}, mean (95 % interval)", *difference(curves[v], curves[REFERENCE])]
        for v in VARIANTS
        if v != REFERENCE
    ]
    header = [
        "mean return",
        *(f"{args.steps * k // INTERVALS:,} to {args.steps * (k + 1) // INTERVALS:,} steps" for k in range(INTERVALS)),
    ]
    summary = (
        f"Returns while training on {TASK['env_name']}, {TASK['distribution_mode']}, {TASK['num_levels']} levels, two "
        f"policies, IMPALA encoder with 4, 8 and 8 channels. bf16 and {REFERENCE}: chunks of 128 images; control: "
        f"float32 in chunks of 64, which differs from {REFERENCE} in rounding alone.\n\n{table(header, rows)}"
    )
    measured = [{"variant": v, "seed": seed, "episodes": episodes} for (v, seed), episodes in runs.items()]
    write("precision", summary, measured, args.folder)
    for part in args.folder.glob("precision_*.part.json"):
        part.unlink()


if __name__ == "__main__":
    main()
