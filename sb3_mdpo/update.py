"""One joint gradient step on one minibatch of every member."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy

import numpy as np
import torch as th
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import PyTorchObs, RolloutBufferSamples

from sb3_mdpo.losses import Evaluation, LossSettings, member_loss
from sb3_mdpo.policies import MutualPolicy

# The columns of what minibatch_step() returns; all but the last two names are fields of MemberLoss
METRICS = (
    "policy_gradient_loss",
    "value_loss",
    "entropy_loss",
    "distill_kl",
    "clip_fraction",
    "approx_kl",
    "loss",
    "grad_norm",
)

DISTILL_MODES = ("all", "random")


@contextmanager
def unvalidated_distributions() -> Iterator[None]:
    """
    Switch off that torch's distributions check their arguments, for which the host would wait
    several times per minibatch. NaNs show in the logs and stop the next rollout, where checks are on.
    """
    before = th.distributions.Distribution._validate_args
    th.distributions.Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        th.distributions.Distribution.set_default_validate_args(before)


def evaluate_member(member: ActorCriticPolicy, samples: RolloutBufferSamples) -> Evaluation:
    """
    :param member: the member whose rollout the samples are from
    :param samples: minibatch of ``B`` samples
    :return: its current values and action distribution on them
    """
    values, log_prob, entropy = member.evaluate_actions(samples.observations, samples.actions)
    # SB3's policies have one distribution object each, which the next forward pass changes
    return Evaluation(copy(member.action_dist), values.flatten(), log_prob, entropy)


def peer_distribution(peer: ActorCriticPolicy, observations: PyTorchObs, constant: bool) -> Distribution:
    """
    :param peer: another member
    :param observations: the states of the member that is taught
    :param constant: whether no gradient shall reach the peer. It then answers as it does in
        rollouts, without dropout, and its batch normalisation learns nothing about these states
    :return: the peer's action distribution on these states
    """
    if not constant:
        return copy(peer.get_distribution(observations))
    training = peer.training
    peer.set_training_mode(False)
    with th.no_grad():
        distribution = copy(peer.get_distribution(observations))
    peer.set_training_mode(training)
    return distribution


def check_distill_mode(distill_mode: str) -> None:
    """
    :param distill_mode: setting to check
    :raises ValueError: where there is no such mode
    """
    if distill_mode not in DISTILL_MODES:
        raise ValueError(
            f"distill_mode={distill_mode!r} is unknown: use 'all' for the mean over all peers, or 'random' for one "
            "random peer per minibatch."
        )


def draw_peers(n_policies: int, distill_mode: str) -> list[list[int]]:
    """
    :param n_policies: number of members
    :param distill_mode: ``"all"`` for all peers, ``"random"`` for one of them, drawn from NumPy's
        global generator, which SB3 seeds
    :return: for every member, the indices of the peers that it learns from in a minibatch
    :raises ValueError: where there is no such mode
    """
    check_distill_mode(distill_mode)
    peers = [[j for j in range(n_policies) if j != k] for k in range(n_policies)]
    if distill_mode == "all" or n_policies <= 2:
        return peers
    return [[int(np.random.choice(others))] for others in peers]


def minibatch_step(
    policy: MutualPolicy,
    minibatch: list[RolloutBufferSamples],
    peers: list[list[int]],
    settings: LossSettings,
    active: set[int],
    max_grad_norm: float,
    detach_peers: bool = False,
    target_kl: float | None = None,
) -> th.Tensor:
    """
    One step of the common optimizer on the mean of the members' losses.

    The members' terms are differentiated one after the other, which gives the same gradient as
    their mean with one term's activations in memory at a time. Gradient norms are clipped per
    member after the mean, as in the paper. A member whose ``approx_kl`` exceeds ``1.5 * target_kl`` leaves ``active``:
    it takes no further part in this update, neither this step nor a later one, and serves its
    peers as a constant. The host waits for the device only for this, and not without ``target_kl``.

    :param policy: members and optimizer
    :param minibatch: samples of each member
    :param peers: for each member, the indices of the peers in its distillation term
    :param settings: coefficients and clip ranges
    :param active: indices of the members that still learn in this update; may lose some
    :param max_grad_norm: largest gradient norm per member
    :param detach_peers: whether the KL's gradient stops at the peers (Deep Mutual Learning)
    :param target_kl: SB3's limit of the KL between the old and the new policy, None for no limit
    :return: metrics of this step, shape ``(n_policies, len(METRICS))``, 0 for members that take no part
    """
    n_policies = policy.n_policies
    metrics = th.zeros((n_policies, len(METRICS)), device=policy.device)
    policy.optimizer.zero_grad()
    for k in sorted(active):
        own = evaluate_member(policy.members[k], minibatch[k])
        teachers = [
            peer_distribution(
                policy.members[j],
                minibatch[k].observations,
                constant=detach_peers or settings.distill_coef == 0 or j not in active,
            )
            for j in peers[k]
        ]
        loss = member_loss(own, minibatch[k], teachers, settings)
        parts = [getattr(loss, name) for name in METRICS[:-2]]
        metrics[k, :-1] = th.stack([*parts, loss.total.detach()])
        if target_kl is not None and loss.approx_kl > 1.5 * target_kl:
            active.discard(k)
            continue
        (loss.total / n_policies).backward()  # type: ignore[no-untyped-call]

    for k, member in enumerate(policy.members):
        if k in active:
            metrics[k, -1] = th.nn.utils.clip_grad_norm_(member.parameters(), max_grad_norm)
        else:
            # Peers that were still active before may have sent gradients here; None makes the optimizer skip it
            member.zero_grad(set_to_none=True)
    policy.optimizer.step()
    return metrics
