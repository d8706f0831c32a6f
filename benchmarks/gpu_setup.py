"""What the parts of ``gpu.py`` share: their results, the device, and the models that they train."""

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.vec_env import VecEnv, VecMonitor
from variants import PAPER, Clock, TimedVecEnv, native

from sb3_mdpo import MDPO
from sb3_mdpo.envs import TexturedGridVecEnv

NEEDS_CUDA = "skipped: needs CUDA"


@dataclass(frozen=True)
class Setup:
    """
    :param device: device of the networks
    :param miniature: whether to train on little data, to see that everything works
    :param seed: seed of all models and environments
    """

    device: str
    miniature: bool
    seed: int = 0

    @property
    def on_cuda(self) -> bool:
        return self.device.startswith("cuda")

    def size(self, full: int, miniature: int) -> int:
        return miniature if self.miniature else full


@dataclass(frozen=True)
class Row:
    """
    :param what: what was checked or measured
    :param result: the outcome in words and numbers
    :param passed: whether the check passed; None for a measurement
    :param raw: numbers for the JSON file
    """

    what: str
    result: str
    passed: bool | None = None
    raw: Any = None


@dataclass(frozen=True)
class Part:
    """
    :param name: name in the table
    :param function: yields the rows; it is pickled, and runs in a process of its own
    :param budget: seconds after which it is ended, not in miniature
    """

    name: str
    function: Callable[[Setup], Iterator[Row]]
    budget: float


def without_tf32() -> None:
    """float32 with all its digits, in matrix products and convolutions, for which torch allows TF32 by default."""
    th.backends.cuda.matmul.allow_tf32 = False
    th.backends.cudnn.allow_tf32 = False


def vectors(
    setup: Setup, env_id: str = "CartPole-v1", n_envs: int = 16, clock: Clock | None = None, **settings: Any
) -> MDPO:
    """Two policies with SB3's networks for vectors."""
    env: VecEnv = make_vec_env(env_id, n_envs=n_envs, seed=setup.seed)
    env = env if clock is None else TimedVecEnv(env, clock)
    defaults = {"n_steps": setup.size(256, 32), "batch_size": setup.size(256, 64), "n_epochs": setup.size(4, 1)}
    return MDPO("MlpPolicy", env, seed=setup.seed, device=setup.device, **defaults | settings)


def grids(setup: Setup, policy: str = "StridedCnnPolicy", **settings: Any) -> MDPO:
    """Two policies on the textured grid: small images, and exact checkpoints."""
    env = VecMonitor(TexturedGridVecEnv(8, num_levels=20, seed=setup.seed))
    defaults = {"n_steps": setup.size(64, 16), "batch_size": 64, "n_epochs": setup.size(4, 1)}
    return MDPO(policy, env, seed=setup.seed, device=setup.device, **defaults | settings)


def pictures(setup: Setup, n_envs: int, clock: Clock) -> tuple[str, VecEnv]:
    """Name and environments with images: those of the paper, 64x64, if Procgen is installed."""
    if setup.miniature:
        return "textured grid, 16x16", TimedVecEnv(TexturedGridVecEnv(n_envs, seed=setup.seed), clock)
    if importlib.util.find_spec("procgen"):
        return "Procgen, 64x64", native(n_envs, clock)
    size = {"screen_height": 64, "screen_width": 64, "n_channels": 3}
    noise = make_vec_env(FakeImageEnv, n_envs, seed=setup.seed, env_kwargs=size)
    return "noise, 64x64 (Procgen is not installed)", TimedVecEnv(noise, clock)


def images(setup: Setup, clock: Clock | None = None, **settings: Any) -> tuple[str, MDPO]:
    """Two policies with the paper's encoder and settings, and the name of their environments."""
    name, env = pictures(setup, setup.size(128, 8), Clock() if clock is None else clock)
    defaults: dict[str, Any] = {**PAPER, "n_steps": setup.size(128, 16)}
    if setup.miniature:
        encoder = {"channels": (4, 4), "features_dim": 16}
        defaults |= {"batch_size": 32, "n_epochs": 1, "policy_kwargs": {"features_extractor_kwargs": encoder}}
    return name, MDPO("ImpalaCnnPolicy", env, seed=setup.seed, device=setup.device, **defaults | settings)


def with_rollout(model: MDPO) -> MDPO:
    """The model after a first iteration, which warms up and fills its buffer."""
    return model.learn(model.n_steps * model.n_envs, log_interval=None)
