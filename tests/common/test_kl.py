"""The KL between action distributions: exact where torch's is infinite, torch's own elsewhere."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    Distribution,
    MultiCategoricalDistribution,
)
from stable_baselines3.common.distributions import kl_divergence as sb3_kl_divergence
from stable_baselines3.common.env_util import make_vec_env

from sb3_mdpo import MDPO
from sb3_mdpo.common.distributions import kl_divergence

KINDS = {
    "categorical": CategoricalDistribution(4),
    "multi categorical": MultiCategoricalDistribution([2, 2]),
    "bernoulli": BernoulliDistribution(4),
}


def distribution(kind: str, logits: th.Tensor) -> Distribution:
    return type(KINDS[kind])(*_sizes(kind)).proba_distribution(logits)


def _sizes(kind: str) -> list:
    return [[2, 2]] if kind == "multi categorical" else [4]


def reference(kind: str, p: th.Tensor, q: th.Tensor) -> th.Tensor:
    """The sum over outcomes of ``p (log p - log q)``, in float64."""
    p, q = p.double(), q.double()
    if kind == "bernoulli":  # each is a categorical distribution over failure and success
        p, q = (th.stack([th.zeros_like(x), x], dim=-1) for x in (p, q))
    elif kind == "multi categorical":
        p, q = (x.reshape(-1, 2, 2) for x in (p, q))
    log_p, log_q = p.log_softmax(-1), q.log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1).reshape(len(p), -1).sum(-1)


def test_a_bernoulli_whose_probability_rounds_to_1_has_a_small_kl():
    own = distribution("bernoulli", th.full((1, 4), 17.0))
    peer = distribution("bernoulli", th.full((1, 4), 5.0))
    assert sb3_kl_divergence(peer, own).isinf().all()
    assert kl_divergence(peer, own).item() == pytest.approx(4 * 0.07360, rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**20), gap=st.sampled_from([0.1, 1.0, 30.0, 104.0, 1e3, 1e4]))
def test_discrete_kl_is_exact_and_its_gradient_finite_at_any_gap(kind, seed, gap):
    generator = th.Generator().manual_seed(seed)
    p = (th.rand(3, 4, generator=generator) * 2 - 1).mul_(gap).requires_grad_()
    q = (th.rand(3, 4, generator=generator) * 2 - 1).mul_(gap).requires_grad_()
    kl = kl_divergence(distribution(kind, p), distribution(kind, q))
    # Rounding of logits to float32 limits what any formula can know
    th.testing.assert_close(kl.double(), reference(kind, p.detach(), q.detach()), rtol=1e-4, atol=2e-6 * gap + 1e-6)
    kl.sum().backward()
    assert p.grad.isfinite().all()
    assert q.grad.isfinite().all()


@pytest.mark.parametrize("kind", [*KINDS, "gaussian"])
def test_kl_is_torchs_where_that_is_finite(kind):
    generator = th.Generator().manual_seed(0)
    p, q = (th.randn(64, 4, generator=generator) for _ in range(2))
    if kind == "gaussian":
        first, second = (DiagGaussianDistribution(4).proba_distribution(x, th.full((4,), 0.3)) for x in (p, q))
    else:
        first, second = distribution(kind, p), distribution(kind, q)
    expected = sb3_kl_divergence(first, second)
    expected = expected.sum(1) if expected.dim() > 1 else expected
    if kind == "bernoulli":
        th.testing.assert_close(kl_divergence(first, second), expected)
    else:
        assert th.equal(kl_divergence(first, second), expected)


class LargeObservations(gym.ObservationWrapper):
    def __init__(self, env: gym.Env):
        super().__init__(env)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, env.observation_space.shape, np.float32)

    def observation(self, observation):
        return observation * np.float32(1e4)


def test_members_learn_from_observations_whose_logits_are_thousands_apart():
    env = make_vec_env("CartPole-v1", n_envs=4, wrapper_class=LargeObservations)
    model = MDPO(
        "MlpPolicy",
        env,
        n_steps=64,
        policy_kwargs={"activation_fn": th.nn.ReLU, "ortho_init": False},
        seed=0,
        verbose=0,
    )
    model.learn(1024)
    observations = th.as_tensor(model.rollout_buffer.observations[:, 0])
    logits = [member.get_distribution(observations).distribution.logits for member in model.policy.members]
    assert max((one.max() - one.min()).item() for one in logits) > 104  # where torch's KL is infinite
