"""Small models on CartPole, and callbacks that watch them train."""

from collections.abc import Callable
from typing import Any

from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecEnv

from sb3_mdpo import MDPO
from tests.support.helpers import TINY, silent_logger

N_ENVS = 4
ROLLOUT = TINY["n_steps"] * N_ENVS


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
