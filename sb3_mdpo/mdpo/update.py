"""One joint gradient step on one minibatch of every member."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from functools import cache
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from torch import nn

from sb3_mdpo.common.buffers import normalize_advantages, of_member
from sb3_mdpo.common.mutual_policy import MutualPolicy
from sb3_mdpo.common.ranks import ALONE, Ranks
from sb3_mdpo.common.stacked import evaluate_all
from sb3_mdpo.mdpo.losses import Evaluation, LossSettings, member_loss

# The columns of minibatch_step()'s result; all but the last two names are fields of MemberLoss
METRICS = (
    *("policy_gradient_loss", "value_loss", "entropy_loss", "distill_kl", "clip_fraction", "approx_kl"),
    *("loss", "grad_norm"),
)

Samples = Any  # of one member: RolloutBufferSamples or another buffer's


def evaluate_member(policy: MutualPolicy, k: int, samples: Samples) -> Evaluation:
    """A member's current values and action distribution on a minibatch of its own samples."""
    values, log_prob, entropy = policy.evaluate_member(k, samples)
    # The next forward pass changes the policy's distribution object
    return Evaluation(copy(policy.members[k].action_dist), values.flatten(), log_prob, entropy)


def peer_distribution(policy: MutualPolicy, j: int, samples: Samples, constant: bool) -> Distribution:
    """
    :param policy: the members
    :param j: index of the peer
    :param samples: of the member that learns from it
    :param constant: whether the peer gets no gradient. It is then in evaluation mode, as in rollouts: without dropout
        or changes of batch statistics
    :return: the peer's action distribution on these states
    """
    peer = policy.members[j]
    if not constant:
        with _frozen_batch_statistics(peer):
            return copy(policy.peer_distribution(j, samples))
    training = peer.training
    peer.set_training_mode(False)
    with th.no_grad():
        distribution = copy(policy.peer_distribution(j, samples))
    peer.set_training_mode(training)
    return distribution


@contextmanager
def _frozen_batch_statistics(member: ActorCriticPolicy) -> Iterator[None]:
    """Context in which batch normalization normalizes by the batch, but its running statistics do not learn from it."""
    learning = [
        module
        for module in member.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
    ]
    for module in learning:
        module.track_running_stats = False
    try:
        yield
    finally:
        for module in learning:
            module.track_running_stats = True


def draw_peers(n_policies: int, distill_mode: str, generator: Any = np.random) -> list[list[int]]:
    """
    :param n_policies: number of members
    :param distill_mode: ``"random"`` for one of the peers, else all of them
    :param generator: NumPy's global generator, which SB3 seeds, or another ``RandomState``
    :return: for every member, the indices of the peers that it learns from in a minibatch
    """
    peers = [[j for j in range(n_policies) if j != k] for k in range(n_policies)]
    if distill_mode != "random" or n_policies <= 2:
        return peers
    return [[int(generator.choice(others))] for others in peers]


def n_differentiated(
    peers: list[list[int]], took_part: frozenset[int], stepped: frozenset[int], no_gradient: bool
) -> int:
    """
    Count the forward passes of a step that also went backward: those of members, and of peers that get gradients.

    :param peers: for each member, the indices of the peers in its distillation term
    :param took_part: members whose loss was computed
    :param stepped: members among them that did not reach ``target_kl``
    :param no_gradient: whether all peers are constants
    :return: number of forward and backward passes, summed over members, per sample of each member
    """
    passes = len(took_part)
    if not no_gradient:
        # Members are processed in order: one that has just reached target_kl is a constant to those after it
        passes += sum(j in (stepped if j < k else took_part) for k in took_part for j in peers[k])
    return passes


def n_samples(samples: Samples) -> int:
    """Number of a member's samples, without padding."""
    return getattr(samples, "n_samples", len(samples.actions))


def n_samples_per_member(minibatch: Any) -> int:
    """Number of samples that each member has in a minibatch of all members, without padding."""
    return n_samples(minibatch[0]) if isinstance(minibatch, list) else minibatch.actions.shape[1]  # type: ignore[no-any-return]


def chunks(samples: Samples, chunk_size: int | None) -> list[Samples]:
    """Split a minibatch into views of at most ``chunk_size`` samples, None for no limit; never within a sequence."""
    if hasattr(samples, "chunks"):
        return samples.chunks(chunk_size)  # type: ignore[no-any-return]
    size = len(samples.actions)
    if chunk_size is None or chunk_size >= size:
        return [samples]
    starts = range(0, size, chunk_size)

    def cut(memory: th.Tensor | dict[str, th.Tensor], start: int) -> th.Tensor | dict[str, th.Tensor]:
        if isinstance(memory, dict):
            return {key: part[start : start + chunk_size] for key, part in memory.items()}
        return memory[start : start + chunk_size]

    return [type(samples)(*(cut(memory, start) for memory in samples)) for start in starts]


def normalized(minibatch: Any, ranks: Ranks) -> Any:
    """The samples of all members with normalised advantages."""
    if isinstance(minibatch, list):
        return [one._replace(advantages=normalize_advantages(one.advantages, one.mask)) for one in minibatch]
    return minibatch._replace(advantages=ranks.normalize(minibatch.advantages))


def member_term(
    policy: MutualPolicy, k: int, samples: Samples, peers: dict[int, bool], settings: LossSettings
) -> tuple[th.Tensor, th.Tensor]:
    """
    :param policy: the members
    :param k: a member's index
    :param samples: its samples, with normalised advantages if the setting is on
    :param peers: indices of the peers that it learns from, and whether each is a constant
    :param settings: coefficients and clip ranges
    :return: the member's loss, scalar, and the metrics without the gradient norm, shape ``(len(METRICS) - 1,)``
    """
    own = evaluate_member(policy, k, samples)
    teachers = [peer_distribution(policy, j, samples, constant) for j, constant in peers.items()]
    return _loss_and_metrics(own, samples, teachers, settings)


def all_terms(
    policy: MutualPolicy, samples: RolloutBufferSamples, constant_peers: bool, settings: LossSettings
) -> tuple[th.Tensor, th.Tensor]:
    """
    The terms of all members in one batched pass: those of :func:`member_term` up to rounding.

    :param policy: members that ``can_stack()``
    :param samples: samples of all members, with normalised advantages if the setting is on
    :param constant_peers: whether peers get no gradient
    :param settings: coefficients and clip ranges
    :return: the members' losses, shape ``(n_policies,)``, and metrics, shape ``(n_policies, len(METRICS) - 1)``
    """
    values, distribution, peers = evaluate_all(policy.members, samples.observations, constant_peers)
    shape = values.shape
    log_prob = distribution.log_prob(samples.actions.flatten(0, 1)).view(shape)
    entropy = distribution.entropy()
    own = Evaluation(distribution, values, log_prob, None if entropy is None else entropy.view(shape))
    return _loss_and_metrics(own, samples, peers, settings)


def _loss_and_metrics(
    own: Evaluation, samples: RolloutBufferSamples, peers: list[Distribution], settings: LossSettings
) -> tuple[th.Tensor, th.Tensor]:
    loss = member_loss(own, samples, peers, settings)
    return loss.total, th.stack([*(getattr(loss, name) for name in METRICS[:-2]), loss.total.detach()], dim=-1)


compiled = cache(th.compile)  # once per process: models of the same architecture share the code


def _gradients(policy: MutualPolicy) -> list[th.Tensor | None]:
    return [None if parameter.grad is None else parameter.grad.clone() for parameter in policy.parameters()]


def minibatch_step(
    policy: MutualPolicy,
    minibatch: RolloutBufferSamples | list[Samples],
    peers: list[list[int]],
    settings: LossSettings,
    active: set[int],
    max_grad_norm: float,
    detach_peers: bool = False,
    target_kl: float | None = None,
    chunk_size: int | None = None,
    ranks: Ranks = ALONE,
    compile: bool = False,
) -> th.Tensor:
    """
    One step of the common optimizer on the mean of the members' losses.

    The members' terms are differentiated one after the other and chunk by chunk, with the activations of one chunk in
    memory at a time, or all in one batched pass if the members can be stacked. Gradient norms are clipped per member
    after the mean, as in the paper. A member whose ``approx_kl`` exceeds ``1.5 * target_kl`` leaves ``active``: it
    takes no further steps in this update, including this one, and is a constant to its peers. The host waits only if
    ``target_kl`` is set.

    :param policy: members and optimizer
    :param minibatch: samples of all members, each tensor of shape ``(n_policies, B, ...)``, or a list by member
    :param peers: for each member, the indices of the peers in its distillation term
    :param settings: coefficients and clip ranges, with ``compile`` as tensors
    :param active: indices of the members that still learn in this update; may lose some
    :param max_grad_norm: largest gradient norm per member
    :param detach_peers: whether the KL's gradient stops at the peers (Deep Mutual Learning)
    :param target_kl: SB3's limit of the KL between the old and the new policy, None for no limit
    :param chunk_size: largest number of samples that go through a network at once, None for no limit
    :param ranks: the processes that share this minibatch: gradients and metrics are averaged over them
    :param compile: whether the losses, with the networks in them, are compiled by ``torch.compile``
    :return: metrics of this step, shape ``(n_policies, len(METRICS))``, 0 for inactive members
    """
    metrics = th.zeros((policy.n_policies, len(METRICS)), device=policy.device)
    policy.optimizer.zero_grad()
    if settings.normalize_advantage:
        minibatch = normalized(minibatch, ranks)
    no_gradient = detach_peers or not settings.distills
    joint, single = (compiled(all_terms), compiled(member_term)) if compile else (all_terms, member_term)
    all_peers = all(len(one) == policy.n_policies - 1 for one in peers)
    if policy.stacked and all_peers and target_kl is None and chunk_size is None and len(active) == policy.n_policies:
        losses, metrics[:, :-1] = joint(policy, minibatch, no_gradient, settings)  # type: ignore[arg-type]
        losses.mean().backward()  # type: ignore[no-untyped-call]
        return _optimizer_step(policy, metrics, active, max_grad_norm, ranks)
    for k in sorted(active):
        constant = {j: no_gradient or j not in active for j in peers[k]}
        before = [] if target_kl is None else _gradients(policy)
        samples = of_member(minibatch, k)
        for chunk in chunks(samples, chunk_size):
            loss, chunk_metrics = single(policy, k, chunk, constant, settings)
            share = n_samples(chunk) / n_samples(samples)
            metrics[k, :-1] += share * chunk_metrics
            (loss * (share / policy.n_policies)).backward()
        if target_kl is None:
            continue
        ranks.average([metrics[k]])
        if metrics[k, METRICS.index("approx_kl")] > 1.5 * target_kl:
            active.discard(k)
            for parameter, gradient in zip(policy.parameters(), before, strict=True):
                parameter.grad = gradient
    return _optimizer_step(policy, metrics, active, max_grad_norm, ranks)


def _optimizer_step(
    policy: MutualPolicy, metrics: th.Tensor, active: set[int], max_grad_norm: float, ranks: Ranks
) -> th.Tensor:
    for k, member in enumerate(policy.members):
        if k not in active:
            # It may have gradients from peers; None makes the optimizer skip it
            member.zero_grad(set_to_none=True)
    ranks.average([*(one.grad for one in policy.parameters() if one.grad is not None), metrics])
    for k in sorted(active):
        metrics[k, -1] = th.nn.utils.clip_grad_norm_(policy.members[k].parameters(), max_grad_norm)
    policy.optimizer.step()
    return metrics
