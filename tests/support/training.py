"""Small models on CartPole, and callbacks that watch them train."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecEnv

from sb3_mdpo import MDPO
from tests.support.helpers import TINY, silent_logger

N_ENVS = 4
ROLLOUT = TINY["n_steps"] * N_ENVS
BUTTONS = spaces.Discrete(2)


def cartpole(n_envs: int = N_ENVS, **kwargs: Any) -> VecEnv:
    return make_vec_env("CartPole-v1", n_envs=n_envs, **kwargs)


def small(algorithm: type[PPO] | type[MDPO] = MDPO, env: Any = None, policy: Any = "MlpPolicy", **kwargs: Any) -> Any:
    """A model of the smallest settings, on four CartPoles unless there is another environment."""
    return algorithm(policy, cartpole() if env is None else env, **TINY | kwargs)


def small_silent(*args: Any, **kwargs: Any) -> Any:
    """A model whose logger keeps the values of the last update."""
    model = small(*args, **kwargs)
    model.set_logger(silent_logger())
    return model


def remember_steps(env: VecEnv) -> list[Any]:
    """What every step of the environments returns from now on."""
    step_wait, steps = env.step_wait, []
    env.step_wait = lambda: steps.append(step_wait()) or steps[-1]  # type: ignore[method-assign]
    return steps


class ScriptedEnv(gym.Env):
    """Shows the number of the step and pays what it is told to. Episodes succeed or are cut off at their last step."""

    observation_space = spaces.Box(-100, 100, (1,))

    def __init__(
        self,
        reward: Callable[["ScriptedEnv", Any], Any] = lambda env, action: 1.0,
        length: Callable[["ScriptedEnv"], int] = lambda env: 3,
        truncates: bool = False,
        action_space: spaces.Space = BUTTONS,
    ) -> None:
        self.reward, self.length, self.truncates, self.action_space = reward, length, truncates, action_space
        self.n_episodes = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.n_episodes += 1
        self.n_steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, Any, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        self.n_steps += 1
        end = self.n_steps == self.length(self)
        info = {"is_success": True} if end and not self.truncates else {}
        observation = np.full(1, self.n_steps, np.float32)
        return observation, self.reward(self, action), end and not self.truncates, end and self.truncates, info


class NarrowPolicy(ActorCriticPolicy):
    """A class of a user."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs, net_arch=[4])


class EachStep(BaseCallback):
    """Calls a function with the local variables of each step, and keeps them as well."""

    def __init__(self, look: Callable[[dict[str, Any]], Any] = lambda _: None) -> None:
        super().__init__()
        self.look = look
        self.steps: list[dict[str, Any]] = []
        self.rollouts: list[dict[str, Any]] = []

    def _on_step(self) -> bool:
        self.look(self.locals)
        self.steps.append(dict(self.locals))
        return True

    def _on_rollout_end(self) -> None:
        self.rollouts.append(dict(self.locals))
