"""Speed of MDPO against SB3's PPO for the policies that users of SB3 pick: vectors and small images.

python benchmarks/policies.py

Every policy of a task has the same number of environments, so two PPOs that are trained one after the other take as
many environment steps per second as one. The variants of a task run in one process each, one after the other, and all
of them again for every repeat, so that what else the machine does falls on all alike.
"""

import argparse
import json
import statistics
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import torch as th
from report import argument_parser, table, write
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv, VecMonitor
from timing import iteration_seconds

from sb3_mdpo import MDPO, StridedCnnPolicy
from sb3_mdpo.envs import ProcgenVecEnv


@dataclass(frozen=True)
class Task:
    """
    :param policy: the policy's name or class
    :param env_id: a Gymnasium id, or a game of Procgen
    :param n_envs: environments per policy
    :param settings: arguments of both algorithms
    """

    policy: Any
    env_id: str
    n_envs: int
    settings: dict[str, Any]

    def make_env(self, n_policies: int) -> VecEnv:
        n_envs = self.n_envs * n_policies
        if self.env_id.startswith(("CartPole", "Pendulum")):
            return make_vec_env(self.env_id, n_envs=n_envs, seed=0)
        return VecMonitor(ProcgenVecEnv(n_envs, self.env_id, num_levels=200, distribution_mode="easy", seed=0))


VECTORS = {"n_steps": 256, "batch_size": 64, "n_epochs": 10}
IMAGES = {"n_steps": 64, "batch_size": 512, "n_epochs": 3}
STRIDED = {"features_extractor_kwargs": {"channels": (16, 32, 32), "features_dim": 256}}
TASKS = {
    "MlpPolicy, CartPole-v1": Task("MlpPolicy", "CartPole-v1", 8, VECTORS),
    "MlpPolicy, Pendulum-v1": Task("MlpPolicy", "Pendulum-v1", 8, VECTORS),
    "CnnPolicy, Procgen": Task("CnnPolicy", "starpilot", 32, IMAGES),
    "StridedCnnPolicy, Procgen": Task(StridedCnnPolicy, "starpilot", 32, IMAGES | {"policy_kwargs": STRIDED}),
}
# Arguments of MDPO; None is SB3's PPO
VARIANTS: dict[str, dict[str, Any] | None] = {
    "SB3's PPO": None,
    "MDPO, 1 policy": {"n_policies": 1},
    "MDPO, 2 policies": {},
    "MDPO, 2 policies, no KL": {"distill_coef": 0.0},
    "MDPO, 2 policies, compiled": {"compile": True},
    "MDPO, 2 policies, precision auto": {"precision": "auto"},
}
ONLY_FOR = {"MDPO, 2 policies, compiled": "vectors", "MDPO, 2 policies, precision auto": "images"}


def variants_of(task: str) -> list[str]:
    kind = "images" if "Procgen" in task else "vectors"
    return [name for name in VARIANTS if ONLY_FOR.get(name, kind) == kind]


def measure(task: Task, options: dict[str, Any] | None, iterations: int) -> dict[str, float]:
    """The fastest of some iterations after a first one, which allocates and compiles."""
    n_policies = 1 if options is None else options.get("n_policies", 2)
    model: PPO | MDPO
    env, common = task.make_env(n_policies), {**task.settings, "device": "cpu", "seed": 0}
    model = PPO(task.policy, env, **common) if options is None else MDPO(task.policy, env, **common, **options)
    iteration_seconds(model)
    rollout, update = (min(part) for part in zip(*(iteration_seconds(model) for _ in range(iterations)), strict=True))
    n_steps, n_samples = task.settings["n_steps"], task.settings["n_steps"] * task.n_envs
    return {
        "steps_per_second": n_samples * n_policies / (rollout + update),
        "rollout_step": rollout / n_steps,
        "minibatch": update / (task.settings["n_epochs"] * n_samples / task.settings["batch_size"]),
    }


def run(task: str, variant: str, args: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, "--one", task, variant, "--iterations", str(args.iterations)]
    command += ["--threads", str(args.threads)]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    measured: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    print(f"{task}, {variant}: {measured['steps_per_second']:.0f} steps/s", file=sys.stderr, flush=True)
    return {"task": task, "variant": variant} | measured


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="PyTorch threads")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="only these")
    parser.add_argument("--one", nargs=2, metavar=("TASK", "VARIANT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        th.set_num_threads(args.threads)
        task, variant = args.one
        print(json.dumps(measure(TASKS[task], VARIANTS[variant], args.iterations)))
        return

    raw = [
        run(task, variant, args) for _ in range(args.repeats) for task in args.tasks for variant in variants_of(task)
    ]
    rows = []
    for task in args.tasks:
        medians = {
            variant: {
                name: statistics.median(one[name] for one in raw if (one["task"], one["variant"]) == (task, variant))
                for name in ("steps_per_second", "rollout_step", "minibatch")
            }
            for variant in variants_of(task)
        }
        ppo = medians["SB3's PPO"]
        for variant, one in medians.items():
            n_policies = 1 if "2 policies" not in variant else 2
            rows.append(
                [
                    task,
                    variant,
                    f"{one['steps_per_second']:.0f}",
                    f"{one['steps_per_second'] / ppo['steps_per_second']:.2f}",
                    f"{one['rollout_step'] * 1e6:.0f} ({one['rollout_step'] / ppo['rollout_step'] / n_policies:.2f})",
                    f"{one['minibatch'] * 1e3:.2f} ({one['minibatch'] / ppo['minibatch'] / n_policies:.2f})",
                ]
            )
    header = ["policy and environment", "variant", "environment steps/s", "x SB3's PPO"]
    header += ["us per step of all environments (of as many PPOs)", "ms per minibatch (of as many PPOs)"]
    settings = (
        "Vectors: 8 environments x 256 steps per policy, 10 epochs, minibatches of 64. Images: 32 environments of "
        "starpilot (easy) x 64 steps per policy, 3 epochs, minibatches of 512. "
        f"{args.threads} PyTorch threads; fastest of {args.iterations} iterations, median of {args.repeats} "
        "interleaved repeats. In brackets: the time relative to that of one PPO per policy, trained one after the "
        "other; below 1 is faster."
    )
    write("policies", f"{settings}\n\n{table(header, rows)}", {"runs": raw}, args.folder)


if __name__ == "__main__":
    main()
