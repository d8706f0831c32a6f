"""Bootstrapping of episodes that a time limit has ended."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch as th
from numpy.typing import NDArray
from stable_baselines3.common.type_aliases import PyTorchObs

from sb3_mdpo.common.mutual_policy import MutualPolicy


def timeout_values(
    dones: NDArray[Any],
    infos: list[dict[str, Any]],
    policy: MutualPolicy,
    predict_values: Callable[[int, PyTorchObs, list[int]], th.Tensor],
) -> NDArray[Any]:
    """
    Values of the last observations of episodes that a time limit has ended, in one batch per member. Discounted, they
    are added to the reward of that step (SB3 issue #633).

    :param dones: ends of episodes, shape ``(n_envs,)``
    :param infos: SB3's ``terminal_observation`` and ``TimeLimit.truncated`` are read
    :param policy: the members, each of which predicts the values in its own environments
    :param predict_values: of a member's index, observations and the indices of their environments
    :return: values, 0 for all other environments, shape ``(n_envs,)``
    """
    cut_off = [
        idx
        for idx in np.flatnonzero(dones)
        if infos[idx].get("TimeLimit.truncated", False) and infos[idx].get("terminal_observation") is not None
    ]
    values = np.zeros(len(dones), dtype=np.float32)
    envs_per_member = len(dones) // policy.n_policies
    predicted = []
    for k in range(policy.n_policies):
        own = [int(idx) for idx in cut_off if idx // envs_per_member == k]
        if own:
            observations = _stack([infos[idx]["terminal_observation"] for idx in own])
            with th.no_grad():
                predicted.append(predict_values(k, policy.obs_to_tensor(observations)[0], own).flatten())
    if predicted:
        values[cut_off] = th.cat(predicted).cpu().numpy()  # sorted by member; the host waits for the device once
    return values


def _stack(observations: list[Any]) -> NDArray[Any] | dict[str, NDArray[Any]]:
    if isinstance(observations[0], dict):
        return {key: np.stack([observation[key] for observation in observations]) for key in observations[0]}
    stacked: NDArray[Any] = np.stack(observations)
    return stacked
