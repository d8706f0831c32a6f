"""As many copies of an environment as there are policies."""

from collections.abc import Callable
from dataclasses import replace

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec
from stable_baselines3.common.env_util import is_wrapped, make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv


def without_monitor(spec: EnvSpec) -> EnvSpec:
    """
    :param spec: how an environment was made and wrapped
    :return: the same without SB3's ``Monitor``, which Gymnasium cannot make again and every copy gets anew
    """
    wrappers = tuple(w for w in spec.additional_wrappers if not w.entry_point.endswith(":Monitor"))
    return replace(spec, additional_wrappers=wrappers)


def copies_of(env: GymEnv | str | None, n_copies: int) -> GymEnv | str | None:
    """
    Turn what names or is a single environment into a vectorised one.

    :param env: id, environment or vectorised environment
    :param n_copies: how many environments to make of an id or of a single environment; the
        environment itself is the first one, the others are made from its ``spec``
    :return: a ``VecEnv`` of ``n_copies`` environments. A ``VecEnv`` is returned as it is, and so
        is an environment without a ``spec``: it can predict but not learn
    :raises ValueError: where an environment's ``spec`` does not suffice to make it again
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
