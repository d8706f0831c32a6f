"""Whether weights are those of a network, found out before any memory is taken for it."""

from typing import Any

import torch as th
from gymnasium import spaces
from torch.overrides import TorchFunctionMode

from sb3_mdpo.common.distributions import distribution_checks
from sb3_mdpo.common.policies import MutualPolicy
from sb3_mdpo.persistence.export.tensors import layout_of, weights_of

# Elements of anything that is computed while a network is built: a gibibyte of float32
MOST_ELEMENTS = 2**28
MOST_TENSORS = 2**16


class _OnlyShapes(TorchFunctionMode):
    """
    Beside the meta device: nothing leaves it, and nothing is larger than a machine could compute. Layers take memory
    even there, so there are no more than a file with so many tensors can be of.

    :param n_tensors: how many the file has
    """

    def __init__(self, n_tensors: int) -> None:
        super().__init__()
        self._left = 2 * n_tensors + 16  # gSDE makes some that are not in the file

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is th.Tensor.to:  # SB3 moves its layers to where the policy is to be, which is nowhere yet
            return args[0]
        if func is th.empty:  # as every layer makes its weights
            self._left -= 1
            if self._left < 0:
                raise ValueError("the network that it describes has more tensors than the file")
        result = func(*args, **(kwargs or {}))
        if isinstance(result, th.Tensor) and result.numel() > MOST_ELEMENTS:
            raise ValueError(f"it computes a tensor of shape {list(result.shape)}")
        return result


def check_weights(
    settings: dict[str, Any],
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    tensors: dict[str, th.Tensor],
) -> None:
    """
    Build the network on PyTorch's meta device, where tensors have shapes and no memory.

    :param settings: the model's settings
    :param observation_space: observation space
    :param action_space: action space
    :param tensors: weights out of a file
    :raises ValueError: where they are not those of this network
    """
    n_policies = settings["n_policies"]
    if len(tensors) > MOST_TENSORS:
        raise ValueError(f"{len(tensors)} tensors are more than {MOST_TENSORS}")
    if n_policies > len(tensors):
        raise ValueError(f"{n_policies} policies have more than {len(tensors)} tensors")
    with distribution_checks(False), th.device("meta"), _OnlyShapes(len(tensors)):
        policy = MutualPolicy(
            observation_space,
            action_space,
            lambda _: 0.0,
            member_class=settings["policy_class"],
            n_policies=n_policies,
            use_sde=settings["use_sde"],
            **settings["policy_kwargs"],
        )
    expected, found = layout_of(weights_of(policy)), layout_of(tensors)
    for name in sorted(expected.keys() | found.keys()):
        ours, theirs = (str(layout.get(name, "missing")) for layout in (expected, found))
        if ours != theirs:
            raise ValueError(f"the tensor {name} is {theirs} in the file and {ours} in the network that it describes")
