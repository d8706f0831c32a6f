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
from tests.support.helpers import both, collect, seeded, silent_logger

TINY: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "n_epochs": 1, "seed": 0, "device": "cpu"}
envs = pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
sharing = pytest.mark.parametrize("share", [True, False], ids=["shared", "separate"])


class NormDropout(BaseFeaturesExtractor):
    """The observation itself, through batch normalisation and dropout; remembers in which mode it was used."""

    def __init__(self, observation_space: spaces.Box) -> None:
        super().__init__(observation_space, get_flattened_obs_dim(observation_space))
        self.norm = nn.BatchNorm1d(self.features_dim)
        self.dropout = nn.Dropout(0.5)
        self.modes: list[bool] = []

    def forward(self, observations: th.Tensor) -> th.Tensor:
        self.modes.append(self.training and self.norm.training and self.dropout.training)
        return self.dropout(self.norm(observations))


def build(algorithm, env_id: str, share: bool, **kwargs: Any) -> PPO | MDPO:
    policy_kwargs = {"net_arch": [8], "features_extractor_class": NormDropout, "share_features_extractor": share}
    env = make_vec_env(env_id, n_envs=4)
    return algorithm("MlpPolicy", env, policy_kwargs=policy_kwargs, **TINY, **kwargs)


def members(model: PPO | MDPO) -> list[ActorCriticPolicy]:
    return list(model.policy.members) if isinstance(model, MDPO) else [model.policy]


def extractors(policy: ActorCriticPolicy) -> list[NormDropout]:
    """:return: the actor's and the critic's, or the one that they share"""
    return [module for module in policy.modules() if isinstance(module, NormDropout)]


def statistics(policy: ActorCriticPolicy) -> dict[str, th.Tensor]:
    return {name: buffer.clone() for name, buffer in policy.named_buffers() if "running" in name or "num_" in name}


def assert_statistics(model: PPO | MDPO, before: list[dict[str, th.Tensor]], *, changed: bool) -> None:
    for member, old in zip(members(model), before, strict=True):
        assert old
        for name, buffer in statistics(member).items():
            assert th.equal(buffer, old[name]) != changed, name


def forget_modes(model: PPO | MDPO) -> None:
    for member in members(model):
        for extractor in extractors(member):
            extractor.modes.clear()


def modes(model: PPO | MDPO) -> list[set[bool]]:
    return [set(extractor.modes) for member in members(model) for extractor in extractors(member)]


@both
@envs
@sharing
def test_batch_norm_learns_while_training_and_not_while_collecting(algorithm, env_id, share):
    model = build(algorithm, env_id, share)
    assert [len(extractors(member)) for member in members(model)] == [1 if share else 2] * len(members(model))
    model.set_logger(silent_logger())
    before = [statistics(member) for member in members(model)]
    forget_modes(model)
    collect(model)
    assert_statistics(model, before, changed=False)
    assert modes(model) == [{False}] * len(modes(model))
    assert not any(module.training for module in model.policy.modules())

    forget_modes(model)
    weights = [extractor.norm.weight.clone() for member in members(model) for extractor in extractors(member)]
    model.train()
    assert_statistics(model, before, changed=True)
    assert modes(model) == [{True}] * len(modes(model))
    # Dropout and normalisation pass gradients on
    for extractor, weight in zip(
        (extractor for member in members(model) for extractor in extractors(member)), weights, strict=True
    ):
        assert not th.equal(extractor.norm.weight, weight)


@both
@envs
@sharing
def test_nothing_else_moves_the_statistics(algorithm, env_id, share):
    """After training, predicting and evaluating switch to evaluation mode by themselves."""
    model = build(algorithm, env_id, share).learn(64)
    assert all(member.training for member in members(model))
    before = [statistics(member) for member in members(model)]
    env = make_vec_env(env_id, n_envs=2, seed=0)
    forget_modes(model)
    obs = env.reset()
    model.predict(obs)
    evaluate_policy(model, env, n_eval_episodes=2)
    for member in members(model):
        evaluate_policy(member, env, n_eval_episodes=2)
    if algorithm is MDPO:
        model.predict_with = "ensemble"
        model.predict(obs)
        evaluate_policy(model, env, n_eval_episodes=2)
    assert_statistics(model, before, changed=False)
    actors = [extractors(member)[0] for member in members(model)]
    assert all(set(extractor.modes) == {False} for extractor in actors)


@both
@envs
@sharing
def test_deterministic_predictions_do_not_depend_on_dropout(algorithm, env_id, share):
    model = build(algorithm, env_id, share).learn(64)
    obs = model.get_env().reset()
    settings = (0, 1, "ensemble") if algorithm is MDPO else (None,)
    for setting in settings:
        if setting is not None:
            model.predict_with = setting
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
    model = build(MDPO, "CartPole-v1", share)
    collect(model)
    model.set_logger(silent_logger())
    obs = th.as_tensor(model.get_env().reset())
    model.policy.set_training_mode(True)
    assert not th.equal(*(model.policy.predict_values(obs) for _ in range(2)))
    model.policy.set_training_mode(False)
    assert th.equal(*(model.policy.predict_values(obs) for _ in range(2)))

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
    model = build(algorithm, "CartPole-v1", share=True)
    seen: list[bool] = []

    def predict(local_variables: dict[str, Any], _globals: dict[str, Any]) -> bool:
        model.predict(local_variables["new_obs"])
        seen.append(model.policy.training)
        return True

    before = [statistics(member) for member in members(model)]
    model.learn(128, callback=predict)
    assert seen == [False] * 32
    assert_statistics(model, before, changed=True)


@both
def test_statistics_are_saved_with_the_model(algorithm, tmp_path):
    model = build(algorithm, "CartPole-v1", share=True).learn(128)
    model.save(tmp_path / "model")
    assert_statistics(
        algorithm.load(tmp_path / "model"), [statistics(member) for member in members(model)], changed=False
    )


def test_both_sides_of_the_distillation_are_in_training_mode():
    """Each minibatch goes through its own member once and through its peer once: twice the number of minibatches."""
    counts = {}
    for n_policies in (1, 2):
        env = make_vec_env("CartPole-v1", n_envs=4)
        policy_kwargs = {"net_arch": [8], "features_extractor_class": NormDropout}
        model = MDPO("MlpPolicy", env, n_policies=n_policies, policy_kwargs=policy_kwargs, **TINY).learn(64)
        counts[n_policies] = [int(extractors(member)[0].norm.num_batches_tracked) for member in model.policy.members]
    assert counts == {1: [4], 2: [4, 4]}


@pytest.mark.parametrize("kwargs", [{"distill_coef": 0.0}, {"detach_peers": True}], ids=["no_kl", "detached"])
def test_constant_peers_learn_nothing_of_others_states(kwargs):
    """Member 0's statistics are those of its own minibatches alone."""
    model = build(MDPO, "CartPole-v1", share=True, **kwargs)
    model.set_logger(silent_logger())
    buffer = collect(model)
    norm = extractors(model.policy.members[0])[0].norm
    seeded(0)
    model.train()
    expected = nn.BatchNorm1d(norm.num_features)
    seeded(0)
    for minibatch in buffer.get(model.batch_size):
        expected(minibatch.observations[0])
    th.testing.assert_close(norm.running_mean, expected.running_mean)
    assert norm.num_batches_tracked == expected.num_batches_tracked == 2


@both
def test_loops_of_ones_own_can_collect_and_train(algorithm):
    model = build(algorithm, "CartPole-v1", share=True)
    _, callback = model._setup_learn(64)
    before = [statistics(member) for member in members(model)]
    assert model.collect_rollouts(model.get_env(), callback, model.rollout_buffer, model.n_steps)
    assert_statistics(model, before, changed=False)
    model.train()
    assert_statistics(model, before, changed=True)
