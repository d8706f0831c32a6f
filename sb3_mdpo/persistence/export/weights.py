"""Weights and optimizer states as dictionaries of named tensors."""

from typing import Any

import safetensors.torch
import torch as th
from gymnasium import spaces
from torch import nn
from torch.overrides import TorchFunctionMode

from sb3_mdpo.common.distributions import distribution_checks
from sb3_mdpo.common.mutual_policy import MutualPolicy
from sb3_mdpo.persistence.export.format import MOST_HEADER_BYTES, MOST_TENSOR_ELEMENTS, TENSORS

Tensors = dict[str, th.Tensor]
WEIGHTS, OPTIMIZER = "policy.", "optimizer."


def _unique_names(policy: nn.Module) -> dict[str, str]:
    """Every name in the policy's ``state_dict()`` -> the first name of the same tensor."""
    first: dict[int, str] = {}  # SB3 lists a shared features extractor three times; safetensors wants every tensor once
    state = policy.state_dict(keep_vars=True)
    return {name: first.setdefault(id(tensor), name) for name, tensor in state.items()}


def weights_of(policy: nn.Module) -> Tensors:
    """Every tensor of the policy's ``state_dict()`` once. A ``ValueError`` if something in it is not a tensor."""
    state = policy.state_dict()
    for name, value in state.items():
        if not isinstance(value, th.Tensor):
            raise ValueError(f"The policy's {name} is not a tensor: an export cannot hold it.")
    return {f"{WEIGHTS}{name}": state[name] for name in dict.fromkeys(_unique_names(policy).values())}


def write_tensors(tensors: Tensors) -> bytes:
    """The content of a safetensors file. A ``ValueError`` if :func:`read_tensors` would refuse it."""
    content = safetensors.torch.save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    _check_header(content)
    return content


def read_tensors(content: bytes) -> Tensors:
    """The tensors in the content of a safetensors file."""
    _check_header(content)
    try:
        return safetensors.torch.load(content)
    except (safetensors.SafetensorError, KeyError) as error:
        raise ValueError(f"{TENSORS} is not a safetensors file ({error})") from error


def _check_header(content: bytes) -> None:
    length = min(int.from_bytes(content[:8], "little"), len(content) - 8)
    if length > MOST_HEADER_BYTES:
        raise ValueError(f"{TENSORS} is not of an export: its header has {length} bytes, more than {MOST_HEADER_BYTES}")


def load_weights(policy: nn.Module, tensors: Tensors) -> None:
    """Load tensors that :func:`weights_of` returned."""
    policy.load_state_dict({name: tensors[f"{WEIGHTS}{first}"] for name, first in _unique_names(policy).items()})


class _OnlyShapes(TorchFunctionMode):
    """Beside the meta device: keeps modules there, and bounds the size and number of tensors."""

    def __init__(self, n_tensors: int) -> None:
        super().__init__()
        self._left = 2 * n_tensors + 16  # gSDE makes some that are not in the file

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is th.Tensor.to:  # SB3 moves its layers to the policy's device
            return args[0]
        if func is th.empty:  # every layer makes its weights with it
            self._left -= 1
            if self._left < 0:
                raise ValueError("the network that it describes has more tensors than the file")
        result = func(*args, **(kwargs or {}))
        if isinstance(result, th.Tensor) and result.numel() > MOST_TENSOR_ELEMENTS:
            raise ValueError(f"it computes a tensor of shape {list(result.shape)}")
        return result


def check_weights(
    settings: dict[str, Any],
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    tensors: Tensors,
) -> None:
    """Build the network on PyTorch's meta device, where tensors have shapes but take no memory, and compare."""
    with distribution_checks(False), th.device("meta"), _OnlyShapes(len(tensors)):
        policy = MutualPolicy(
            observation_space,
            action_space,
            lambda _: 0.0,
            member_class=settings["policy_class"],
            n_policies=settings["n_policies"],
            use_sde=settings["use_sde"],
            **settings["policy_kwargs"],
        )
    _check_layout(tensors, weights_of(policy))


def optimizer_tensors(optimizer: th.optim.Optimizer) -> Tensors:
    """The optimizer's state without ``param_groups``. A ``ValueError`` if something in it is not a tensor."""
    tensors = {}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if not isinstance(value, th.Tensor):
                raise ValueError(
                    f"The {type(optimizer).__name__} optimizer's state holds {name}={value!r}, which is not a tensor: "
                    "export without include_optimizer, or use another optimizer."
                )
            tensors[f"{OPTIMIZER}{index}.{name}"] = value
    return tensors


def load_optimizer(optimizer: th.optim.Optimizer, tensors: Tensors) -> None:
    """Call this before loading the weights: a step with zero gradients finds out what belongs in the state."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = th.zeros_like(parameter) if parameter.requires_grad else None
    optimizer.step()
    optimizer.zero_grad()
    state: dict[int, dict[str, th.Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, key = name.removeprefix(OPTIMIZER).partition(".")
        state.setdefault(int(index), {})[key] = tensor
    # Of every parameter; one that never had a gradient has no state in the file
    expected = optimizer_tensors(optimizer)
    _check_layout(tensors, {name: one for name, one in expected.items() if int(name.split(".")[1]) in state})
    full: dict[str, Any] = {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    optimizer.load_state_dict(full)


def _check_layout(tensors: Tensors, expected: Tensors) -> None:
    for name in sorted(expected.keys() | tensors.keys()):
        found, wanted = (_layout(one.get(name)) for one in (tensors, expected))
        if found != wanted:
            raise ValueError(f"the tensor {name} is {found} in the file and {wanted} in the model that it describes")


def _layout(tensor: th.Tensor | None) -> str:
    return "missing" if tensor is None else f"{tuple(tensor.shape)} {tensor.dtype}"
