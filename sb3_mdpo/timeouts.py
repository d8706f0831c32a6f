"""Bootstrapping of episodes that a time limit cut off."""

from typing import Any

import numpy as np
import torch as th
from numpy.typing import NDArray

from sb3_mdpo.policies import MutualPolicy


def add_timeout_values(
    rewards: NDArray[Any], dones: NDArray[Any], infos: list[dict[str, Any]], policy: MutualPolicy, gamma: float
) -> None:
    """
    Add the discounted value of the terminal observation to the reward of every step at which a
    time limit ended the episode (SB3 issue #633), in one batch per member.

    :param rewards: rewards of this step, changed in place, shape ``(n_envs,)``
    :param dones: ends of episodes, shape ``(n_envs,)``
    :param infos: SB3's ``terminal_observation`` and ``TimeLimit.truncated`` are read
    :param policy: whose members' value functions are asked, each for its own environments
    :param gamma: discount factor
    """
    cut_off = [
        idx
        for idx in np.flatnonzero(dones)
        if infos[idx].get("TimeLimit.truncated", False) and infos[idx].get("terminal_observation") is not None
    ]
    envs_per_member = len(rewards) // policy.n_policies
    for k, member in enumerate(policy.members):
        own = [idx for idx in cut_off if idx // envs_per_member == k]
        if own:
            observations = _stack([infos[idx]["terminal_observation"] for idx in own])
            with th.no_grad():
                values = member.predict_values(member.obs_to_tensor(observations)[0])
            rewards[own] += gamma * values.flatten().cpu().numpy()


def _stack(observations: list[Any]) -> NDArray[Any] | dict[str, NDArray[Any]]:
    if isinstance(observations[0], dict):
        return {key: np.stack([observation[key] for observation in observations]) for key in observations[0]}
    stacked: NDArray[Any] = np.stack(observations)
    return stacked
