"""The layers of vectorised environments: vector wrappers, single environments, their wrappers."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
from stable_baselines3.common.monitor import Monitor, ResultsWriter
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper, VecMonitor

from sb3_mdpo.envs.subproc import MonitoredSubprocVecEnv

Recorder = Monitor[Any, Any] | VecMonitor | MonitoredSubprocVecEnv


def layers(env: VecEnv, name: str = "env") -> dict[str, Any]:
    """
    :param env: vectorised environments
    :param name: prefix of the names
    :return: the layers with a state: vector wrappers from the outside to the inside, single environments and their
        wrappers. The names depend only on how the environments were made
    """
    return {f"{name} {place}:{type(layer).__name__}": layer for place, layer in _walk(env)}


def _walk(env: VecEnv) -> Iterator[tuple[str, Any]]:
    depth = 0
    while isinstance(env, VecEnvWrapper):
        yield f"{depth}", env
        env = env.venv
        depth += 1
    yield f"{depth}", env
    for idx, single in enumerate(env.envs if isinstance(env, DummyVecEnv) else []):
        depth = 0
        while isinstance(single, gym.Wrapper):
            yield f"{idx}.{depth}", single
            single = single.env
            depth += 1
        yield f"{idx}.{depth}", single


def monitors(all_layers: Iterable[Any]) -> Iterator[Recorder]:
    """The layers that record episode statistics."""
    for layer in all_layers:
        if isinstance(layer, (Monitor, VecMonitor, MonitoredSubprocVecEnv)):
            yield layer


def results_writers(all_layers: Mapping[str, Any]) -> dict[str, ResultsWriter]:
    """The writers of monitor files, by name."""
    named = {f"{name}.results_writer": getattr(layer, "results_writer", None) for name, layer in all_layers.items()}
    return {name: writer for name, writer in named.items() if isinstance(writer, ResultsWriter)}


def monitor_folder(env: VecEnv) -> Path | None:
    """
    :param env: vectorised environments
    :return: folder of their monitor files (in the zoo: the run folder), or None if there are none
    """
    for writer in results_writers(layers(env)).values():
        return Path(writer.file_handler.name).parent
    return None
