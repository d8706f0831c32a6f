"""The members' policy, its ways to predict, and the paper's network."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_mdpo import MDPO, ImpalaCNN, ImpalaCnnPolicy, MutualPolicy, StridedCNN, StridedCnnPolicy
from tests.support.envs import BrightSideEnv, maker

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


def test_impala_cnn_is_configurable():
    encoder = ImpalaCNN(IMAGE, features_dim=10, channels=(4, 8))
    assert encoder(th.zeros(1, 3, 64, 64)).shape == (1, 10)
    assert [stage.conv.out_channels for stage in encoder.cnn[:2]] == [4, 8]


def test_impala_cnn_drops_features_only_while_training():
    encoder = ImpalaCNN(IMAGE, dropout=0.5)
    x = th.rand(1, 3, 64, 64)
    encoder.eval()
    assert th.equal(encoder(x), encoder(x))
    encoder.train()
    assert not th.equal(encoder(x), encoder(x))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"channels": ()}, "channels must name at least one stage"),
        ({"dropout": 1.0}, r"dropout must be a probability in \[0, 1\), not 1.0"),
    ],
)
def test_impala_cnn_refuses_what_it_cannot_build(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ImpalaCNN(IMAGE, **kwargs)


def test_impala_cnn_refuses_vectors():
    with pytest.raises(ValueError, match="ImpalaCNN needs images, but the observation space is Box"):
        ImpalaCNN(spaces.Box(-1, 1, (4,)))


def test_impala_policy_has_the_papers_initialisation():
    th.manual_seed(0)
    policy = ImpalaCnnPolicy(IMAGE, BUTTONS, lambda _: 5e-4)
    th.manual_seed(0)
    encoder = ImpalaCNN(IMAGE)
    for name, parameter in encoder.state_dict().items():
        assert th.equal(policy.features_extractor.state_dict()[name], parameter), name
    actor, critic = policy.action_net.weight, policy.value_net.weight
    th.testing.assert_close(actor @ actor.T, 0.01**2 * th.eye(15), rtol=1e-4, atol=1e-8)
    assert critic.norm().item() == pytest.approx(1, rel=1e-5)
    assert not policy.action_net.bias.any()
    assert not policy.value_net.bias.any()


def test_impala_policy_works_in_sb3s_ppo():
    model = PPO(ImpalaCnnPolicy, make_vec_env(BrightSideEnv, n_envs=2), n_steps=16, batch_size=16, n_epochs=1)
    model.learn(32)
    assert isinstance(model.policy.features_extractor, ImpalaCNN)


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


def test_strided_cnn_takes_the_impala_cnns_arguments():
    kwargs = {"features_dim": 10, "channels": (4, 8, 8), "dropout": 0.5, "normalized_image": True}
    encoder = StridedCNN(spaces.Box(0, 1, (3, 16, 16), np.float32), **kwargs)
    x = th.rand(1, 3, 16, 16)
    assert encoder(x).shape == (1, 10)
    assert not th.equal(encoder(x), encoder(x))
    assert th.equal(encoder.eval()(x), encoder(x))
    with pytest.raises(ValueError, match="StridedCNN needs images"):
        StridedCNN(spaces.Box(-1, 1, (4,)))


def test_strided_policy_is_the_impala_policy_with_another_encoder(tmp_path):
    th.manual_seed(0)
    policy = StridedCnnPolicy(IMAGE, BUTTONS, lambda _: 5e-4)
    th.manual_seed(0)
    encoder = StridedCNN(IMAGE)
    for name, parameter in encoder.state_dict().items():
        assert th.equal(policy.features_extractor.state_dict()[name], parameter), name
    assert policy.action_net.weight.norm() < 0.1
    assert policy.mlp_extractor.latent_dim_pi == 128
    kwargs = {"features_extractor_kwargs": {"channels": (4,), "features_dim": 16}}
    env = make_vec_env(BrightSideEnv, n_envs=2)
    for model in (
        MDPO("StridedCnnPolicy", env, n_steps=16, batch_size=16, n_epochs=1, policy_kwargs=kwargs),
        PPO(StridedCnnPolicy, env, n_steps=16, batch_size=16, n_epochs=1, policy_kwargs=kwargs),
    ):
        model.learn(32).save(tmp_path / "model")
        loaded = type(model).load(tmp_path / "model")
        member = loaded.policy.members[1] if isinstance(loaded, MDPO) else loaded.policy
        assert isinstance(member.features_extractor, StridedCNN)
        assert member.features_extractor.linear[0].out_features == 16


def test_members_start_apart_and_the_first_one_where_ppo_does():
    env = make_vec_env("CartPole-v1", n_envs=2)
    model = MDPO("MlpPolicy", env, seed=7)
    ppo = PPO("MlpPolicy", env, seed=7)
    first, second = (member.state_dict() for member in model.policy.members)
    assert all(th.equal(first[name], p) for name, p in ppo.policy.state_dict().items())
    assert not th.equal(first["action_net.weight"], second["action_net.weight"])


def test_there_is_one_optimizer_over_all_members():
    model = MDPO("MlpPolicy", "CartPole-v1", policy_kwargs={"optimizer_class": th.optim.RMSprop})
    optimized = {id(p) for group in model.policy.optimizer.param_groups for p in group["params"]}
    assert isinstance(model.policy.optimizer, th.optim.RMSprop)
    assert optimized == {id(p) for member in model.policy.members for p in member.parameters()}
    assert not any(hasattr(member, "optimizer") for member in model.policy.members)


def test_each_member_acts_in_its_own_contiguous_group():
    space = spaces.Box(-1, 1, (3,), np.float32)
    model = MDPO(
        "MlpPolicy", DummyVecEnv([maker(space, spaces.Box(-1, 1, (2,)))] * 6), n_policies=3, n_steps=8, batch_size=4
    )
    obs = th.randn(6, 3)
    actions, values, log_probs = model.policy(obs, deterministic=True)
    assert actions.shape == (6, 2)
    for k, member in enumerate(model.policy.members):
        group = slice(2 * k, 2 * k + 2)
        expected = member(obs[group], deterministic=True)
        for mine, its in zip((actions, values, log_probs), expected, strict=True):
            th.testing.assert_close(mine[group], its)
        th.testing.assert_close(model.policy.predict_values(obs)[group], member.predict_values(obs[group]))


def opinionated_model() -> MDPO:
    """Member 0 always moves left, member 1 right but less surely."""
    model = MDPO("MlpPolicy", "CartPole-v1")
    for member, bias in zip(model.policy.members, ([8.0, -8.0], [-2.0, 2.0]), strict=True):
        member.action_net.bias.data = th.tensor(bias)
    return model


def test_predict_uses_member_0_unless_told_otherwise():
    model = opinionated_model()
    obs = np.zeros((3, 4), dtype=np.float32)
    answers = {}
    for who in (0, 1, "ensemble"):
        model.predict_with = who
        assert model.policy.predict(obs, deterministic=True)[0][0] == model.predict(obs, deterministic=True)[0][0]
        answers[who] = model.predict(obs, deterministic=True)[0].tolist()
    assert answers == {0: [0] * 3, 1: [1] * 3, "ensemble": [0] * 3}
    assert MDPO("MlpPolicy", "CartPole-v1").predict_with == 0


def test_ensemble_samples_from_the_averaged_distribution():
    model = opinionated_model()
    model.predict_with = "ensemble"
    th.manual_seed(0)
    actions, _ = model.predict(np.zeros((4000, 4), dtype=np.float32))
    # (1e-7 + 0.982) / 2 for the right; 4000 draws have a standard deviation of 0.008
    assert actions.mean() == pytest.approx(0.491, abs=0.04)


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
    obs = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    expected = model.policy.predict(obs, deterministic=True)[0]
    np.testing.assert_array_equal(loaded.predict(obs, deterministic=True)[0], expected)


class NarrowPolicy(ActorCriticPolicy):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs, net_arch=[4])


def test_any_actor_critic_class_becomes_the_members():
    model = MDPO(NarrowPolicy, "CartPole-v1", n_steps=32, batch_size=32).learn(64)
    assert all(isinstance(member, NarrowPolicy) for member in model.policy.members)
