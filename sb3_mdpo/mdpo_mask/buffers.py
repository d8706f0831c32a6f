"""Rollouts with the masks of the actions."""

from itertools import accumulate
from typing import Any, ClassVar

import numpy as np
import torch as th
from gymnasium import spaces
from numpy.typing import NDArray
from sb3_contrib.common.maskable.buffers import MaskableDictRolloutBufferSamples, MaskableRolloutBufferSamples

from sb3_mdpo.common.buffers import MutualRolloutBuffer


def mask_sizes(action_space: spaces.Space[Any]) -> list[int]:
    """Number of actions in each dimension; their masks stand one behind the other, as in sb3-contrib."""
    if isinstance(action_space, spaces.Discrete):
        return [int(action_space.n)]
    if isinstance(action_space, spaces.MultiDiscrete):
        return [int(n) for n in action_space.nvec]
    assert isinstance(action_space, spaces.MultiBinary)
    assert isinstance(action_space.n, int)  # contrib's distributions check it
    return [2] * action_space.n


def check_masks(masks: NDArray[Any], n_envs: int, action_space: spaces.Space[Any]) -> NDArray[np.bool_]:
    """
    :param masks: of all environments, true for the actions that are allowed
    :param n_envs: number of environments
    :param action_space: the action space
    :return: the masks, shape ``(n_envs, number of actions in all dimensions)``
    :raises ValueError: if the shape is another, or a dimension allows no action
    """
    sizes = mask_sizes(action_space)
    try:
        masks = np.asarray(masks, dtype=bool).reshape(n_envs, sum(sizes))
    except ValueError as error:
        raise ValueError(
            f"action_masks() of {n_envs} environments gave an array of the shape {np.shape(masks)}: for {action_space} "
            f"each must give {sum(sizes)} values."
        ) from error
    allowed = np.logical_or.reduceat(masks, [0, *accumulate(sizes[:-1])], axis=1)
    if not allowed.all():
        env, dimension = np.argwhere(~allowed)[0]
        where = f" in dimension {dimension}" if len(sizes) > 1 else ""
        raise ValueError(f"action_masks() of environment {env} allows no action{where}: at least one must be allowed.")
    return masks


class MaskableMutualRolloutBuffer(MutualRolloutBuffer):
    """:class:`~sb3_mdpo.MutualRolloutBuffer` that also holds masks; without them, all actions are allowed."""

    samples_classes: ClassVar = (MaskableRolloutBufferSamples, MaskableDictRolloutBufferSamples)

    def _allocate_inputs(self) -> dict[str, th.Tensor]:
        return {"action_masks": self._zeros((sum(mask_sizes(self.action_space)),), th.bool)}

    def reset(self) -> None:
        super().reset()
        self.inputs["action_masks"].fill_(True)
