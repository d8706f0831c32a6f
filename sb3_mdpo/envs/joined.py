"""Several vectorised environments as one, and levels that are divided among policies."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from sb3_mdpo.envs.engine import EngineVecEnv


def divided_levels(num_levels: int, start_level: int, shares: int) -> list[dict[str, int]]:
    """
    Divide levels into consecutive shares that differ by one level at most.

    :param num_levels: number of levels
    :param start_level: the first one
    :param shares: number of shares
    :return: ``num_levels`` and ``start_level`` of each share
    :raises ValueError: if there are fewer levels than shares
    """
    if num_levels < shares:
        raise ValueError(
            f"num_levels={num_levels} cannot be divided into {shares} shares: use at least as many levels."
        )
    size, larger = divmod(num_levels, shares)
    sizes = [size + (k < larger) for k in range(shares)]
    return [{"num_levels": one, "start_level": start_level + sum(sizes[:k])} for k, one in enumerate(sizes)]


class JoinedVecEnv(EngineVecEnv):
    """
    Vectorised environments one after the other, e.g. with other levels for each policy.

    :param parts: engines with the same spaces; those of images or vectors
    :param env_kwargs: arguments of single environments to report in place of the first part's, e.g. all levels
    """

    def __init__(self, parts: Sequence[Any], env_kwargs: dict[str, Any]) -> None:
        self.parts = list(parts)
        self.env_id = parts[0].env_id
        self.env_kwargs = parts[0].env_kwargs | env_kwargs
        self._bounds = np.cumsum([0, *(part.num_envs for part in parts)]).tolist()
        super().__init__(self._bounds[-1], parts[0].observation_space, parts[0].action_space)
        self.metadata = parts[0].metadata

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        seeds = super().seed(seed)
        for part, first in zip(self.parts, self._bounds, strict=False):
            part.seed(seeds[first])
        return seeds

    def reset(self) -> VecEnvObs:
        observations = [part.reset() for part in self.parts]
        self.reset_infos = list(chain.from_iterable(part.reset_infos for part in self.parts))
        self._reset_seeds()
        self._reset_options()
        joined: NDArray[Any] = np.concatenate(observations)
        return joined

    def step_async(self, actions: NDArray[Any]) -> None:
        for part, share in zip(self.parts, np.split(actions, self._bounds[1:-1]), strict=True):
            part.step_async(share)

    def step_wait(self) -> VecEnvStepReturn:
        observations, rewards, dones, infos = zip(*(part.step_wait() for part in self.parts), strict=True)
        return np.concatenate(observations), np.concatenate(rewards), np.concatenate(dones), list(chain(*infos))

    def get_state(self) -> list[Any]:
        """The state of each part: its ``get_state()``, or else its attributes."""
        return [part.get_state() if hasattr(part, "get_state") else dict(vars(part)) for part in self.parts]

    def set_state(self, states: list[Any]) -> None:
        """
        Restore states.

        :param states: from :meth:`get_state` of environments that were made in the same way
        """
        for part, state in zip(self.parts, states, strict=True):
            if hasattr(part, "set_state"):
                part.set_state(state)
            else:
                vars(part).update(state)

    def get_images(self) -> Sequence[NDArray[Any] | None]:
        return [image for part in self.parts for image in part.get_images()]

    def close(self) -> None:
        for part in self.parts:
            part.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        if attr_name in ("env_id", "env_kwargs"):
            return [getattr(self, attr_name) for _ in self._get_indices(indices)]
        values = [value for part in self.parts for value in part.get_attr(attr_name)]
        return [values[index] for index in self._get_indices(indices)]
