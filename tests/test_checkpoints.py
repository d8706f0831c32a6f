"""Interrupted trainings go on bit for bit, or say why they cannot."""

import csv
import os
import resource
import signal
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3 import PPO
from stable_baselines3.common.atari_wrappers import AtariWrapper
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecEnv,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
    is_vecenv_wrapped,
)
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sb3_mdpo import MDPO
from sb3_mdpo.callbacks import BudgetCallback, HParamCallback
from sb3_mdpo.checkpoints import ResumableCheckpointCallback
from sb3_mdpo.checkpoints.archive import DamagedError, checkpoints, read, write
from sb3_mdpo.checkpoints.copying import dumps, loads, put_back, state_of
from sb3_mdpo.checkpoints.snapshot import Snapshot
from sb3_mdpo.envs import ProcgenVecEnv, TexturedGridVecEnv
from sb3_mdpo.envs.layers import monitor_folder
from sb3_mdpo.zoo.resume import command_line
from tests.envs import BrightSideEnv, maker
from tests.helpers import TINY

MakeEnv = Callable[[Path], VecEnv]
pytestmark = pytest.mark.filterwarnings("error:.*not identically")


class Crash(Exception):
    """What stands for the end of a process in these tests; tests/test_faults.py ends real ones."""


class Crashing(BaseCallback):
    """Crashes at a step, which is no attribute: those are part of a checkpoint."""

    at: float = np.inf

    def _on_step(self) -> bool:
        if self.num_timesteps >= Crashing.at:
            raise Crash
        return True


def cartpoles(folder: Path, n_envs: int = 4) -> VecEnv:
    env = make_vec_env("CartPole-v1", n_envs, seed=3, monitor_dir=str(folder))
    return VecNormalize(env)


def images(folder: Path) -> VecEnv:
    env = VecMonitor(DummyVecEnv([BrightSideEnv] * 4), str(folder / "all"))
    env.seed(1)
    return VecFrameStack(env, 2, channels_order="first")


def dicts(folder: Path) -> VecEnv:
    space = spaces.Dict(
        {"picture": spaces.Box(0, 255, (36, 36, 3), np.uint8), "vector": spaces.Box(-1, 1, (2,), np.float32)}
    )
    env = DummyVecEnv([maker(space, spaces.MultiDiscrete([2, 3]))] * 4)
    env.seed(2)
    return VecTransposeImage(VecMonitor(env, str(folder / "all")))


def atari(folder: Path) -> VecEnv:
    import ale_py

    gym.register_envs(ale_py)
    env = make_vec_env(
        "ALE/Pong-v5", 2, seed=4, monitor_dir=str(folder), wrapper_class=AtariWrapper, env_kwargs={"frameskip": 1}
    )
    return VecFrameStack(env, 4)


def procgen(folder: Path) -> VecEnv:
    return VecMonitor(
        ProcgenVecEnv(4, "starpilot", num_levels=5, distribution_mode="easy", seed=6), str(folder / "all")
    )


def single_procgens(folder: Path) -> VecEnv:
    return make_vec_env("procgen-starpilot-easy-v0", 4, seed=7, monitor_dir=str(folder))


def grids(folder: Path) -> VecEnv:
    return VecNormalize(VecMonitor(TexturedGridVecEnv(4, num_levels=10, seed=8), str(folder / "all")), norm_obs=False)


def single_grids(folder: Path) -> VecEnv:
    return make_vec_env("TexturedGrid-v0", 4, seed=9, monitor_dir=str(folder))


def pendulums(folder: Path) -> VecEnv:
    return make_vec_env("Pendulum-v1", 6, seed=10, monitor_dir=str(folder))


def train(
    folder: Path,
    make_env: MakeEnv,
    crash_at: float = np.inf,
    timesteps: int = 384,
    algorithm: type[MDPO | PPO] = MDPO,
    log_interval: int = 1,
    checkpoint: dict[str, Any] | None = None,
    evaluate: bool = True,
    **kwargs: Any,
) -> Any:
    """The program that somebody runs, and after a crash runs again."""
    folder.mkdir(exist_ok=True)
    env = make_env(folder)
    model = algorithm(kwargs.pop("policy", "MlpPolicy"), env, **TINY | kwargs)
    model.set_logger(configure(str(folder), ["csv", "json", "log", "tensorboard"]))
    callbacks: list[BaseCallback] = [
        ResumableCheckpointCallback(
            **{"save_path": folder / "checkpoints", "resume": True, "verbose": 0} | (checkpoint or {})
        ),
        Crashing(),
        BudgetCallback(),
        HParamCallback(),
    ]
    if evaluate:
        norm_obs = isinstance(env, VecNormalize) and env.norm_obs
        other_env = VecNormalize(make_env(folder.parent), norm_reward=False, norm_obs=norm_obs)
        transposed = not is_vecenv_wrapped(env, VecTransposeImage) and is_vecenv_wrapped(model.env, VecTransposeImage)
        callbacks.append(
            EvalCallback(
                VecTransposeImage(other_env) if transposed else other_env,
                eval_freq=20,
                n_eval_episodes=2,
                log_path=str(folder),
                verbose=0,
                deterministic=False,
                warn=False,
            )
        )
    Crashing.at = crash_at
    try:
        model.learn(timesteps, callbacks, log_interval=log_interval)
    except Crash:
        return None
    finally:
        env.close()
        model.logger.close()
    return model


def state_dicts(model: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return dict(model.policy.state_dict()), model.policy.optimizer.state_dict()


def without_time(row: dict[str, str]) -> dict[str, str]:
    return {
        key: value for key, value in row.items() if key not in ("t", "time/fps", "time/time_elapsed", "budget/seconds")
    }


def rows(file: Path) -> list[dict[str, str]]:
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    return [without_time(row) for row in csv.DictReader(lines)]


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder), purge_orphaned_data=False)  # it would hide what was written twice
    events.Reload()
    tags = without_time(dict.fromkeys(events.Tags()["scalars"], "")).keys()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


def assert_same_trainings(one: Any, other: Any, one_folder: Path, other_folder: Path) -> None:
    th.testing.assert_close(state_dicts(one), state_dicts(other), rtol=0, atol=0)
    assert one.num_timesteps == other.num_timesteps
    files = sorted(path.name for path in one_folder.glob("*.csv"))
    assert files
    for file in files:
        for row, other_row in zip(rows(one_folder / file), rows(other_folder / file), strict=True):
            assert dict(sorted(row.items())) == dict(sorted(other_row.items())), file  # SB3 orders keys at random
    assert len((one_folder / "log.txt").read_text().splitlines()) == len(
        (other_folder / "log.txt").read_text().splitlines()
    )
    assert scalars(one_folder) == scalars(other_folder)
    if not (one_folder / "evaluations.npz").exists():
        return
    evaluations, others = (np.load(folder / "evaluations.npz") for folder in (one_folder, other_folder))
    for key in evaluations.files:
        np.testing.assert_array_equal(evaluations[key], others[key])


TRAININGS: dict[str, tuple[MakeEnv, dict[str, Any]]] = {
    "vectors": (cartpoles, {}),
    "three policies, dropout, random peers": (
        partial(cartpoles, n_envs=6),
        {
            "n_policies": 3,
            "distill_mode": "random",
            "policy_kwargs": {"activation_fn": partial(th.nn.Dropout, 0.2), "net_arch": [8]},
        },
    ),
    "gSDE": (pendulums, {"use_sde": True, "sde_sample_freq": 5}),
    "images": (images, {"policy": "CnnPolicy", "policy_kwargs": {}}),
    "dicts": (dicts, {"policy": "MultiInputPolicy", "policy_kwargs": {}}),
    "Atari": (atari, {"evaluate": False, "policy": "CnnPolicy", "policy_kwargs": {}}),
    "Procgen": (
        procgen,
        {"policy": "ImpalaCnnPolicy", "policy_kwargs": {"features_extractor_kwargs": {"channels": (4,)}}},
    ),
    "single Procgens": (single_procgens, {"evaluate": False, "policy": "StridedCnnPolicy", "policy_kwargs": {}}),
    "grids": (grids, {"policy": "StridedCnnPolicy", "policy_kwargs": {}}),
    "single grids": (single_grids, {"policy": "StridedCnnPolicy", "policy_kwargs": {}}),
    "schedules": (cartpoles, {"learning_rate": lambda progress: 1e-3 * progress, "target_kl": 1e-4}),
    "PPO": (cartpoles, {"algorithm": PPO}),
}


@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_that_crashed_twice_ends_like_one_that_did_not(name: str, tmp_path: Path) -> None:
    make_env, kwargs = TRAININGS[name]
    alone = train(tmp_path / "alone", make_env, **kwargs)
    again = tmp_path / "again"
    assert train(again, make_env, 150, **kwargs) is None
    assert train(again, make_env, 290, **kwargs) is None
    resumed = train(again, make_env, **kwargs)
    if name == "PPO":  # its log counts iterations since learn() was called
        for folder in ("alone", "again"):
            (tmp_path / folder / "progress.csv").unlink()
    assert_same_trainings(alone, resumed, tmp_path / "alone", again)
