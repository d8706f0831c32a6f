"""Weights and optimizer states as flat dictionaries of named tensors."""

from typing import Any

import torch as th
from torch import nn

WEIGHTS, OPTIMIZER = "policy.", "optimizer."


def names_of_tensors(policy: nn.Module) -> dict[str, str]:
    """
    SB3's policies have one features extractor under three names; safetensors wants every tensor once.

    :param policy: the policy
    :return: every name in its ``state_dict()`` -> the first name of the same tensor
    :raises ValueError: where there is something else than tensors in it
    """
    first: dict[int, str] = {}
    names = {}
    for name, tensor in policy.state_dict(keep_vars=True).items():
        if not isinstance(tensor, th.Tensor):
            raise ValueError(f"The policy's {name} is no tensor, which an export cannot hold.")
        names[name] = first.setdefault(id(tensor), name)
    return names


def weights_of(policy: nn.Module) -> dict[str, th.Tensor]:
    """
    :param policy: the policy
    :return: every tensor of its ``state_dict()`` once
    :raises ValueError: where there is something else than tensors in it
    """
    state = policy.state_dict()
    return {f"{WEIGHTS}{name}": state[name] for name in dict.fromkeys(names_of_tensors(policy).values())}


def load_weights(policy: nn.Module, tensors: dict[str, th.Tensor]) -> None:
    """
    :param policy: policy that gets them
    :param tensors: what :func:`weights_of` gave
    """
    names = names_of_tensors(policy)
    policy.load_state_dict({name: tensors[f"{WEIGHTS}{first}"] for name, first in names.items()})


def optimizer_tensors(optimizer: th.optim.Optimizer) -> dict[str, th.Tensor]:
    """
    :param optimizer: the optimizer
    :return: its state; what it is told about learning (``param_groups``) is not among it
    :raises ValueError: where there is something else than tensors in it
    """
    tensors = {}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if not isinstance(value, th.Tensor):
                raise ValueError(
                    f"The {type(optimizer).__name__} optimizer's state holds {name}={value!r}, which is no tensor: "
                    "export without include_optimizer, or use another optimizer."
                )
            tensors[f"{OPTIMIZER}{index}.{name}"] = value
    return tensors


def load_optimizer(optimizer: th.optim.Optimizer, tensors: dict[str, th.Tensor]) -> None:
    """
    What belongs in the state is found by a step without gradients: call this before the weights are loaded.

    :param optimizer: new optimizer that gets the state
    :param tensors: what :func:`optimizer_tensors` gave, out of a file
    :raises ValueError: where they are not the state of such an optimizer
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for parameter in parameters:
        parameter.grad = th.zeros_like(parameter) if parameter.requires_grad else None
    optimizer.step()
    optimizer.zero_grad()
    expected = layout_of(optimizer_tensors(optimizer))
    found = layout_of(tensors)
    state: dict[int, dict[str, th.Tensor]] = {}
    for name, tensor in tensors.items():
        if found[name] != expected.get(name):
            raise ValueError(f"the tensor {name} is not of the state of {type(optimizer).__name__}")
        index, _, key = name.removeprefix(OPTIMIZER).partition(".")
        state.setdefault(int(index), {})[key] = tensor
    for name in expected.keys() - found.keys():
        if int(name.removeprefix(OPTIMIZER).partition(".")[0]) in state:  # without a gradient ever, there is none
            raise ValueError(f"the tensor {name} of the optimizer's state is missing")
    full: dict[str, Any] = {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    optimizer.load_state_dict(full)


def layout_of(tensors: dict[str, th.Tensor]) -> dict[str, tuple[tuple[int, ...], th.dtype]]:
    """
    :param tensors: tensors by name
    :return: shape and type of each
    """
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
