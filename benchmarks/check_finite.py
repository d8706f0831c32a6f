"""The cost of ``check_finite``: iterations of rollout and update with and without it, in turn.

python benchmarks/check_finite.py

CartPole is the worst case: its environments and networks take next to no time, and its observations are floats.
Procgen's images are integers, which need no check.

The control is a second model without the check: its ratio shows how much two equal models differ.
"""

import time
from collections.abc import Callable

import numpy as np
import torch as th
from report import argument_parser, table, write
from stable_baselines3.common.env_util import make_vec_env

from sb3_mdpo import MDPO
from sb3_mdpo.envs import ProcgenVecEnv


def cartpole(check_finite: bool) -> MDPO:
    """rl-zoo3's settings for PPO."""
    env = make_vec_env("CartPole-v1", n_envs=8, seed=0)
    return MDPO("MlpPolicy", env, n_steps=32, batch_size=128, n_epochs=20, seed=0, check_finite=check_finite)


def pendulum(check_finite: bool) -> MDPO:
    """Gaussian actions and few epochs, so that rollouts take a larger share of the time."""
    env = make_vec_env("Pendulum-v1", n_envs=8, seed=0)
    return MDPO("MlpPolicy", env, n_steps=256, batch_size=256, n_epochs=2, seed=0, check_finite=check_finite)


def images(check_finite: bool) -> MDPO:
    """64x64 images and an IMPALA encoder of half the width."""
    env = ProcgenVecEnv(16, "starpilot", distribution_mode="easy", seed=0)
    encoder = {"features_extractor_kwargs": {"channels": (8, 16, 16)}}
    settings = {"n_steps": 32, "batch_size": 256, "n_epochs": 1, "policy_kwargs": encoder}
    return MDPO("ImpalaCnnPolicy", env, seed=0, check_finite=check_finite, **settings)


VARIANTS = {"with": True, "without": False, "control": False}
TASKS: dict[str, Callable[[bool], MDPO]] = {"CartPole": cartpole, "Pendulum": pendulum, "64x64 images": images}


def seconds_of_iteration(model: MDPO) -> float:
    start = time.perf_counter()
    model.learn(model.n_steps * model.n_envs, log_interval=None, reset_num_timesteps=False)
    if th.cuda.is_available():
        th.cuda.synchronize()
    return time.perf_counter() - start


def ratio(seconds: list[float], reference: list[float]) -> str:
    """Median and quartiles of the ratios of consecutive iterations."""
    low, middle, high = np.quantile(np.divide(seconds, reference), [0.25, 0.5, 0.75])
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--iterations", type=int, default=100, help="of each task and variant")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--threads", type=int, default=th.get_num_threads())
    args = parser.parse_args()
    th.set_num_threads(args.threads)

    rows, measured = [], []
    for name in args.tasks:
        models = {variant: TASKS[name](check_finite) for variant, check_finite in VARIANTS.items()}
        for model in models.values():  # warms up
            model.learn(model.n_steps * model.n_envs)
        seconds: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
        for iteration in range(args.iterations):
            for variant in np.roll(list(VARIANTS), iteration):  # each comes first as often as the others
                seconds[variant].append(seconds_of_iteration(models[variant]))
        for model in models.values():
            model.get_env().close()
        medians = [f"{1000 * np.median(times):.1f}" for times in seconds.values()]
        rows.append([name, *medians, *(ratio(seconds[v], seconds["without"]) for v in ("with", "control"))])
        measured.append({"task": name, "seconds": seconds})

    header = ["", *(f"{variant}: ms" for variant in VARIANTS), "with / without", "control / without"]
    title = (
        f"An iteration, rollout and update, with `check_finite` and without it, in turn: medians of {args.iterations}, "
        "and the ratio of each two, median and quartiles"
    )
    write("check_finite", f"{title}:\n\n{table(header, rows)}", measured, args.folder)


if __name__ == "__main__":
    main()
