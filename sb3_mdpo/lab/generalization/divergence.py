"""KL divergence between the members of a model."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch as th
from numpy.typing import NDArray
from stable_baselines3.common.policies import ActorCriticPolicy

from sb3_mdpo.mdpo.losses import distillation_kl


class ObservationSample:
    """
    A uniform sample of a stream of observations of unknown length (reservoir sampling, Vitter's algorithm R).

    :param size: number of observations to keep
    :param seed: seed of the sample
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.kept: list[NDArray[Any]] = []
        self._seen = 0
        self._rng = np.random.default_rng(seed)

    def add(self, observation: NDArray[Any]) -> None:
        """
        :param observation: the next observation, copied if it is kept
        """
        self._seen += 1
        if len(self.kept) < self.size:
            self.kept.append(observation.copy())
        elif (place := int(self._rng.integers(self._seen))) < self.size:
            self.kept[place] = observation.copy()


def kl_from_peers(
    members: Mapping[str, ActorCriticPolicy], observations: Mapping[str, NDArray[Any]]
) -> dict[str, float | None]:
    """
    The mutual distillation term (:func:`~sb3_mdpo.mdpo.losses.distillation_kl`) on each member's own observations.

    :param members: policies by name
    :param observations: observations of each member, shape ``(B, ...)``
    :return: for each member the mean over peers and observations of ``KL(peer || member)``; None without peers
    """
    if len(members) < 2:
        return dict.fromkeys(members)
    kls: dict[str, float | None] = {}
    for name, member in members.items():
        with th.no_grad():
            states, _ = member.obs_to_tensor(observations[name])
            on_states = {other: policy.get_distribution(states) for other, policy in members.items()}
            own = on_states.pop(name)
            kls[name] = float(distillation_kl(own, list(on_states.values())))
    return kls
