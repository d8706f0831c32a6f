"""Members as SB3's PPO models, and PPO models as members."""

import io
import subprocess
import sys

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_mdpo import MDPO
from tests.support.envs import BrightSideEnv, maker
from tests.support.helpers import assert_same_parameters, parameters

TINY = {"n_steps": 16, "batch_size": 16, "n_epochs": 2, "device": "cpu"}
OBS = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)


def cartpole(n_envs: int = 4):
    return make_vec_env("CartPole-v1", n_envs=n_envs, seed=0)


@pytest.fixture
def model() -> MDPO:
    settings = {"gamma": 0.9, "clip_range": LinearSchedule(0.3, 0.1, 1), "clip_range_vf": 0.3, "seed": 5}
    networks = [{"net_arch": [8]}, {"net_arch": [9]}]
    return MDPO("MlpPolicy", cartpole(), policy_kwargs=networks, stats_window_size=7, **settings, **TINY).learn(128)


@pytest.mark.parametrize("k", [0, 1])
def test_the_ppo_model_acts_as_the_member_does(model, k, tmp_path):
    ppo = model.to_ppo(k)
    assert type(ppo) is PPO
    assert_same_parameters(ppo.policy, model.policy.members[k])
    ppo.save(tmp_path / "ppo")
    for one in (ppo, PPO.load(tmp_path / "ppo")):
        np.testing.assert_array_equal(predict(one), predict(model.policy.members[k]))
        assert evaluate_policy(one, cartpole(2), n_eval_episodes=2)[0] > 0


def predict(model, observations=OBS):
    return model.predict(observations, deterministic=True)[0]


def test_the_ppo_model_needs_no_package_of_ours(model, tmp_path):
    model.to_ppo(1).save(tmp_path / "ppo")
    expected = predict(model.policy.members[1])
    np.save(tmp_path / "obs.npy", OBS)
    code = (
        "import sys, numpy as np; sys.modules['sb3_mdpo'] = None; from stable_baselines3 import PPO; "
        "print(PPO.load('ppo').predict(np.load('obs.npy'), deterministic=True)[0].tolist())"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == str(expected.tolist())


def test_the_ppo_model_is_a_copy_with_the_settings_and_learns_on(model):
    before, generator = parameters(model.policy), th.random.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()
    ppo = model.to_ppo(0)
    assert th.equal(th.random.get_rng_state(), generator)
    assert (np.random.get_state()[1] == numpy_state).all()
    for name in ("gamma", "n_steps", "batch_size", "n_epochs", "ent_coef", "vf_coef", "max_grad_norm", "seed"):
        assert getattr(ppo, name) == getattr(model, name), name
    assert (ppo.clip_range(0.5), ppo.clip_range_vf(1)) == (pytest.approx(0.2), 0.3)
    assert ppo._stats_window_size == model._stats_window_size == 7
    assert ppo.num_timesteps == 64
    ppo.set_env(cartpole(2))
    ppo.learn(64, reset_num_timesteps=False)
    assert ppo.num_timesteps == 128
    th.testing.assert_close(parameters(model.policy), before, rtol=0, atol=0)


def test_images_and_gsde():
    kwargs = {"features_extractor_kwargs": {"channels": (4,)}}
    images = MDPO("ImpalaCnnPolicy", make_vec_env(BrightSideEnv, n_envs=2), policy_kwargs=kwargs, **TINY)
    env = DummyVecEnv([maker(spaces.Box(-1, 1, (3,)), spaces.Box(-2, 1, (2,)))] * 2)
    boxes = MDPO("MlpPolicy", env, use_sde=True, policy_kwargs={"squash_output": True}, **TINY)
    for model in (images, boxes):
        obs = np.stack([model.observation_space.sample() for _ in range(20)])
        np.testing.assert_array_equal(predict(model.to_ppo(1), obs), predict(model.policy.members[1], obs))


@pytest.mark.parametrize("kind", ["model", "path", "file"])
def test_a_ppo_model_becomes_a_member(kind, tmp_path):
    ppo = PPO("MlpPolicy", cartpole(2), seed=9, **TINY).learn(64)
    ppo.save(tmp_path / "ppo")
    file = io.BytesIO()
    ppo.save(file)
    mdpo = MDPO("MlpPolicy", cartpole(), seed=1, **TINY).learn(64)
    other = parameters(mdpo.policy.members[0])
    mdpo.load_ppo(1, {"model": ppo, "path": tmp_path / "ppo", "file": file}[kind])
    assert_same_parameters(mdpo.policy.members[1], ppo.policy)
    th.testing.assert_close(parameters(mdpo.policy.members[0]), other, rtol=0, atol=0)
    # Only the other member's moments are left
    optimizer = mdpo.policy.optimizer
    assert all((p in optimizer.state) == (k == 0) for k in range(2) for p in mdpo.policy.members[k].parameters())
    mdpo.learn(64)
    assert not th.equal(mdpo.policy.members[1].action_net.weight, ppo.policy.action_net.weight)


def test_back_and_forth(model):
    other = MDPO("MlpPolicy", cartpole(), policy_kwargs=[{"net_arch": [9]}, {"net_arch": [8]}], seed=0, **TINY)
    for k in range(2):
        other.load_ppo(1 - k, model.to_ppo(k))
        assert_same_parameters(other.policy.members[1 - k], model.policy.members[k])


def test_other_networks_and_spaces_are_refused(model):
    ppo = PPO("MlpPolicy", cartpole(1), **TINY)
    before = parameters(model.policy)
    message = r"not that of member 0: mlp_extractor.policy_net.0.weight has shape \(64, 4\) there and \(8, 4\) here"
    with pytest.raises(ValueError, match=message):
        model.load_ppo(0, ppo)
    th.testing.assert_close(parameters(model.policy), before, rtol=0, atol=0)
    with pytest.raises(ValueError, match="The PPO model has the observation_space Box"):
        model.load_ppo(0, PPO("MlpPolicy", "Pendulum-v1"))


def test_files_of_the_wrong_algorithm_are_refused(model, tmp_path):
    model.save(tmp_path / "mdpo.zip")
    with pytest.raises(ValueError, match=r"is an MDPO model: pass MDPO.load\('.*mdpo.zip'\).to_ppo\(k\)"):
        model.load_ppo(0, tmp_path / "mdpo.zip")
    model.to_ppo(0).save(tmp_path / "ppo.zip")
    message = r"ppo.zip was not saved by MDPO. .* members: MDPO\(...\).load_ppo\(0, 'ppo.zip'\)"
    with pytest.raises(ValueError, match=message):
        MDPO.load(tmp_path / "ppo.zip")


def test_what_cannot_be_converted_is_refused(model):
    for k in (2, -1):
        for function in (model.to_ppo, lambda k: model.load_ppo(k, model.to_ppo(0))):
            with pytest.raises(ValueError, match=f"There is no member {k}: use 0 to 1"):
                function(k)
    env = DummyVecEnv([maker(spaces.Box(-1, 1, (3,)), spaces.Discrete(3, start=1))] * 2)
    with pytest.raises(ValueError, match="SB3's PPO counts actions from 0"):
        MDPO("MlpPolicy", env, **TINY).to_ppo(0)
