"""The KL of every distribution, exact; discrete distributions that do not start at 0; mixtures."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    Distribution,
    MultiCategoricalDistribution,
    SquashedDiagGaussianDistribution,
    StateDependentNoiseDistribution,
)

from sb3_mdpo.common.distributions import (
    OffsetCategoricalDistribution,
    OffsetMultiCategoricalDistribution,
    mixture_mode,
    mixture_sample,
    with_start,
)
from sb3_mdpo.mdpo.losses import distillation_kl

DIMENSIONS = 3
NVEC = [2, 4, 3]
LATENT = 5


Builder = Callable[[th.Generator, int, int], Distribution]


def gaussian(generator: th.Generator, batch: int, repeat: int, cls=DiagGaussianDistribution) -> Distribution:
    mean = th.randn(batch, DIMENSIONS, generator=generator).repeat(repeat, 1)
    return cls(DIMENSIONS).proba_distribution(mean, 0.5 * th.randn(DIMENSIONS, generator=generator))


def state_dependent(generator: th.Generator, batch: int, repeat: int, squash_output: bool = False) -> Distribution:
    distribution = StateDependentNoiseDistribution(DIMENSIONS, squash_output=squash_output)
    distribution.proba_distribution_net(LATENT)
    mean, latent = (th.randn(batch, n, generator=generator).repeat(repeat, 1) for n in (DIMENSIONS, LATENT))
    log_std = 0.5 * th.randn(LATENT, DIMENSIONS, generator=generator)
    distribution.sample_weights(log_std, batch_size=len(mean))
    return distribution.proba_distribution(mean, log_std, latent)


def discrete(make: Callable[[], Distribution], size: int) -> Builder:
    return lambda generator, batch, repeat: make().proba_distribution(
        2 * th.randn(batch, size, generator=generator).repeat(repeat, 1)
    )


KINDS: dict[str, Builder] = {
    "gaussian": gaussian,
    "squashed_gaussian": partial(gaussian, cls=SquashedDiagGaussianDistribution),
    "gsde": state_dependent,
    "squashed_gsde": partial(state_dependent, squash_output=True),
    "categorical": discrete(lambda: CategoricalDistribution(4), 4),
    "offset_categorical": discrete(lambda: OffsetCategoricalDistribution(4, start=7), 4),
    "multi_categorical": discrete(lambda: MultiCategoricalDistribution(NVEC), sum(NVEC)),
    "offset_multi_categorical": discrete(lambda: OffsetMultiCategoricalDistribution(NVEC, [1, -2, 0]), sum(NVEC)),
    "bernoulli": discrete(lambda: BernoulliDistribution(3), 3),
}


def pair(kind: str, seed: int, batch: int, repeat: int = 1) -> list[Distribution]:
    """Two distributions of some states, each state once or repeated."""
    generator = th.Generator().manual_seed(seed)
    return [KINDS[kind](generator, batch, repeat) for _ in range(2)]


def closed_form(peer: Distribution, own: Distribution) -> th.Tensor:
    """KL(peer || own) per state, from the textbook formula, in float64."""
    if isinstance(peer, MultiCategoricalDistribution):
        parts = zip(peer.distribution, own.distribution, strict=True)
        return th.stack([(p.probs.double() * (p.logits - q.logits).double()).sum(-1) for p, q in parts]).sum(0)
    p, q = peer.distribution, own.distribution
    if isinstance(p, th.distributions.Categorical):
        return (p.probs.double() * (p.logits - q.logits).double()).sum(-1)
    if isinstance(p, th.distributions.Bernoulli):
        one, other = p.logits.double().sigmoid(), q.logits.double().sigmoid()
        return (one * (one / other).log() + (1 - one) * ((1 - one) / (1 - other)).log()).sum(-1)
    sigma, other_sigma = p.stddev.double(), q.stddev.double()
    distance = (p.mean - q.mean).double()
    per_dimension = (other_sigma / sigma).log() + (sigma**2 + distance**2) / (2 * other_sigma**2) - 0.5
    return per_dimension.sum(-1)


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 2**31), batch=st.integers(1, 6))
@settings(max_examples=20, deadline=None)
def test_kl_is_the_closed_form_summed_over_dimensions_zero_to_itself_and_the_mean_over_peers(kind, seed, batch):
    own, peer = pair(kind, seed, batch)
    kl = distillation_kl(own, [peer])
    th.testing.assert_close(kl, closed_form(peer, own).mean().float(), rtol=1e-4, atol=1e-5)
    assert kl > 0
    assert distillation_kl(own, [own]).abs() < 1e-6
    th.testing.assert_close(distillation_kl(own, [peer, own]), kl / 2)


@pytest.mark.parametrize("kind", KINDS)
def test_kl_is_the_mean_log_ratio_of_the_peers_actions(kind):
    """
    Monte Carlo with the distributions' own ``sample`` and ``log_prob``, squashing and offsets included: the
    density of tanh(u) has the same factor under both policies, so that the ratio is the Gaussians'.
    """
    th.manual_seed(0)
    own, peer = pair(kind, seed=3, batch=1, repeat=40_000)
    actions = peer.sample()
    log_ratio = peer.log_prob(actions) - own.log_prob(actions)
    error = log_ratio.std().item() / len(log_ratio) ** 0.5
    assert error < 0.1
    assert log_ratio.mean().item() == pytest.approx(distillation_kl(own, [peer]).item(), abs=5 * error)


@pytest.mark.parametrize("kind", KINDS)
def test_kl_sends_gradients_to_both_sides(kind):
    own, peer = pair(kind, seed=1, batch=2)
    parts = [part for one in (own, peer) for part in np.atleast_1d(one.distribution)]
    leaves = [part.loc if hasattr(part, "loc") else part.logits for part in parts]
    for leaf in leaves:
        leaf.requires_grad_()
    distillation_kl(own, [peer]).backward()
    assert all(leaf.grad.abs().sum() > 0 for leaf in leaves)


def logits(*probabilities: float) -> th.Tensor:
    return th.log(th.tensor([probabilities]))


def test_offset_categorical_counts_from_its_start():
    plain, offset = CategoricalDistribution(3), OffsetCategoricalDistribution(3, start=-1)
    for distribution in (plain, offset):
        distribution.proba_distribution(logits(0.2, 0.1, 0.7).expand(500, -1))
    assert offset.mode()[0] == 1
    assert set(offset.sample().tolist()) == {-1, 0, 1}
    actions = th.tensor([0, 1, 2]).repeat(200)[:500]
    assert th.equal(offset.log_prob(actions - 1), plain.log_prob(actions))
    assert th.equal(offset.entropy(), plain.entropy())


def test_offset_multi_categorical_counts_from_its_starts():
    plain, offset = MultiCategoricalDistribution([2, 2]), OffsetMultiCategoricalDistribution([2, 2], [3, -4])
    for distribution in (plain, offset):
        distribution.proba_distribution(logits(0.3, 0.7, 0.6, 0.4).expand(200, -1))
    assert offset.mode()[0].tolist() == [4, -4]
    samples = offset.sample()
    assert [set(column.tolist()) for column in samples.T] == [{3, 4}, {-4, -3}]
    # floats, as the rollout buffer keeps them
    shifted = (samples - th.tensor([3, -4])).float()
    th.testing.assert_close(offset.log_prob(samples.float()), plain.log_prob(shifted))


def test_distributions_are_replaced_only_where_something_is_to_be_shifted():
    plain = CategoricalDistribution(3)
    for space in (spaces.Discrete(3), spaces.Box(1, 2, (3,)), spaces.MultiBinary(2), spaces.MultiDiscrete([2, 2])):
        assert with_start(plain, space) is plain
    assert with_start(plain, spaces.Discrete(3, start=2)).start == 2
    shifted = with_start(plain, spaces.MultiDiscrete([2, 2], start=[0, 1]))
    assert (shifted.action_dims, shifted.start.tolist()) == ([2, 2], [0, 1])


def categorical(*probabilities: float) -> CategoricalDistribution:
    return CategoricalDistribution(len(probabilities)).proba_distribution(logits(*probabilities))


def test_mixture_mode_averages_probabilities():
    members = [categorical(0.9, 0.05, 0.05), categorical(0.4, 0.6, 0.0001)]
    before = members[0].distribution.probs.clone()
    assert mixture_mode(members).tolist() == [0]
    assert th.equal(members[0].distribution.probs, before)
    offset = [OffsetCategoricalDistribution(2, 10).proba_distribution(logits(*p)) for p in ([0.1, 0.9], [0.6, 0.4])]
    assert mixture_mode(offset).tolist() == [11]


def test_mixture_mode_of_members_that_are_sure():
    """Probabilities of exactly 0 and 1."""
    sure = [CategoricalDistribution(2).proba_distribution(th.tensor([[0.0, -1e9]])) for _ in range(2)]
    assert mixture_mode(sure).tolist() == [0]
    buttons = [BernoulliDistribution(2).proba_distribution(th.tensor([[200.0, -200.0]])) for _ in range(2)]
    assert mixture_mode(buttons).tolist() == [[1.0, 0.0]]


def test_mixture_mode_of_several_dimensions():
    pairs = ([0.9, 0.1, 0.2, 0.8], [0.4, 0.6, 0.6, 0.4])
    multi = [MultiCategoricalDistribution([2, 2]).proba_distribution(logits(*p)) for p in pairs]
    assert mixture_mode(multi).tolist() == [[0, 1]]
    offset = [OffsetMultiCategoricalDistribution([2, 2], [5, -1]).proba_distribution(logits(*p)) for p in pairs]
    assert mixture_mode(offset).tolist() == [[5, 0]]
    bernoulli = [BernoulliDistribution(2).proba_distribution(th.tensor([b])) for b in ([4.0, -4.0], [-1.0, 0.5])]
    assert mixture_mode(bernoulli).tolist() == [[1.0, 0.0]]


def test_mixture_of_gaussians():
    gaussians = [
        DiagGaussianDistribution(1).proba_distribution(th.full((2000, 1), mean), th.full((1,), -3.0))
        for mean in (0.0, 4.0)
    ]
    assert mixture_mode(gaussians)[0].item() == 2.0
    th.manual_seed(0)
    samples = mixture_sample(gaussians)
    # Half of the samples near each mean, none near the middle
    assert ((samples > 3) | (samples < 1)).all()
    assert (samples > 2).float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_mixture_samples_have_the_averaged_probabilities():
    th.manual_seed(0)
    parts = [
        OffsetCategoricalDistribution(3, 1).proba_distribution(logits(*p).expand(20_000, -1))
        for p in ([0.8, 0.1, 0.1], [0.2, 0.2, 0.6])
    ]
    frequencies = np.bincount(mixture_sample(parts).numpy(), minlength=4)[1:] / 20_000
    np.testing.assert_allclose(frequencies, [0.5, 0.15, 0.35], atol=0.02)
