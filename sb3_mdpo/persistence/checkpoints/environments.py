"""What of environments changes, and how it is continued."""

from collections.abc import Mapping
from typing import Any

from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv, VecNormalize

from sb3_mdpo.envs.layers import monitors

# Attributes that say what a layer is, not in which state; clocks go on by themselves
CONSTANT = frozenset({"class_attributes", "spec", "_cached_spec", "metadata", "t_start"})
STATISTICS = ("obs_rms", "ret_rms")


def in_other_processes(env: VecEnv) -> bool:
    """
    :param env: vectorised environments
    :return: whether they live in other processes, where they cannot be copied
    """
    return isinstance(env.unwrapped, SubprocVecEnv)


def shift_clocks(layers: Mapping[str, Any], seconds: float) -> None:
    """
    Let monitors count the seconds of a training from its beginning, without those between its interruption and now.

    :param layers: of environments that have just been made
    :param seconds: how long the training had taken before
    """
    for monitor in monitors(layers.values()):
        monitor.t_start -= seconds


def statistics(layers: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """
    :param layers: of environments
    :return: the statistics of ``VecNormalize``, by the name of the layer: they mean something beyond single episodes
    """
    return {
        name: {key: getattr(layer, key) for key in STATISTICS if hasattr(layer, key)}
        for name, layer in layers.items()
        if isinstance(layer, VecNormalize)
    }
