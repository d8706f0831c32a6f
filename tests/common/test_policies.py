"""The members' policy, its ways to predict, and the paper's network."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_mdpo import (
    MDPO,
    ImpalaCNN,
    ImpalaCnnPolicy,
    ImpoolaCNN,
    ImpoolaCnnPolicy,
    MutualPolicy,
    StridedCNN,
    StridedCnnPolicy,
)
from tests.support.envs import BrightSideEnv, maker
from tests.support.helpers import assert_same_parameters, both
from tests.support.training import small

IMAGE = spaces.Box(0, 255, (3, 64, 64), np.uint8)
BUTTONS = spaces.Discrete(15)


def test_impala_cnn_has_the_papers_shape():
    encoder = ImpalaCNN(IMAGE)
    assert [stage.conv.out_channels for stage in encoder.cnn[:3]] == [16, 32, 32]
    assert encoder.linear[0].in_features == 32 * 8 * 8
    assert encoder(th.zeros(2, 3, 64, 64)).shape == (2, 256)
    # conv 3x3 of each stage, four 3x3 in its blocks, and the dense layer
    convs = sum(
        9 * before * after + after + 4 * (9 * after * after + after) for before, after in ((3, 16), (16, 32), (32, 32))
    )
    assert sum(p.numel() for p in encoder.parameters()) == convs + 2048 * 256 + 256


@pytest.mark.parametrize("shape", [(3, 64, 64), (3, 20, 36)])
def test_impoola_cnn_averages_impalas_maps_over_all_pixels(shape):
    """One feature per channel, so that its linear layer does not depend on the size of the images."""
    image = spaces.Box(0, 255, shape, np.uint8)
    impala, impoola = ImpalaCNN(image, channels=(4, 6)), ImpoolaCNN(image, channels=(4, 6))
    assert impoola.linear[0].weight.shape == (256, 6)
    impoola.cnn.load_state_dict(impala.cnn.state_dict())
    x = th.rand(2, *shape)
    maps = impala.cnn(x).view(2, 6, -1)
    th.testing.assert_close(impoola.cnn(x), maps.mean(-1))
    assert impoola(x).shape == (2, 256)


ENCODERS = [ImpalaCNN, ImpoolaCNN, StridedCNN]


@pytest.mark.parametrize("encoder_class", ENCODERS)
def test_encoders_are_configurable_and_drop_features_only_while_training(encoder_class):
    kwargs = {"features_dim": 10, "channels": (4, 8, 8), "dropout": 0.5, "normalized_image": True}
    encoder = encoder_class(spaces.Box(0, 1, (3, 16, 16), np.float32), **kwargs)
    convolutions = [module for module in encoder.modules() if isinstance(module, th.nn.Conv2d)]
    assert [convolutions[k].out_channels for k in (0, -1)] == [4, 8]
    x = th.rand(1, 3, 16, 16)
    assert encoder(x).shape == (1, 10)
    assert not th.equal(encoder(x), encoder(x))
    encoder.eval()
    assert th.equal(encoder(x), encoder(x))


@pytest.mark.parametrize("encoder_class", ENCODERS)
@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"channels": ()}, "channels must name at least one stage"),
        ({"dropout": 1.0}, r"dropout must be a probability in \[0, 1\), not 1.0"),
        ({"observation_space": spaces.Box(-1, 1, (4,))}, "CNN needs images, but the observation space is Box"),
    ],
)
def test_encoders_refuse_what_they_cannot_build(encoder_class, kwargs, message):
    with pytest.raises(ValueError, match=message):
        encoder_class(**{"observation_space": IMAGE} | kwargs)


PAPERS = pytest.mark.parametrize(
    ("policy_class", "encoder_class"),
    [(ImpalaCnnPolicy, ImpalaCNN), (ImpoolaCnnPolicy, ImpoolaCNN), (StridedCnnPolicy, StridedCNN)],
)


@PAPERS
def test_policies_have_the_papers_initialisation(policy_class, encoder_class):
    th.manual_seed(0)
    policy = policy_class(IMAGE, BUTTONS, lambda _: 5e-4)
    th.manual_seed(0)
    assert_same_parameters(policy.features_extractor, encoder_class(IMAGE))
    actor, critic = policy.action_net.weight, policy.value_net.weight
    th.testing.assert_close(actor @ actor.T, 0.01**2 * th.eye(15), rtol=1e-4, atol=1e-8)
    assert critic.norm().item() == pytest.approx(1, rel=1e-5)
    assert not policy.action_net.bias.any()
    assert not policy.value_net.bias.any()


@both
@PAPERS
def test_policies_work_in_sb3s_ppo_and_are_saved_and_loaded(algorithm, policy_class, encoder_class, tmp_path):
    kwargs = {"features_extractor_kwargs": {"channels": (4,), "features_dim": 16}}
    policy = policy_class if algorithm is PPO else policy_class.__name__
    small(algorithm, make_vec_env(BrightSideEnv, n_envs=2), policy, policy_kwargs=kwargs).learn(32).save(tmp_path / "m")
    loaded = algorithm.load(tmp_path / "m")
    member = loaded.policy.members[1] if algorithm is MDPO else loaded.policy
    assert isinstance(member.features_extractor, encoder_class)
    assert member.features_extractor.linear[0].out_features == 16


def test_strided_cnn_halves_small_images_at_every_convolution():
    encoder = StridedCNN(spaces.Box(0, 255, (3, 16, 16), np.uint8))
    assert [type(layer).__name__ for layer in encoder.cnn] == ["Conv2d", "ReLU", "Conv2d", "ReLU", "Flatten"]
    assert (encoder.cnn[0].out_channels, encoder.cnn[2].out_channels) == (16, 32)
    assert encoder.linear[0].in_features == 32 * 4 * 4
    x = th.rand(2, 3, 16, 16)
    conv = th.nn.functional.conv2d
    expected = conv(x, encoder.cnn[0].weight, encoder.cnn[0].bias, stride=2, padding=1).relu()
    expected = conv(expected, encoder.cnn[2].weight, encoder.cnn[2].bias, stride=2, padding=1).relu().flatten(1)
    expected = (expected @ encoder.linear[0].weight.T + encoder.linear[0].bias).relu()
    assert encoder(x).shape == (2, 128)
    th.testing.assert_close(encoder(x), expected)


def test_there_is_one_optimizer_over_all_members():
    model = MDPO("MlpPolicy", "CartPole-v1", policy_kwargs={"optimizer_class": th.optim.RMSprop})
    optimized = {id(p) for group in model.policy.optimizer.param_groups for p in group["params"]}
    assert isinstance(model.policy.optimizer, th.optim.RMSprop)
    assert optimized == {id(p) for member in model.policy.members for p in member.parameters()}
    assert not any(hasattr(member, "optimizer") for member in model.policy.members)


def test_each_member_acts_in_its_own_contiguous_group():
    env = DummyVecEnv([maker(spaces.Box(-1, 1, (3,)), spaces.Box(-1, 1, (2,)))] * 6)
    model = small(MDPO, env, n_policies=3)
    obs = th.randn(6, 3)
    outputs = *model.policy(obs, deterministic=True), model.policy.predict_values(obs)
    assert [output.shape for output in outputs] == [(6, 2), (6, 1), (6,), (6, 1)]
    for k, member in enumerate(model.policy.members):
        group = slice(2 * k, 2 * k + 2)
        expected = *member(obs[group], deterministic=True), member.predict_values(obs[group])
        for mine, its in zip(outputs, expected, strict=True):
            th.testing.assert_close(mine[group], its)
    assert not th.allclose(outputs[1], model.policy.members[0].predict_values(obs))


def test_unknown_predict_with_is_refused():
    model = MDPO("MlpPolicy", "CartPole-v1")
    with pytest.raises(ValueError, match="predict_with=2 is unknown: use a member's index, 0 to 1, or 'ensemble'"):
        model.predict_with = 2
    assert model.predict_with == 0


def test_policy_saves_and_loads_by_itself(tmp_path):
    model = MDPO("MlpPolicy", "CartPole-v1", n_policies=3, predict_with="ensemble", policy_kwargs={"net_arch": [8]})
    model.policy.save(tmp_path / "policy.pth")
    loaded = MutualPolicy.load(tmp_path / "policy.pth")
    assert (loaded.n_policies, loaded.predict_with) == (3, "ensemble")
    assert_same_parameters(loaded, model.policy)
