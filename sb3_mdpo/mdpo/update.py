"""One joint gradient step on one minibatch of every member."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import PyTorchObs, RolloutBufferSamples
from torch import nn

from sb3_mdpo.common.arguments import check_ranges
from sb3_mdpo.common.buffers import of_member
from sb3_mdpo.common.policies import MutualPolicy
from sb3_mdpo.common.ranks import ALONE, Ranks
from sb3_mdpo.common.stacked import evaluate_all
from sb3_mdpo.mdpo.losses import Evaluation, LossSettings, MemberLoss, member_loss

# The columns of minibatch_step()'s result; all but the last two names are fields of MemberLoss
METRICS = (
    *("policy_gradient_loss", "value_loss", "entropy_loss", "distill_kl", "clip_fraction", "approx_kl"),
    *("loss", "grad_norm"),
)


def evaluate_member(member: ActorCriticPolicy, samples: RolloutBufferSamples) -> Evaluation:
    """The member's current values and action distribution on a minibatch of its own samples."""
    values, log_prob, entropy = member.evaluate_actions(samples.observations, samples.actions)
    # The next forward pass changes the policy's distribution object
    return Evaluation(copy(member.action_dist), values.flatten(), log_prob, entropy)


def peer_distribution(peer: ActorCriticPolicy, observations: PyTorchObs, constant: bool) -> Distribution:
    """
    :param peer: another member
    :param observations: states of the member that learns from it
    :param constant: whether the peer gets no gradient. It is then in evaluation mode, as in rollouts: without dropout
        or changes of batch statistics
    :return: the peer's action distribution on these states
    """
    if not constant:
        with _frozen_batch_statistics(peer):
            return copy(peer.get_distribution(observations))
    training = peer.training
    peer.set_training_mode(False)
    with th.no_grad():
        distribution = copy(peer.get_distribution(observations))
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
    :param distill_mode: ``"all"`` for all peers, ``"random"`` for one of them
    :param generator: NumPy's global generator, which SB3 seeds, or another ``RandomState``
    :return: for every member, the indices of the peers that it learns from in a minibatch
    :raises ValueError: if there is no such mode
    """
    check_ranges({"distill_mode": distill_mode})  # it may have been assigned after construction
    peers = [[j for j in range(n_policies) if j != k] for k in range(n_policies)]
    if distill_mode == "all" or n_policies <= 2:
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


def chunks(samples: RolloutBufferSamples, chunk_size: int | None) -> list[RolloutBufferSamples]:
    """Split a minibatch into views of at most ``chunk_size`` samples, None for no limit."""
    n_samples = len(samples.actions)
    if chunk_size is None or chunk_size >= n_samples:
        return [samples]
    starts = range(0, n_samples, chunk_size)

    def cut(memory: th.Tensor | dict[str, th.Tensor], start: int) -> th.Tensor | dict[str, th.Tensor]:
        if isinstance(memory, dict):
            return {key: part[start : start + chunk_size] for key, part in memory.items()}
        return memory[start : start + chunk_size]

    return [type(samples)(*(cut(memory, start) for memory in samples)) for start in starts]  # type: ignore[arg-type]


def backward_of_member(
    policy: MutualPolicy,
    k: int,
    samples: RolloutBufferSamples,
    peers: dict[int, bool],
    settings: LossSettings,
    chunk_size: int | None,
) -> th.Tensor:
    """
    Add the gradient of one member's term of the joint loss, chunk by chunk: equal to that of the whole minibatch up to
    rounding, with the activations of one chunk in memory at a time.

    :param policy: the members
    :param k: the member's index
    :param samples: minibatch of its samples, with normalised advantages if the setting is on
    :param peers: indices of the peers that it learns from, and whether each is a constant
    :param settings: coefficients and clip ranges
    :param chunk_size: largest number of samples in a chunk, None for no limit
    :return: the term's metrics without the gradient norm, shape ``(len(METRICS) - 1,)``
    """
    n_samples = len(samples.actions)
    metrics = th.zeros(len(METRICS) - 1, device=policy.device)
    for chunk in chunks(samples, chunk_size):
        own = evaluate_member(policy.members[k], chunk)
        teachers = [peer_distribution(policy.members[j], chunk.observations, constant) for j, constant in peers.items()]
        loss = member_loss(own, chunk, teachers, settings)
        share = len(chunk.actions) / n_samples
        metrics += share * _metrics(loss)
        (loss.total * (share / policy.n_policies)).backward()  # type: ignore[no-untyped-call]
    return metrics


def _metrics(loss: MemberLoss) -> th.Tensor:
    return th.stack([*(getattr(loss, name) for name in METRICS[:-2]), loss.total.detach()], dim=-1)


def backward_of_all(
    policy: MutualPolicy, minibatch: RolloutBufferSamples, constant_peers: bool, settings: LossSettings
) -> th.Tensor:
    """
    Add the gradient of the joint loss in one batched pass: equal to those of :func:`backward_of_member` up to rounding.

    :param policy: members that ``can_stack()``
    :param minibatch: samples of all members, with normalised advantages if the setting is on
    :param constant_peers: whether peers get no gradient
    :param settings: coefficients and clip ranges
    :return: metrics without the gradient norm, shape ``(n_policies, len(METRICS) - 1)``
    """
    values, distribution, peers = evaluate_all(policy.members, minibatch.observations, constant_peers)
    shape = values.shape
    entropy = distribution.entropy()
    own = Evaluation(
        distribution,
        values,
        distribution.log_prob(minibatch.actions.flatten(0, 1)).view(shape),
        None if entropy is None else entropy.view(shape),
    )
    loss = member_loss(own, minibatch, peers, settings)
    loss.total.mean().backward()  # type: ignore[no-untyped-call]
    return _metrics(loss)


def _gradients(policy: MutualPolicy) -> list[th.Tensor | None]:
    return [None if parameter.grad is None else parameter.grad.clone() for parameter in policy.parameters()]


def minibatch_step(
    policy: MutualPolicy,
    minibatch: RolloutBufferSamples,
    peers: list[list[int]],
    settings: LossSettings,
    active: set[int],
    max_grad_norm: float,
    detach_peers: bool = False,
    target_kl: float | None = None,
    chunk_size: int | None = None,
    ranks: Ranks = ALONE,
) -> th.Tensor:
    """
    One step of the common optimizer on the mean of the members' losses.

    The members' terms are differentiated one after the other, with one term's activations in memory at a time, or all
    in one batched pass if the members can be stacked. Gradient norms are clipped per member after the mean, as in the
    paper. A member whose ``approx_kl`` exceeds ``1.5 * target_kl`` leaves ``active``: it takes no further steps in this
    update, including this one, and is a constant to its peers. The host waits only if ``target_kl`` is set.

    :param policy: members and optimizer
    :param minibatch: samples of all members, each tensor of shape ``(n_policies, B, ...)``
    :param peers: for each member, the indices of the peers in its distillation term
    :param settings: coefficients and clip ranges
    :param active: indices of the members that still learn in this update; may lose some
    :param max_grad_norm: largest gradient norm per member
    :param detach_peers: whether the KL's gradient stops at the peers (Deep Mutual Learning)
    :param target_kl: SB3's limit of the KL between the old and the new policy, None for no limit
    :param chunk_size: largest number of samples that go through a network at once, None for no limit
    :param ranks: the processes that share this minibatch: gradients and metrics are averaged over them
    :return: metrics of this step, shape ``(n_policies, len(METRICS))``, 0 for inactive members
    """
    metrics = th.zeros((policy.n_policies, len(METRICS)), device=policy.device)
    policy.optimizer.zero_grad()
    if settings.normalize_advantage:
        minibatch = minibatch._replace(advantages=ranks.normalize(minibatch.advantages))
    no_gradient = detach_peers or settings.distill_coef == 0
    all_peers = all(len(one) == policy.n_policies - 1 for one in peers)
    if policy.stacked and all_peers and target_kl is None and chunk_size is None and len(active) == policy.n_policies:
        metrics[:, :-1] = backward_of_all(policy, minibatch, no_gradient, settings)
        return _optimizer_step(policy, metrics, active, max_grad_norm, ranks)
    for k in sorted(active):
        constant = {j: no_gradient or j not in active for j in peers[k]}
        before = [] if target_kl is None else _gradients(policy)
        metrics[k, :-1] = backward_of_member(policy, k, of_member(minibatch, k), constant, settings, chunk_size)
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
