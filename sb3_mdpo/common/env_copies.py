"""Make one copy of an environment per policy."""

import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
from gymnasium.wrappers import RecordVideo
from stable_baselines3.common.env_util import is_wrapped, make_vec_env, unwrap_wrapper
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_mdpo.utils.env_spec import without_monitor

Env = gym.Env[Any, Any]


def copies_of(env: GymEnv | str | Callable[[], Env] | None, n_copies: int) -> GymEnv | None:
    """
    Turn what names one environment into a vectorised environment with several.

    :param env: id, class, function that makes an environment, environment, or vectorised environment. A given
        environment becomes the first one, and the others are made from its ``spec``, with a warning
    :param n_copies: number of environments
    :return: a ``VecEnv`` of ``n_copies`` environments; a ``VecEnv`` is returned unchanged
    :raises ValueError: if the environment cannot be copied: it has no ``spec``, writes a file, or was changed after it
        was made
    """
    if isinstance(env, str) or (callable(env) and not isinstance(env, (gym.Env, VecEnv))):
        return make_vec_env(env, n_envs=n_copies)
    if not isinstance(env, gym.Env) or n_copies <= 1:
        return env  # type: ignore[return-value]
    copies = [_copy(env, n_copies) for _ in range(n_copies - 1)]
    warnings.warn(
        f"Each of the {n_copies} policies needs an environment of its own: {n_copies - 1} more made from the spec of "
        f"{env}. Pass the id, the class or a function that makes the environment to have all of them made alike.",
        stacklevel=4,
    )
    first = env if is_wrapped(env, Monitor) else Monitor(env)
    return DummyVecEnv([lambda one=one: one for one in (first, *map(Monitor, copies))])  # type: ignore[misc]


def _copy(env: Env, n_copies: int) -> Env:
    instead = (
        f"Pass a function that makes the environment, MDPO(policy, lambda: ...), or a VecEnv with a multiple of "
        f"{n_copies} environments, e.g. make_vec_env(lambda: ..., n_envs={n_copies})"
    )
    if env.spec is None:
        name = type(env.unwrapped).__name__
        raise ValueError(
            f"{env} cannot be copied for {n_copies} policies, because it was not made by gym.make(): pass the class, "
            f"MDPO(policy, {name}), or make_vec_env({name}, n_envs={n_copies})."
        )
    monitor = unwrap_wrapper(env, Monitor)
    if isinstance(monitor, Monitor) and monitor.results_writer is not None:
        raise ValueError(
            "Monitor writes the episodes of this environment to a file, but those of its copies would be missing. "
            f"{instead}, with monitor_dir for the files."
        )
    if unwrap_wrapper(env, RecordVideo) is not None:
        raise ValueError(f"RecordVideo would record one of {n_copies} environments. {instead}.")
    try:
        copy: Env = gym.make(without_monitor(env.spec))
    except ValueError as error:
        raise ValueError(f"{env} cannot be copied from its spec ({error}). {instead}.") from error
    made, given = _settings(copy), _settings(env)
    changed = [name for name in made.keys() & given.keys() if made[name] != given[name]]
    if changed:
        name = min(changed)
        raise ValueError(
            f"{env} cannot be copied from its spec: it was changed after it was made ({name}={given[name]!r}, in the "
            f"copy {made[name]!r}). {instead}."
        )
    return copy


def _settings(env: Env) -> dict[str, Any]:
    """Public attributes of the innermost environment that are numbers or text."""
    return {
        name: value
        for name, value in vars(env.unwrapped).items()
        if not name.startswith("_") and isinstance(value, (bool, int, float, str))
    }
