"""RecurrentMDPO with exact states of the peers, with burn-in and without the KL, on a task that needs memory.

python benchmarks/recurrent_modes.py      # half an hour on one core; runs that are complete are not repeated

CartPole without velocities, with the settings of sb3-contrib's own test of RecurrentPPO, half as many steps for each
policy, and the same seeds for all. Times are those of the process, with one thread.
"""

import json
from itertools import product
from time import process_time
from typing import Any

import numpy as np
import torch as th
from report import argument_parser, table, write
from rl_zoo3 import import_envs  # noqa: F401  registers CartPoleNoVel-v1
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_mdpo import RecurrentMDPO
from sb3_mdpo.lab.statistics.intervals import student_interval

ENV, N_ENVS, STEPS, EPISODES = "CartPoleNoVel-v1", 8, 25_600, 50  # the first two numbers: of each policy
SETTINGS: dict[str, Any] = {
    "n_steps": 128,
    "learning_rate": 7e-4,
    "batch_size": 256,
    "n_epochs": 10,
    "max_grad_norm": 1,
    "gae_lambda": 0.98,
    "policy_kwargs": {"net_arch": {"vf": [64], "pi": []}, "lstm_hidden_size": 64, "ortho_init": False},
    "device": "cpu",
}
# Arguments of RecurrentMDPO; None is sb3-contrib's RecurrentPPO
VARIANTS: dict[str, dict[str, Any] | None] = {
    "exact states": {},
    "burn-in of 8 steps": {"peer_burn_in": 8},
    "without the KL": {"distill_coef": 0.0},
    "RecurrentPPO": None,
}


def run(variant: str, seed: int) -> dict[str, Any]:
    """Train, and return the mean return of each policy and the seconds of the training."""
    arguments = VARIANTS[variant]
    n_policies = 1 if arguments is None else 2
    env = VecNormalize(make_vec_env(ENV, N_ENVS * n_policies, seed=seed))
    model: Any = (
        RecurrentPPO("MlpLstmPolicy", env, seed=seed, **SETTINGS)
        if arguments is None
        else RecurrentMDPO("MlpLstmPolicy", env, seed=seed, **SETTINGS, **arguments)
    )
    start = process_time()
    model.learn(STEPS * n_policies)
    seconds = process_time() - start
    policies = [model] if arguments is None else list(model.policy.members)
    unseen = evaluation_env(env)
    returns = [float(evaluate_policy(policy, unseen, EPISODES)[0]) for policy in policies]
    return {"variant": variant, "seed": seed, "seconds": seconds, "returns": returns}


def evaluation_env(training: VecNormalize) -> VecEnv:
    env = VecNormalize(make_vec_env(ENV, 10, seed=1_000), training=False, norm_reward=False)
    env.obs_rms = training.obs_rms
    return env


def summary(measured: list[dict[str, Any]]) -> str:
    by_variant = {name: [one for one in measured if one["variant"] == name] for name in VARIANTS}
    means = {name: np.array([np.mean(one["returns"]) for one in runs]) for name, runs in by_variant.items()}
    reference = np.mean([one["seconds"] for one in by_variant["exact states"]])
    rows = []
    for name, runs in by_variant.items():
        difference = means["exact states"] - means[name]
        low, high = student_interval(difference.mean(), difference.std(ddof=1), len(runs))
        rows.append(
            [
                name,
                f"{means[name].mean():.0f} +/- {means[name].std(ddof=1):.0f}",
                "" if name == "exact states" else f"{difference.mean():.0f} ({low:.0f} to {high:.0f})",
                f"{np.mean([one['seconds'] for one in runs]) / reference:.2f}",
            ]
        )
    head = ["RecurrentMDPO, two policies", "return", "exact states minus this one", "time, relative"]
    n_seeds = len(by_variant["exact states"])
    return (
        f"{ENV}, {STEPS:,} steps for each policy, the largest return is 500: mean and standard deviation over "
        f"{n_seeds} seeds, each the mean of its policies in {EPISODES} episodes with the most probable actions. "
        f"Differences are paired by seed, with 95 % intervals (Student's t).\n\n{table(head, rows)}"
    )


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    args = parser.parse_args()
    th.set_num_threads(1)
    unfinished = args.folder / "recurrent_modes.jsonl"
    measured = [json.loads(line) for line in unfinished.read_text().splitlines()] if unfinished.exists() else []
    done = {(one["variant"], one["seed"]) for one in measured}
    for seed, variant in product(range(args.seeds), VARIANTS):
        if (variant, seed) not in done:
            measured.append(run(variant, seed))
            with unfinished.open("a") as file:
                file.write(f"{json.dumps(measured[-1])}\n")
    write("recurrent_modes", summary(measured), measured, args.folder)
    unfinished.unlink()


if __name__ == "__main__":
    main()
