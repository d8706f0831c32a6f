"""The variants that ``throughput.py`` compares, in a process each: ``variants.py NAME`` prints JSON."""

import argparse
import json
import resource
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper, VecMonitor, VecNormalize
from timing import iteration_seconds, now

from sb3_mdpo import MDPO, ImpalaCnnPolicy
from sb3_mdpo.common.precision import resolve_precision
from sb3_mdpo.envs import ProcgenVecEnv

GAME = "bigfish"
EPOCHS = 3
PAPER = {
    "batch_size": 2048,
    "n_epochs": EPOCHS,
    "learning_rate": 5e-4,
    "gamma": 0.999,
    "gae_lambda": 0.95,
    "clip_range": 0.2,
    "clip_range_vf": 0.2,
    "ent_coef": 0.01,
    "vf_coef": 0.25,
    "max_grad_norm": 0.5,
}


class Clock:
    """Seconds by name, the device's work included."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        start = now()
        yield
        self.seconds[name] += now() - start


class TimedVecEnv(VecEnvWrapper):
    """Adds up how long the environments take."""

    def __init__(self, venv: VecEnv, clock: Clock) -> None:
        super().__init__(venv)
        self.clock = clock

    def reset(self) -> Any:
        return self.venv.reset()

    def step_async(self, actions: Any) -> None:
        with self.clock.measure("environments"):
            self.venv.step_async(actions)

    def step_wait(self) -> Any:
        with self.clock.measure("environments"):
            return self.venv.step_wait()


def native(n_envs: int, clock: Clock) -> VecEnv:
    env = ProcgenVecEnv(n_envs, GAME, num_levels=500, distribution_mode="hard", seed=0)
    return TimedVecEnv(VecNormalize(VecMonitor(env), norm_obs=False, gamma=0.999), clock)


def single(n_envs: int, clock: Clock) -> VecEnv:
    makers = [lambda: Monitor(gym.make(f"procgen-{GAME}-hard-v0", num_levels=500)) for _ in range(n_envs)]
    return TimedVecEnv(VecNormalize(DummyVecEnv(makers), norm_obs=False, gamma=0.999), clock)


def iterate(model: MDPO | PPO, clock: Clock, iterations: int) -> None:
    if getattr(model, "compile", False):  # compiling is not what is measured
        iteration_seconds(model)
        clock.seconds.clear()
    for _ in range(iterations):
        rollout, update = iteration_seconds(model)
        clock.seconds["rollout"] += rollout
        clock.seconds["update"] += update


def mdpo(args: argparse.Namespace, clock: Clock, **options: Any) -> int:
    env = native(2 * args.n_envs, clock)
    model = MDPO("ImpalaCnnPolicy", env, n_steps=args.n_steps, device=args.device, seed=0, **PAPER, **options)
    iterate(model, clock, args.iterations)
    return 2 * EPOCHS


def ppo(args: argparse.Namespace, clock: Clock, make_env: Callable[[int, Clock], VecEnv] = native) -> int:
    env = make_env(args.n_envs, clock)
    model = PPO(ImpalaCnnPolicy, env, n_steps=args.n_steps, device=args.device, seed=0, **PAPER)
    iterate(model, clock, args.iterations)
    return EPOCHS


class AuthorsEnvironments:
    """Procgen as the authors' agents expect it: their preprocessing, by the same native engine as ours."""

    def __init__(self, n_envs: int, clock: Clock) -> None:
        self.env = native(n_envs, clock)
        self.single_observation_space = self.env.observation_space
        self.single_action_space = self.env.action_space

    def reset(self) -> np.ndarray:
        return self.env.reset()

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        return self.env.step(actions)


def authors(args: argparse.Namespace, clock: Clock) -> int:
    """The authors' agents and trainer, imported from their checkout and driven as their main.py does."""
    from torch.utils.tensorboard import SummaryWriter

    sys.path.insert(0, str(args.authors))
    from agent import Agent
    from trainer import Trainer

    settings = SimpleNamespace(
        num_envs=args.n_envs, num_steps=args.n_steps, batch_size=args.n_envs * args.n_steps, minibatch_size=2048,
        update_epochs=EPOCHS, gamma=0.999, gae_lambda=0.95, norm_adv=True, clip_value_loss=True, c_1=0.5, c_2=0.01,
        alpha=1.0, max_grad_norm=0.5, epsilon=0.2,
    )  # fmt: skip
    th.manual_seed(0)
    device = th.device("cuda" if args.device != "cpu" and th.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as folder:
        agents = [
            Agent(settings, AuthorsEnvironments(args.n_envs, clock), SummaryWriter(f"{folder}/{k}"), device).to(device)
            for k in range(2)
        ]
        parameters = [parameter for agent in agents for parameter in agent.parameters()]
        trainer = Trainer(settings, th.optim.Adam(parameters, lr=5e-4, eps=1e-5), *agents)
        for iteration in range(1, args.iterations + 1):
            with clock.measure("rollout"):
                for agent in agents:
                    agent.interaction(iteration)
            with clock.measure("update"):
                trainer.train()
    return 2 * EPOCHS


VARIANTS: dict[str, Callable[[argparse.Namespace, Clock], int]] = {
    "mdpo_fp32": lambda args, clock: mdpo(args, clock, precision="fp32"),
    "mdpo_auto": lambda args, clock: mdpo(args, clock, precision="auto"),
    "mdpo_compiled": lambda args, clock: mdpo(args, clock, precision="auto", compile=True),
    "sb3_ppo": ppo,
    "sb3_ppo_single_envs": lambda args, clock: ppo(args, clock, single),
    "authors": authors,
}
# How many policies act: environment steps are those of all of them
POLICIES = {name: 1 if "ppo" in name else 2 for name in VARIANTS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("--n-envs", type=int, default=64, help="environments per policy")
    parser.add_argument("--n-steps", type=int, default=256)
    parser.add_argument("--iterations", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--authors", type=Path, help="checkout of the authors' repository")
    args = parser.parse_args()

    clock = Clock()
    images_per_step = VARIANTS[args.variant](args, clock)
    steps = args.iterations * args.n_steps * args.n_envs * POLICIES[args.variant]
    seconds = clock.seconds
    total = seconds["rollout"] + seconds["update"]
    device = th.device("cuda" if args.device != "cpu" and th.cuda.is_available() else "cpu")
    auto = "auto" if args.variant in ("mdpo_auto", "mdpo_compiled") else "fp32"
    result = {
        "variant": args.variant,
        "precision": resolve_precision(auto, device, gym.spaces.Box(0, 255, (3, 64, 64), np.uint8)),
        "steps": steps,
        "steps_per_second": steps / total,
        "images_per_second": images_per_step * steps / seconds["update"],
        "environments": seconds["environments"] / total,
        "inference": (seconds["rollout"] - seconds["environments"]) / total,
        "update": seconds["update"] / total,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "peak_device_bytes": th.cuda.max_memory_allocated() if th.cuda.is_available() else None,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
