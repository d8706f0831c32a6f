"""What ``make demo`` shows of a run: a table of returns and a picture of the learning curves.

python examples/demo_report.py procgen-starpilot-easy-v0 -f demo/logs -o demo/learning_curve.png
"""

import argparse
import os
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from matplotlib.figure import Figure
from rl_zoo3.utils import get_latest_run_id, get_saved_hyperparams
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.results_plotter import load_results
from stable_baselines3.common.vec_env import VecMonitor

from sb3_mdpo import MDPO
from sb3_mdpo.envs import ProcgenVecEnv

N_ENVS = 32


def mean_and_error(policy: BasePolicy, episodes: int, options: dict[str, Any]) -> tuple[float, float]:
    """Mean return of sampled actions, and its standard error. Every environment plays equally many episodes."""
    env = VecMonitor(ProcgenVecEnv(N_ENVS, seed=2, **options))
    returns, _ = evaluate_policy(policy, env, episodes, deterministic=False, return_episode_rewards=True)
    env.close()
    return float(np.mean(returns)), float(np.std(returns, ddof=1) / np.sqrt(len(returns)))


def print_table(model: MDPO, game: dict[str, Any], levels: dict[str, Any], episodes: int) -> None:
    untrained = MDPO(
        model.policy_class,
        ProcgenVecEnv(model.n_policies, **game),
        n_policies=model.n_policies,
        n_steps=2,
        batch_size=2,
        policy_kwargs=model.policy_kwargs,
        seed=0,
        device="cpu",
    )
    rows = {"untrained": untrained.policy.members[0]}
    rows |= {f"policy {k}": member for k, member in enumerate(model.policy.members)}
    print(f"\n{game['env_name']}, {game['distribution_mode']}: mean return of {episodes} episodes +/- standard error")
    training = f"{levels['num_levels']} training levels"
    print(f"{'':12}{training:>22}{'unseen levels':>22}")
    for name, policy in rows.items():
        cells = (mean_and_error(policy, episodes, options) for options in (game | levels, game))
        print(f"{name:12}" + "".join(f"{f'{mean:.2f} +/- {error:.2f}':>22}" for mean, error in cells))


def draw_curves(run: Path, title: str, output: Path) -> None:
    episodes = load_results(str(run))
    steps, returns = episodes["l"].cumsum(), episodes["r"]
    window = max(len(returns) // 20, 1)
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(
        steps, returns.rolling(window).mean(), label=f"training levels, both policies (mean of {window} episodes)"
    )
    if (run / "evaluations.npz").exists():
        with np.load(run / "evaluations.npz") as evaluations:
            at, results = evaluations["timesteps"], evaluations["results"]
        error = results.std(axis=1, ddof=1) / np.sqrt(results.shape[1])
        label = f"unseen levels, policy 0 ({results.shape[1]} episodes, standard error)"
        axes.errorbar(at, results.mean(axis=1), error, label=label, capsize=3, marker="o")
    axes.set(xlabel="environment steps of both policies", ylabel="return", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = output.with_suffix(".part.png")
    figure.savefig(unfinished, dpi=120)
    os.replace(unfinished, output)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("env_id", help="the Procgen id that was trained on")
    parser.add_argument("-f", "--folder", type=Path, default=Path("demo/logs"), help="log folder of rl_zoo3 train")
    parser.add_argument("-o", "--output", type=Path, default=Path("demo/learning_curve.png"))
    parser.add_argument("--episodes", type=int, default=256, help="episodes per number in the table")
    args = parser.parse_args()

    logs = args.folder / "mdpo"
    run = logs / f"{args.env_id}_{get_latest_run_id(str(logs), args.env_id)}"
    model = run / f"{args.env_id}.zip"
    if not model.exists():
        parser.error(
            f"there is no trained model in {run}: run rl_zoo3 train --algo mdpo --env {args.env_id} -f {args.folder}"
        )
    hyperparams, _ = get_saved_hyperparams(str(run / args.env_id))
    levels = hyperparams["env_kwargs"]
    print_table(MDPO.load(model, device="cpu"), gym.spec(args.env_id).kwargs, levels, args.episodes)
    draw_curves(run, f"MDPO on {args.env_id}, {levels['num_levels']} training levels", args.output)
    print(f"\nModel, logs and evaluations: {run}\nLearning curves:             {args.output}")


if __name__ == "__main__":
    main()
