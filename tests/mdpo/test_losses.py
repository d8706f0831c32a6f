"""The losses, against values computed by hand."""

import math

import numpy as np
import pytest
import torch as th
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    MultiCategoricalDistribution,
)
from stable_baselines3.common.type_aliases import RolloutBufferSamples

from sb3_mdpo.common.buffers import normalize_advantages
from sb3_mdpo.mdpo.losses import (
    Evaluation,
    LossSettings,
    approximate_kl,
    clipped_surrogate,
    distillation_kl,
    entropy_loss,
    joint_policy,
    member_loss,
    value_loss,
)


def categorical(*probabilities: list[float]) -> CategoricalDistribution:
    """A batch of distributions, one per list of probabilities."""
    logits = th.log(th.tensor(probabilities, dtype=th.float64))
    return CategoricalDistribution(logits.shape[1]).proba_distribution(logits)


def test_surrogate_takes_the_smaller_of_clipped_and_unclipped():
    advantages = th.tensor([1.0, 1.0, -1.0, -1.0])
    ratio = th.tensor([1.5, 0.5, 1.5, 0.5])
    # 1.2 (clipped), 0.5, -1.5, -0.8 (clipped): mean -0.15, negated
    assert clipped_surrogate(advantages, ratio, 0.2).item() == pytest.approx(0.15)


def test_surrogate_has_no_gradient_where_the_clip_gains_nothing():
    ratio = th.tensor([1.5, 0.5, 1.1], requires_grad=True)
    clipped_surrogate(th.tensor([1.0, -1.0, 1.0]), ratio, 0.2).backward()
    th.testing.assert_close(ratio.grad, th.tensor([0.0, 0.0, -1 / 3]))


def test_value_loss_without_clipping_is_the_mean_squared_error():
    loss = value_loss(th.tensor([1.0, 3.0]), th.zeros(2), th.tensor([2.0, 1.0]))
    assert loss.item() == pytest.approx((1 + 4) / 2)


def test_value_loss_with_clipping_is_the_larger_error():
    values = th.tensor([1.0, 1.0], requires_grad=True)
    old_values = th.zeros(2)
    returns = th.tensor([2.0, -1.0])
    # Clipped to 0.2. Towards the target: (0.2 - 2)^2 = 3.24 > 1; away from it: (1 + 1)^2 = 4 > 1.44
    loss = value_loss(values, old_values, returns, clip_range_vf=0.2)
    assert loss.item() == pytest.approx((3.24 + 4) / 2)
    loss.backward()
    # Only what moved away from its target is pulled back: d/dv (v + 1)^2 / 2 = 2
    th.testing.assert_close(values.grad, th.tensor([0.0, 2.0]))


def test_entropy_loss_is_the_negative_mean_and_falls_back_on_log_prob():
    assert entropy_loss(th.tensor([1.0, 3.0]), th.zeros(2)).item() == -2.0
    assert entropy_loss(None, th.tensor([-1.0, -5.0])).item() == -3.0


def test_advantages_are_normalised_and_a_single_one_is_left_alone():
    normalized = normalize_advantages(th.tensor([1.0, 2.0, 3.0]))
    th.testing.assert_close(normalized, th.tensor([-1.0, 0.0, 1.0]))
    th.testing.assert_close(normalize_advantages(th.tensor([5.0])), th.tensor([5.0]))


def test_approximate_kl_by_hand():
    # r - 1 - log r at r = 2 and r = 1
    expected = (2 - 1 - math.log(2)) / 2
    assert approximate_kl(th.log(th.tensor([2.0, 1.0])), th.zeros(2)).item() == pytest.approx(expected, rel=1e-6)


def test_distillation_is_the_kl_from_peer_to_self():
    own, peer = categorical([0.5, 0.5]), categorical([0.9, 0.1])
    peer_first = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    own_first = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    assert peer_first != pytest.approx(own_first, rel=0.1)
    assert distillation_kl(own, [peer]).item() == pytest.approx(peer_first)


def test_distillation_is_the_mean_over_peers_and_states():
    own = categorical([0.5, 0.5], [0.5, 0.5])
    first, second = categorical([0.9, 0.1], [0.5, 0.5]), categorical([0.2, 0.8], [0.5, 0.5])

    def kl(p: float) -> float:
        return p * math.log(p / 0.5) + (1 - p) * math.log((1 - p) / 0.5)

    assert distillation_kl(own, [first, second]).item() == pytest.approx((kl(0.9) + kl(0.2)) / 2 / 2)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), kind=st.sampled_from(["multi", "bernoulli"]))
def test_distillation_of_independent_dimensions_is_that_of_the_joint_distribution(seed, kind):
    """The exact KL of the joint distribution, by enumeration of its outcomes."""
    generator = th.Generator().manual_seed(seed)
    make, size, outcomes = {
        "multi": (lambda: MultiCategoricalDistribution([2, 3]), 5, [[a, b] for a in range(2) for b in range(3)]),
        "bernoulli": (lambda: BernoulliDistribution(2), 2, [[a, b] for a in (0.0, 1.0) for b in (0.0, 1.0)]),
    }[kind]
    p, q = (make().proba_distribution(th.randn(1, size, generator=generator)) for _ in range(2))
    outcomes = th.tensor(outcomes)
    log_p, log_q = (d.log_prob(outcomes) for d in (p, q))
    expected = (log_p.exp() * (log_p - log_q)).sum()
    th.testing.assert_close(distillation_kl(own=q, peers=[p]), expected, rtol=1e-4, atol=1e-6)


def test_kl_to_the_maximum_by_hand():
    """Maxima 0.5, 0.4, 0.3 of the first state add up to 1.2; in the second all agree."""
    own = categorical([0.5, 0.2, 0.3], [0.2, 0.3, 0.5])
    peer = categorical([0.5, 0.4, 0.1], [0.2, 0.3, 0.5])
    first = sum(p * math.log(p / (m / 1.2)) for p, m in ((0.5, 0.5), (0.2, 0.4), (0.3, 0.3)))
    assert distillation_kl(joint_policy([own, peer]), [own]).item() == pytest.approx(first / 2)
    third = categorical([0.1, 0.1, 0.8], [0.2, 0.3, 0.5])
    first = sum(p * math.log(p / (m / 1.7)) for p, m in ((0.5, 0.5), (0.2, 0.4), (0.3, 0.8)))
    joint = joint_policy([own, peer, third])
    assert distillation_kl(joint, [own]).item() == pytest.approx(first / 2)
    assert distillation_kl(joint, [own], (2, 1)).tolist() == pytest.approx([first, 0.0])


def test_the_maximum_is_a_target_without_gradient():
    logits = [th.tensor([[0.0, 1.0, x]], dtype=th.float64, requires_grad=True) for x in (-1.0, 2.0)]
    own, peer = (CategoricalDistribution(3).proba_distribution(one) for one in logits)
    distillation_kl(joint_policy([own, peer]), [own]).backward()
    assert logits[1].grad is None
    mine, its = (one.detach().softmax(1) for one in logits)
    joint = th.maximum(mine, its) / th.maximum(mine, its).sum()
    ratio = (mine / joint).log()
    th.testing.assert_close(logits[0].grad, mine * (ratio - (mine * ratio).sum()))


def samples(n: int) -> RolloutBufferSamples:
    rng = np.random.default_rng(0)
    columns = [th.as_tensor(rng.normal(size=n), dtype=th.float64) for _ in range(4)]
    return RolloutBufferSamples(th.zeros(n, 1), th.zeros(n), *columns)


def test_member_loss_adds_up_its_weighted_parts():
    batch = samples(4)
    own_distribution = categorical(*[[0.3, 0.7]] * 4)
    own = Evaluation(
        own_distribution, th.ones(4, dtype=th.float64), batch.old_log_prob + 0.1, own_distribution.entropy()
    )
    loss = member_loss(own, batch, [categorical(*[[0.6, 0.4]] * 4)], LossSettings(0.2, None, 0.01, 0.25, 3.0, True))
    expected = loss.policy_gradient_loss + 0.01 * loss.entropy_loss + 0.25 * loss.value_loss + 3.0 * loss.distill_kl
    assert loss.distill_kl > 0
    assert loss.total.item() == pytest.approx(expected.item())


def test_member_loss_of_a_single_policy_has_no_distillation():
    batch = samples(4)
    distribution = categorical(*[[0.3, 0.7]] * 4)
    own = Evaluation(distribution, th.ones(4, dtype=th.float64), batch.old_log_prob, None)
    loss = member_loss(own, batch, [], LossSettings(0.2, None, 0.0, 0.5, 1.0, False))
    assert loss.distill_kl.item() == 0
    expected = -batch.advantages.mean() + 0.5 * ((batch.returns - 1) ** 2).mean()
    assert loss.total.item() == pytest.approx(expected.item())
