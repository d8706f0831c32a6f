"""Vectorised engines for the Gymnasium ids of environments with levels."""

from pathlib import Path
from typing import Any

import gymnasium as gym
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecMonitor

from sb3_mdpo.envs.grid import TexturedGridVecEnv
from sb3_mdpo.envs.joined import JoinedVecEnv, divided_levels
from sb3_mdpo.envs.procgen_vec import ProcgenVecEnv
from sb3_mdpo.envs.registration import GRID_ENTRY_POINT, PROCGEN_ENTRY_POINT
from sb3_mdpo.utils.env_spec import without_monitor

# Entry point of the Gymnasium ids -> vectorised engine with the same arguments
ENGINES: dict[Any, type[VecEnv]] = {PROCGEN_ENTRY_POINT: ProcgenVecEnv, GRID_ENTRY_POINT: TexturedGridVecEnv}
UNSEEN_LEVELS = {"num_levels": 0, "start_level": 0}


def is_native(env_id: str) -> bool:
    """
    :param env_id: Gymnasium id
    :return: whether there is a vectorised engine for it
    """
    spec = gym.registry.get(env_id)
    return spec is not None and spec.entry_point in ENGINES


def is_procgen(env_id: str) -> bool:
    """Whether it is one of the Procgen ids."""
    return is_native(env_id) and gym.spec(env_id).entry_point == PROCGEN_ENTRY_POINT


def has_levels(env_id: str) -> bool:
    """
    :param env_id: Gymnasium id
    :return: whether the environment has the arguments ``num_levels`` and ``start_level``. Procgen's exploration mode
        is a single level
    """
    return is_native(env_id) and gym.spec(env_id).kwargs.get("distribution_mode") != "exploration"


def make_levels(env_id: str, n_envs: int, seed: int | None = None, **env_kwargs: Any) -> VecEnv:
    """
    Make vectorised environments with levels, wrapped in a ``VecMonitor``.

    :param env_id: Gymnasium id of environments with levels
    :param n_envs: number of environments
    :param seed: seed of the environments
    :param env_kwargs: arguments of the environments, such as ``num_levels`` and ``start_level``; the default is all
        levels
    :return: the environments
    :raises ValueError: if the environment has no levels
    """
    if not has_levels(env_id):
        raise ValueError(
            f"{env_id} has no levels to choose from, so none are unseen: use one with num_levels among its arguments, "
            "e.g. procgen-coinrun-easy-v0."
        )
    spec = gym.spec(env_id)
    engine: Any = ENGINES[spec.entry_point]
    return VecMonitor(engine(n_envs, seed=seed, **spec.kwargs | env_kwargs))


def native_vec_env(venv: VecEnv, level_shares: int = 1, **engine_kwargs: Any) -> VecEnv:
    """
    Replace single environments by one vectorised engine with the same options, number and seed.

    This is a ``vec_env_wrapper`` for the zoo's hyperparameter files, because ``rl_zoo3`` can only make single
    environments. Episode statistics are written to one ``monitor.csv`` instead of one file per environment.

    :param venv: Procgen or textured grid environments; others are returned unchanged
    :param level_shares: number of consecutive shares into which the environments' levels are divided, one for each
        policy of MDPO: the first environments draw from the first share, and so on. In the zoo's files ``per_policy``.
        All levels (``num_levels=0``) are not divided
    :param engine_kwargs: further arguments of the engine, e.g. ``num_threads`` of :class:`ProcgenVecEnv`
    :return: the engine in a ``VecMonitor``
    :raises ValueError: if the environments have wrappers or a time limit, which the engine does not support, or levels
        or environments cannot be divided
    """
    spec = venv.get_attr("spec")[0] if venv.has_attr("spec") else None
    if spec is None or spec.entry_point not in ENGINES:
        return venv
    wrappers = [wrapper.name for wrapper in without_monitor(spec).additional_wrappers]
    if wrappers or spec.max_episode_steps is not None:
        what = f"wrappers {wrappers}" if wrappers else f"max_episode_steps={spec.max_episode_steps}"
        raise ValueError(
            f"The native engine of {spec.id} does not support the {what} of single environments: leave them out, use a "
            "VecEnvWrapper, or in the zoo vec_env_wrapper:None, which runs the slower single environments."
        )
    seed = venv._seeds[0]
    monitors = [_monitor_of(env) for env in venv.envs] if isinstance(venv, DummyVecEnv) else []
    files = [Path(m.results_writer.file_handler.name) for m in monitors if m is not None and m.results_writer]
    keywords = dict.fromkeys(("is_success", *(key for m in monitors if m is not None for key in m.info_keywords)))
    venv.close()
    for file in files:
        file.unlink()  # it would stay empty
    engine: Any = ENGINES[spec.entry_point]
    native = _engines(engine, venv.num_envs, seed, spec.kwargs | engine_kwargs, level_shares)
    filename = str(files[0].with_name("monitor.csv")) if files else None
    return VecMonitor(native, filename, info_keywords=tuple(keywords))


def _engines(engine: Any, n_envs: int, seed: int | None, kwargs: dict[str, Any], shares: int) -> VecEnv:
    levels = {name: kwargs.get(name, 0) for name in UNSEEN_LEVELS}
    if shares == 1 or levels["num_levels"] == 0:
        return engine(n_envs, seed=seed, **kwargs)  # type: ignore[no-any-return]
    if n_envs % shares:
        raise ValueError(
            f"{n_envs} environment(s) cannot be divided among level_shares={shares}: use a multiple of it."
        )
    size = n_envs // shares
    parts = [engine(size, **kwargs | share) for share in divided_levels(**levels, shares=shares)]
    joined = JoinedVecEnv(parts, levels)
    joined.seed(seed)
    return joined


def _monitor_of(env: gym.Env[Any, Any]) -> Monitor | None:
    while isinstance(env, gym.Wrapper) and not isinstance(env, Monitor):
        env = env.env
    return env if isinstance(env, Monitor) else None
