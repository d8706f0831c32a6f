"""Dropout and batch normalisation train in ``train()`` and nowhere else, in every member."""

from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from sb3_mdpo import MDPO
from tests.support.helpers import both, collect, seeded
from tests.support.training import EachStep, small_silent

LEARNING, ACTING = (True, True), (False, False)  # in training mode, with gradients
envs = pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
sharing = pytest.mark.parametrize("share", [True, False], ids=["shared", "separate"])


class NormDropout(BaseFeaturesExtractor):
    """The observation itself, through batch normalisation and dropout; remembers in which modes it was used."""

    def __init__(self, observation_space: spaces.Box) -> None:
        super().__init__(observation_space, get_flattened_obs_dim(observation_space))
        self.norm = nn.BatchNorm1d(self.features_dim)
        self.dropout = nn.Dropout(0.5)
        self.modes: set[tuple[bool, bool]] = set()

    def forward(self, observations: th.Tensor) -> th.Tensor:
        self.modes.add((self.training and self.norm.training and self.dropout.training, th.is_grad_enabled()))
        return self.dropout(self.norm(observations))


def build(algorithm, env_id: str = "CartPole-v1", share: bool = True, **kwargs: Any) -> PPO | MDPO:
    policy_kwargs = {"net_arch": [8], "features_extractor_class": NormDropout, "share_features_extractor": share}
    return small_silent(algorithm, make_vec_env(env_id, n_envs=4), policy_kwargs=policy_kwargs, **kwargs)


def members(model: PPO | MDPO) -> list[ActorCriticPolicy]:
    return list(model.policy.members) if isinstance(model, MDPO) else [model.policy]


def extractors(policy: nn.Module) -> list[NormDropout]:
    """The actor's and the critic's of a member, or the one that they share."""
    return [module for module in policy.modules() if isinstance(module, NormDropout)]


def statistics(model: PPO | MDPO) -> list[dict[str, th.Tensor]]:
    return [
        {name: buffer.clone() for name, buffer in member.named_buffers() if "running" in name or "num_" in name}
        for member in members(model)
    ]


def assert_statistics(model: PPO | MDPO, before: list[dict[str, th.Tensor]], *, changed: bool) -> None:
    for member, old in zip(statistics(model), before, strict=True):
        assert old
        for name, buffer in member.items():
            assert th.equal(buffer, old[name]) != changed, name


def forget_modes(model: PPO | MDPO) -> None:
    for extractor in extractors(model.policy):
        extractor.modes.clear()


@both
@envs
@sharing
def test_batch_norm_learns_while_training_and_not_while_collecting(algorithm, env_id, share):
    model = build(algorithm, env_id, share)
    assert [len(extractors(member)) for member in members(model)] == [1 if share else 2] * len(members(model))
    before = statistics(model)
    forget_modes(model)
    collect(model)
    assert_statistics(model, before, changed=False)
    assert all(extractor.modes == {ACTING} for extractor in extractors(model.policy))
    assert not any(module.training for module in model.policy.modules())

    forget_modes(model)
    weights = [extractor.norm.weight.clone() for extractor in extractors(model.policy)]
    model.train()
    assert_statistics(model, before, changed=True)
    assert all(extractor.modes == {LEARNING} for extractor in extractors(model.policy))
    # Dropout and normalisation pass gradients on
    for extractor, weight in zip(extractors(model.policy), weights, strict=True):
        assert not th.equal(extractor.norm.weight, weight)


@both
@envs
@sharing
def test_nothing_else_moves_the_statistics(algorithm, env_id, share):
    """After training, predicting and evaluating switch to evaluation mode by themselves."""
    model = build(algorithm, env_id, share).learn(64)
    assert all(member.training for member in members(model))
    before = statistics(model)
    env = make_vec_env(env_id, n_envs=2, seed=0)
    forget_modes(model)
    for who in (0, "ensemble") if algorithm is MDPO else ("PPO ignores this",):
        model.predict_with = who
        model.predict(env.reset())
        evaluate_policy(model, env, n_eval_episodes=2)
    for member in members(model):
        evaluate_policy(member, env, n_eval_episodes=2)
    assert_statistics(model, before, changed=False)
    assert all(extractors(member)[0].modes == {ACTING} for member in members(model))


@both
@envs
@sharing
def test_deterministic_predictions_do_not_depend_on_dropout(algorithm, env_id, share):
    model = build(algorithm, env_id, share).learn(64)
    obs = model.get_env().reset()
    for who in (0, 1, "ensemble") if algorithm is MDPO else ("PPO ignores this",):
        model.predict_with = who
        model.policy.set_training_mode(True)
        first, _ = model.predict(obs, deterministic=True)
        for _ in range(5):
            np.testing.assert_array_equal(model.predict(obs, deterministic=True)[0], first)
        # One observation at a time, which batch normalisation in training mode could not take
        single, _ = model.predict(obs[0], deterministic=True)
        np.testing.assert_allclose(single, first[0], rtol=1e-5)


@sharing
def test_dropout_is_there_while_training(share):
    """The same update from the same random numbers for the permutation differs by the dropped features."""
    model = build(MDPO, share=share)
    collect(model)
    obs = th.as_tensor(model.get_env().reset())
    for training in (True, False):
        model.policy.set_training_mode(training)
        assert th.equal(*(model.policy.predict_values(obs) for _ in range(2))) != training
    losses = []
    start = model.get_parameters()
    for seed in (0, 1):
        model.set_parameters(start)
        seeded(seed)
        np.random.seed(0)
        model.train()
        losses.append(model.logger.name_to_value["train/value_loss"])
    assert losses[0] != losses[1]


@both
def test_training_goes_on_after_any_of_it(algorithm):
    """A callback that predicts in the middle of a rollout leaves no trace in the modes."""
    model = build(algorithm)
    seen: list[bool] = []
    callback = EachStep(lambda step: (model.predict(step["new_obs"]), seen.append(model.policy.training)))
    before = statistics(model)
    model.learn(128, callback=callback)
    assert seen == [False] * 32
    assert_statistics(model, before, changed=True)


@both
def test_statistics_are_saved_with_the_model(algorithm, tmp_path):
    model = build(algorithm).learn(128)
    model.save(tmp_path / "model")
    assert_statistics(algorithm.load(tmp_path / "model"), statistics(model), changed=False)


def test_peers_with_gradients_are_in_training_mode_but_learn_no_statistics_of_others_states():
    model = build(MDPO)
    modes = []
    for one in extractors(model.policy):
        one.norm.register_forward_hook(lambda norm, *_: modes.append((norm.training, norm.track_running_stats)))
    collect(model)
    modes.clear()
    model.train()
    minibatches = 2
    assert modes.count((True, True)) == modes.count((True, False)) == 2 * minibatches  # own states, peers' states
    assert [int(one.norm.num_batches_tracked) for one in extractors(model.policy)] == [minibatches] * 2


@pytest.mark.parametrize("kwargs", [{"distill_coef": 0.0}, {"detach_peers": True}], ids=["no_kl", "detached"])
def test_constant_peers_learn_nothing_of_others_states(kwargs):
    """Member 0's statistics are those of its own minibatches alone."""
    model = build(MDPO, **kwargs)
    buffer = collect(model)
    norm = extractors(model.policy)[0].norm
    forget_modes(model)
    seeded(0)
    model.train()
    assert all(extractor.modes == {LEARNING, ACTING} for extractor in extractors(model.policy))
    expected = nn.BatchNorm1d(norm.num_features)
    seeded(0)
    for minibatch in buffer.get(model.batch_size):
        expected(minibatch.observations[0])
    th.testing.assert_close(norm.running_mean, expected.running_mean)
    assert norm.num_batches_tracked == expected.num_batches_tracked == 2


@both
def test_loops_of_ones_own_can_collect_and_train(algorithm):
    model = build(algorithm)
    _, callback = model._setup_learn(64)
    before = statistics(model)
    assert model.collect_rollouts(model.get_env(), callback, model.rollout_buffer, model.n_steps)
    assert_statistics(model, before, changed=False)
    model.train()
    assert_statistics(model, before, changed=True)
