"""Environments with levels, and the engines that run any number of them natively."""

from pathlib import Path
from typing import Any

import gymnasium as gym
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecMonitor

from sb3_mdpo.envs.copies import without_monitor
from sb3_mdpo.envs.grid import TexturedGridVecEnv
from sb3_mdpo.envs.procgen_vec import ProcgenVecEnv
from sb3_mdpo.envs.registration import GRID_ENTRY_POINT, PROCGEN_ENTRY_POINT

# Entry point of Gymnasium ids -> the VecEnv that runs any number of such environments, with the same arguments
ENGINES: dict[Any, type[VecEnv]] = {PROCGEN_ENTRY_POINT: ProcgenVecEnv, GRID_ENTRY_POINT: TexturedGridVecEnv}
UNSEEN_LEVELS = {"num_levels": 0, "start_level": 0}


def is_native(env_id: str) -> bool:
    """
    :param env_id: Gymnasium id
    :return: whether an engine of ours runs such environments
    """
    spec = gym.registry.get(env_id)
    return spec is not None and spec.entry_point in ENGINES


def is_procgen(env_id: str) -> bool:
    """
    :param env_id: Gymnasium id
    :return: whether it is one of the Procgen ids
    """
    return is_native(env_id) and gym.spec(env_id).entry_point == PROCGEN_ENTRY_POINT


def has_levels(env_id: str) -> bool:
    """
    :param env_id: Gymnasium id
    :return: whether there are levels to choose from: ``num_levels`` and ``start_level`` among the
        environment's arguments. Procgen's exploration mode is a single level
    """
    return is_native(env_id) and gym.spec(env_id).kwargs.get("distribution_mode") != "exploration"


def make_levels(env_id: str, n_envs: int, seed: int | None = None, **env_kwargs: Any) -> VecEnv:
    """
    :param env_id: Gymnasium id of environments with levels
    :param n_envs: number of environments
    :param seed: their seed
    :param env_kwargs: arguments of the environments, ``num_levels`` and ``start_level`` among them; all
        levels by default
    :return: the native environments, with episode statistics
    :raises ValueError: where there are no levels to choose from
    """
    if not has_levels(env_id):
        raise ValueError(
            f"{env_id} has no levels to choose from, so none are unseen: use one with num_levels among its arguments, "
            "e.g. procgen-coinrun-easy-v0."
        )
    spec = gym.spec(env_id)
    engine: Any = ENGINES[spec.entry_point]
    return VecMonitor(engine(n_envs, seed=seed, **spec.kwargs | env_kwargs))


def native_vec_env(venv: VecEnv, **engine_kwargs: Any) -> VecEnv:
    """
    Replace single environments by one native engine with the same options, number and seed.

    A ``vec_env_wrapper`` for the zoo's hyperparameter files: ``rl_zoo3`` can only make single
    environments, of which this takes the place before they have started anything costly. Episode
    statistics go to one ``monitor.csv`` where the single environments would have written one each.

    :param venv: environments with an id that :func:`is_native`; anything else is returned as it is
    :param engine_kwargs: arguments of the engine alone, e.g. ``num_threads`` of :class:`ProcgenVecEnv`
    :return: the engine in a ``VecMonitor``
    :raises ValueError: where the environments are wrapped or have a time limit, which the engine does not know
    """
    spec = venv.get_attr("spec")[0] if venv.has_attr("spec") else None
    if spec is None or spec.entry_point not in ENGINES:
        return venv
    wrappers = [wrapper.name for wrapper in without_monitor(spec).additional_wrappers]
    if wrappers or spec.max_episode_steps is not None:
        what = f"wrappers {wrappers}" if wrappers else f"max_episode_steps={spec.max_episode_steps}"
        raise ValueError(
            f"The native engine of {spec.id} cannot have the {what} of single environments: leave them out, "
            "use a VecEnvWrapper instead, or in the zoo vec_env_wrapper:None for slow single environments."
        )
    seed = venv._seeds[0]
    monitors = [_monitor_of(env) for env in venv.envs] if isinstance(venv, DummyVecEnv) else []
    files = [Path(m.results_writer.file_handler.name) for m in monitors if m is not None and m.results_writer]
    keywords = dict.fromkeys(("is_success", *(key for m in monitors if m is not None for key in m.info_keywords)))
    venv.close()
    for file in files:
        file.unlink()  # no episode will ever be in it
    engine: Any = ENGINES[spec.entry_point]
    native = engine(venv.num_envs, seed=seed, **spec.kwargs | engine_kwargs)
    filename = str(files[0].with_name("monitor.csv")) if files else None
    return VecMonitor(native, filename, info_keywords=tuple(keywords))


def _monitor_of(env: gym.Env[Any, Any]) -> Monitor | None:
    while isinstance(env, gym.Wrapper) and not isinstance(env, Monitor):
        env = env.env
    return env if isinstance(env, Monitor) else None
