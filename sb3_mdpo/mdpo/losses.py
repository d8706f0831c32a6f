"""The losses of MDPO as pure functions of tensors.

The paper's objective for member ``k`` is (arXiv 2501.02481, algorithm box)::

    L_k = PPO_k + c1 * V_k - c2 * H_k + alpha * mean over peers j of KL(pi_j || pi_k)

with every expectation over the member's own states, and the joint loss is the mean of the
``L_k``. The arithmetic of the PPO terms follows SB3's ``PPO.train`` operation by operation,
so that a single member reproduces SB3 bit for bit.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import torch as th
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from torch.nn import functional as F

from sb3_mdpo.common.distributions import kl_divergence


@dataclass(frozen=True)
class LossSettings:
    """
    Settings of the losses, fixed for one call of ``train()``.

    :param clip_range: PPO's clipping of the probability ratio
    :param clip_range_vf: clipping of the value prediction around its old value, None for no clipping
    :param ent_coef: weight of the entropy bonus
    :param vf_coef: weight of the value loss
    :param distill_coef: weight of the distillation term, the paper's alpha
    :param normalize_advantage: whether advantages are normalised in every minibatch of every member
    :param to_maximum: whether members are drawn to their :func:`joint_policy` instead of to each other
    """

    clip_range: float
    clip_range_vf: float | None
    ent_coef: float
    vf_coef: float
    distill_coef: float
    normalize_advantage: bool
    to_maximum: bool = False

    @property
    def distills(self) -> bool:
        """Whether the KL is part of the loss."""
        return isinstance(self.distill_coef, th.Tensor) or self.distill_coef != 0

    def as_tensors(self, device: th.device) -> "LossSettings":
        """The same, with tensors for what may follow a schedule: ``torch.compile`` makes constants of numbers."""

        def tensor(value: float | None) -> Any:
            return None if value is None else th.tensor(value, dtype=th.float64, device=device)

        scheduled = {"clip_range": tensor(self.clip_range), "clip_range_vf": tensor(self.clip_range_vf)}
        if self.distills:
            scheduled["distill_coef"] = tensor(self.distill_coef)
        return replace(self, **scheduled)


@dataclass(frozen=True)
class Evaluation:
    """
    One member's view of a minibatch of ``B`` of its own samples; or all members' views of theirs, with a first axis for
    the members in every tensor, here and in :class:`MemberLoss`.

    :param distribution: action distribution, batch size ``B`` or ``n_policies * B``
    :param values: predicted values, shape ``(B,)``
    :param log_prob: log probability of the actions taken, shape ``(B,)``
    :param entropy: shape ``(B,)``, or None if it has no analytical form
    """

    distribution: Distribution
    values: th.Tensor
    log_prob: th.Tensor
    entropy: th.Tensor | None


@dataclass(frozen=True)
class MemberLoss:
    """
    A member's loss and its parts; every field is a scalar tensor, or has one number per member.

    :param total: the member's ``L_k``, still attached to the graph (the parts are detached)
    :param policy_gradient_loss: clipped surrogate
    :param value_loss: squared error of the value function, without ``vf_coef``
    :param entropy_loss: negative mean entropy
    :param distill_kl: mean over peers and states of ``KL(peer || self)``, or over states of ``KL(self || joint)``
    :param clip_fraction: share of samples whose probability ratio is outside the clip range
    :param approx_kl: estimate of the KL between the old and the new policy
    """

    total: th.Tensor
    policy_gradient_loss: th.Tensor
    value_loss: th.Tensor
    entropy_loss: th.Tensor
    distill_kl: th.Tensor
    clip_fraction: th.Tensor
    approx_kl: th.Tensor


def batch_mean(values: th.Tensor, mask: th.Tensor | None = None) -> th.Tensor:
    """
    :param values: shape ``(B,)`` or ``(n_policies, B)``
    :param mask: which of ``(B,)`` samples are not padding, None if all; one must be
    :return: mean over the samples
    """
    return values.mean(-1) if mask is None else values[mask].mean()


def clipped_surrogate(
    advantages: th.Tensor, ratio: th.Tensor, clip_range: float, mask: th.Tensor | None = None
) -> th.Tensor:
    """
    PPO's clipped surrogate loss (arXiv 1707.06347, eq. 7), negated for minimisation.

    :param advantages: shape ``(B,)``
    :param ratio: new over old probability of the actions taken, shape ``(B,)``
    :param clip_range: half-width of the interval around 1 outside of which the ratio gains nothing
    :param mask: see :func:`batch_mean`
    :return: scalar
    """
    unclipped = advantages * ratio
    clipped = advantages * th.clamp(ratio, 1 - clip_range, 1 + clip_range)
    return -batch_mean(th.min(unclipped, clipped), mask)


def value_loss(
    values: th.Tensor,
    old_values: th.Tensor,
    returns: th.Tensor,
    clip_range_vf: float | None = None,
    mask: th.Tensor | None = None,
) -> th.Tensor:
    """
    Mean squared error of the value function.

    With ``clip_range_vf``, the larger one of the squared errors of the prediction and of the
    prediction clipped around its old value, as in the paper's code and in OpenAI's PPO. SB3's
    PPO takes the clipped one alone, so a value that has left the interval in the wrong
    direction is no longer pulled back there.

    :param values: predictions, shape ``(B,)``
    :param old_values: predictions at the time of the rollout, shape ``(B,)``
    :param returns: targets, shape ``(B,)``
    :param clip_range_vf: half-width of the interval around the old value, None for no clipping
    :param mask: see :func:`batch_mean`
    :return: scalar, without the factor 1/2 that the paper's ``V`` has inside
    """
    if clip_range_vf is None:
        if values.dim() == 1 and mask is None:  # as PPO does, whose gradient has another rounding
            return F.mse_loss(returns, values)
        return batch_mean((returns - values) ** 2, mask)
    clipped = old_values + th.clamp(values - old_values, -clip_range_vf, clip_range_vf)
    return batch_mean(th.max((values - returns) ** 2, (clipped - returns) ** 2), mask)


def entropy_loss(entropy: th.Tensor | None, log_prob: th.Tensor, mask: th.Tensor | None = None) -> th.Tensor:
    """
    :param entropy: shape ``(B,)``, None if it has no analytical form (squashed Gaussians)
    :param log_prob: shape ``(B,)``, used to estimate a missing entropy
    :param mask: see :func:`batch_mean`
    :return: negative mean entropy, scalar
    """
    return -batch_mean(-log_prob if entropy is None else entropy, mask)


def distillation_kl(
    own: Distribution,
    peers: Sequence[Distribution],
    shape: Sequence[int] = (-1,),
    mask: th.Tensor | None = None,
    counts: th.Tensor | None = None,
) -> th.Tensor:
    """
    The mutual distillation term: mean over peers and states of ``KL(peer || own)``.

    Gradients reach ``own`` and every peer that was computed with gradients: the paper lets them
    through on both sides.

    :param own: the member's distribution on its own states, batch shape ``(B,)``
    :param peers: the other members' distributions on the same states, at least one
    :param shape: ``(n_policies, B)`` if the distributions are those of all members
    :param mask: see :func:`batch_mean`
    :param counts: in which samples the KL counts, elsewhere it is 0; None if in all
    :return: scalar, or one number per member
    """
    kls = [kl_divergence(peer, own).view(*shape) for peer in peers]
    return th.stack([batch_mean(kl if counts is None else kl * counts, mask) for kl in kls]).mean(0)


def joint_policy(members: Sequence[Distribution]) -> Distribution:
    """
    The policy that LEEP (arXiv 2107.06277) draws its members to by ``KL(member || joint)``: each action has a
    probability proportional to the largest one that any member gives it.

    :param members: categorical distributions of the same batch shape
    :return: the joint distribution, without gradients
    """
    each: list[Any] = list(members)
    joint: Any = copy(each[0])
    return joint.proba_distribution(th.stack([one.distribution.logits for one in each]).amax(0).detach())  # type: ignore[no-any-return] # normalises


def approximate_kl(log_prob: th.Tensor, old_log_prob: th.Tensor, mask: th.Tensor | None = None) -> th.Tensor:
    """
    Low-variance estimate of ``KL(old || new)`` (http://joschu.net/blog/kl-approx.html, SB3 PR #419).

    :param log_prob: log probabilities under the new policy, shape ``(B,)``
    :param old_log_prob: log probabilities under the old policy, shape ``(B,)``
    :param mask: see :func:`batch_mean`
    :return: scalar
    """
    log_ratio = log_prob - old_log_prob
    return batch_mean((th.exp(log_ratio) - 1) - log_ratio, mask)


def member_loss(
    own: Evaluation, samples: RolloutBufferSamples, peers: Sequence[Distribution], settings: LossSettings
) -> MemberLoss:
    """
    One member's loss on a minibatch of its own samples. Every part is a mean over samples, so that chunks of a
    minibatch can be averaged.

    :param own: the member's evaluation of the minibatch
    :param samples: the minibatch, with normalised advantages if the setting is on. Those of recurrent members have
        padding, where ``mask`` is False, and steps in which the KL does not count, where ``peers_count`` is False
    :param peers: the peers' distributions on the same states; empty for a single policy
    :param settings: coefficients and clip ranges
    :return: the loss and its parts
    """
    mask, peers_count = getattr(samples, "mask", None), getattr(samples, "peers_count", None)
    ratio = th.exp(own.log_prob - samples.old_log_prob)

    surrogate = clipped_surrogate(samples.advantages, ratio, settings.clip_range, mask)
    value = value_loss(own.values, samples.old_values, samples.returns, settings.clip_range_vf, mask)
    entropy = entropy_loss(own.entropy, own.log_prob, mask)
    total = surrogate + settings.ent_coef * entropy + settings.vf_coef * value

    distill_kl = th.zeros_like(surrogate)
    if peers:
        learner, teachers = own.distribution, peers
        if settings.to_maximum:  # the KL to the joint policy has the member first
            learner, teachers = joint_policy([own.distribution, *peers]), [own.distribution]
        distill_kl = distillation_kl(learner, teachers, own.values.shape, mask, peers_count)
    # Left out, not multiplied by 0, so that the members are exactly PPO's
    if peers and settings.distills:
        total = total + settings.distill_coef * distill_kl

    with th.no_grad():
        clip_fraction = batch_mean((th.abs(ratio - 1) > settings.clip_range).float(), mask)
        approx_kl = approximate_kl(own.log_prob, samples.old_log_prob, mask)
    return MemberLoss(
        total=total,
        policy_gradient_loss=surrogate.detach(),
        value_loss=value.detach(),
        entropy_loss=entropy.detach(),
        distill_kl=distill_kl.detach(),
        clip_fraction=clip_fraction,
        approx_kl=approx_kl,
    )
