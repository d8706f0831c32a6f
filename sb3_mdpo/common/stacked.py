"""Members of one architecture in one batched pass: networks of vectors are small, and most of their time is dispatch.

Weights of corresponding layers are stacked along a new first axis, and a matrix product becomes a batched one. The
members keep their own parameters, which get their gradients through the stack.
"""

from collections.abc import Sequence
from copy import copy
from itertools import chain
from typing import Any

import torch as th
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy, MultiInputActorCriticPolicy
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor, MlpExtractor
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import nn

Members = Sequence[ActorCriticPolicy]


def can_stack(members: Members) -> bool:
    """
    :param members: the policies
    :return: whether they are two or more of SB3's policies for vectors, with layers of the same sizes, without gSDE and
        without hooks, which are called by single members only
    """
    first = members[0]
    return (
        len(members) > 1
        and all(type(one) in (ActorCriticPolicy, MultiInputActorCriticPolicy) and not one.use_sde for one in members)
        and all(_architecture(one) == _architecture(first) for one in members)
        and not any(part._forward_hooks or part._forward_pre_hooks for one in members for part in one.modules())
    )


def _architecture(member: ActorCriticPolicy) -> list[Any]:
    extractor = member.features_extractor
    plain = type(extractor) in (FlattenExtractor, CombinedExtractor) and type(member.mlp_extractor) is MlpExtractor
    layers = chain(_actor(member), _critic(member)) if plain and not extractor.state_dict() else [member]
    return [member.normalize_images, *map(_kind, layers)]


def _kind(layer: nn.Module) -> Any:
    if type(layer) is nn.Linear:
        return layer.in_features, layer.out_features, layer.bias is not None
    if layer.state_dict():
        return object()  # equal to no other
    return type(layer), str(layer)  # an activation function with its settings


def _actor(member: ActorCriticPolicy) -> list[nn.Module]:
    return [*member.mlp_extractor.policy_net, member.action_net]


def _critic(member: ActorCriticPolicy) -> list[nn.Module]:
    return [*member.mlp_extractor.value_net, member.value_net]


def _forward(layers: Sequence[Sequence[nn.Module]], x: th.Tensor) -> th.Tensor:
    """
    :param layers: the layers of each member
    :param x: their inputs, shape ``(n_policies, rows, features)``
    :return: their outputs, shape ``(n_policies, rows, outputs)``
    """
    for corresponding in zip(*layers, strict=True):
        if type(corresponding[0]) is nn.Linear:
            weight = th.stack([one.weight for one in corresponding]).transpose(1, 2)  # type: ignore[misc]
            if corresponding[0].bias is None:
                x = th.bmm(x, weight)
            else:
                bias = th.stack([one.bias for one in corresponding])  # type: ignore[misc]
                x = th.baddbmm(bias.unsqueeze(1), x, weight)
        else:
            x = corresponding[0](x)
    return x


def _features(members: Members, obs: PyTorchObs) -> th.Tensor:
    features: th.Tensor = BasePolicy.extract_features(members[0], obs, members[0].features_extractor)
    return features


def _split(x: th.Tensor, n_groups: int, dim: int = 0) -> th.Tensor:
    return x.unflatten(dim, (n_groups, -1))  # type: ignore[no-untyped-call, no-any-return]


def _distribution(members: Members, outputs: th.Tensor, shift: int = 0) -> Distribution:
    """
    :param members: the policies
    :param outputs: of their action networks, shape ``(n_policies, rows, outputs)``
    :param shift: the k-th outputs are of the member ``k + shift``
    :return: distribution, batch size ``n_policies * rows``
    """
    distribution: Any = copy(members[0].action_dist)
    flat = outputs.flatten(0, 1)
    if not hasattr(members[0], "log_std"):
        return distribution.proba_distribution(flat)  # type: ignore[no-any-return]
    log_std = th.stack([members[(k + shift) % len(members)].log_std for k in range(len(members))])
    return distribution.proba_distribution(flat, log_std[:, None].expand_as(outputs).flatten(0, 1))  # type: ignore[no-any-return]


def values_and_distribution(members: Members, obs: PyTorchObs) -> tuple[th.Tensor, Distribution]:
    """
    :param members: the policies
    :param obs: observations, one contiguous group of equal size per member
    :return: values, shape ``(B, 1)``, and the distribution of all actions, batch size ``B``, in the order of ``obs``
    """
    features = _split(_features(members, obs), len(members))
    values = _forward([_critic(one) for one in members], features).flatten(0, 1)
    return values, _distribution(members, _forward([_actor(one) for one in members], features))


def evaluate_all(
    members: Members, obs: PyTorchObs, constant_peers: bool
) -> tuple[th.Tensor, Distribution, list[Distribution]]:
    """
    Evaluate every member on every member's states.

    :param members: the policies
    :param obs: observations of each member, shape ``(n_policies, B, ...)``
    :param constant_peers: whether the peers get no gradient
    :return: each member's values of its own states, shape ``(n_policies, B)``; the members' distributions on their own
        states, batch size ``n_policies * B``; for each shift from 1, the distributions of the members ``k + shift`` on
        the states of member ``k``, in the same order
    """
    n, shifts = len(members), range(len(members))
    flat = {key: part.flatten(0, 1) for key, part in obs.items()} if isinstance(obs, dict) else obs.flatten(0, 1)
    features = _split(_features(members, flat), n)
    values = _forward([_critic(one) for one in members], features).squeeze(-1)
    # Member k on its own states, then on those of member k - 1, k - 2, ...
    inputs = th.stack([features.roll(shift, 0) for shift in shifts], dim=1).flatten(1, 2)
    outputs = _split(_forward([_actor(one) for one in members], inputs), n, dim=1)
    own = _distribution(members, outputs[:, 0])
    others = outputs.detach() if constant_peers else outputs
    with th.set_grad_enabled(th.is_grad_enabled() and not constant_peers):  # standard deviations are weights
        peers = [_distribution(members, others[:, shift].roll(-shift, 0), shift) for shift in shifts[1:]]
    return values, own, peers
