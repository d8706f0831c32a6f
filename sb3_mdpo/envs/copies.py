"""Make one copy of an environment per policy."""

from collections.abc import Callable
from dataclasses import replace

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec
from stable_baselines3.common.env_util import is_wrapped, make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv


def without_monitor(spec: EnvSpec) -> EnvSpec:
    """The spec without SB3's ``Monitor``, which Gymnasium cannot make from a spec."""
    wrappers = tuple(w for w in spec.additional_wrappers if not w.entry_point.endswith(":Monitor"))
    return replace(spec, additional_wrappers=wrappers)


def copies_of(env: GymEnv | str | None, n_copies: int) -> GymEnv | str | None:
    """
    Turn an id or a single environment into a vectorised environment.

    :param env: id, environment or vectorised environment
    :param n_copies: number of environments. A given environment is the first one, the others are made from its ``spec``
    :return: a ``VecEnv`` of ``n_copies`` environments. A ``VecEnv`` is returned unchanged, and so is an environment
        without a ``spec``, which is enough to predict but not to learn
    :raises ValueError: if the environment cannot be made from its ``spec``
    """
    if env is None or isinstance(env, VecEnv) or n_copies <= 1:
        return env
    if isinstance(env, str):
        return make_vec_env(env, n_envs=n_copies)
    if env.spec is None:
        return env

    def original() -> gym.Env:  # type: ignore[type-arg]
        return env if is_wrapped(env, Monitor) else Monitor(env)

    spec = without_monitor(env.spec)

    def copy() -> gym.Env:  # type: ignore[type-arg]
        try:
            return Monitor(gym.make(spec))
        except ValueError as error:
            raise ValueError(
                f"{env} cannot be copied from its spec ({error}): pass a VecEnv with a multiple of {n_copies} "
                "environments, e.g. make_vec_env(lambda: MyWrapper(gym.make(env_id)), n_envs=8)."
            ) from error

    makers: list[Callable[[], gym.Env]] = [original, *[copy] * (n_copies - 1)]  # type: ignore[type-arg]
    return DummyVecEnv(makers)
