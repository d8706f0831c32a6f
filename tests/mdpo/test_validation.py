"""Bad input: each ends in an error that names the value and the way out."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.dqn import MlpPolicy as QPolicy

from sb3_mdpo import MDPO
from tests.support.envs import maker
from tests.support.training import cartpole, small


def make(**kwargs) -> MDPO:
    return small(env=cartpole(2), **{"n_steps": 32} | kwargs)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"distill_coef": -0.5}, "distill_coef=-0.5 must be a number, finite and not negative, or a function"),
        ({"distill_coef": "lin_1.0"}, "distill_coef='lin_1.0' must be a number"),
        ({"batch_size": 0, "normalize_advantage": False}, "batch_size=0 must be at least 1"),
        ({"distill_coef": float("nan")}, "distill_coef=nan must be a number, finite"),
        ({"distill_coef": 10**400}, "distill_coef=1000.* must be a number, finite"),
        ({"distill_coef": float("inf")}, "distill_coef=inf must be a number, finite"),
        ({"precision": "fp16"}, "precision='fp16' is unknown: use one of 'fp32', 'bf16', 'auto'"),
        ({"chunk_size": 0}, "chunk_size=0 must be an integer of at least 1, or None"),
        ({"chunk_size": 2.5}, "chunk_size=2.5 must be an integer"),
        ({"predict_with": 2}, "predict_with=2 is unknown: use a member's index, 0 to 1, or 'ensemble'"),
        ({"predict_with": "mean"}, "predict_with='mean' is unknown"),
        ({"batch_size": 33}, r"batch_size=33 is larger than a policy's rollout of 32 samples \(n_steps=32 x 1 env"),
        ({"batch_size": 1}, "batch_size=1 must be at least 2, or pass normalize_advantage=False"),
        ({"n_steps": 1, "batch_size": 2}, "n_steps=1 gives each policy one sample"),
        ({"clip_range_vf": 0.0}, "clip_range_vf=0.0 must be positive: pass None"),
        ({"policy": "CnnPolicy"}, r"needs images, but the observation space is Box.* Use MlpPolicy"),
        ({"policy": "ImpalaCnnPolicy"}, r"needs images, but the observation space is Box.* Use MlpPolicy"),
    ],
)
def test_wrong_values_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make(**kwargs)


@pytest.mark.parametrize("n_policies", [0, -1, 1.5, "2"])
@pytest.mark.parametrize("env", ["CartPole-v1", None], ids=["id", "vectorised"])
def test_wrong_numbers_of_policies_are_refused(env, n_policies):
    with pytest.raises(ValueError, match=f"n_policies={n_policies!r} must be an integer of at least 1"):
        small(env=env, n_policies=n_policies)


def test_numpy_integers_are_integers():
    assert MDPO("MlpPolicy", "CartPole-v1", n_policies=np.int64(3)).n_envs == 3


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (
            {"policy": RecurrentActorCriticPolicy},
            "must be a subclass of ActorCriticPolicy, or RecurrentMDPO for these members",
        ),
        ({"policy": QPolicy}, "must be a subclass of ActorCriticPolicy"),
        (
            {"policy": MaskableActorCriticPolicy},
            "must be a subclass of ActorCriticPolicy, or MaskableMDPO for these members",
        ),
        ({"rollout_buffer_class": RolloutBuffer}, "must be a subclass of MutualRolloutBuffer"),
    ],
)
def test_wrong_classes_are_refused(kwargs, message):
    with pytest.raises(TypeError, match=message):
        make(**kwargs)


def test_names_of_recurrent_policies_are_refused_with_what_to_use():
    with pytest.raises(ValueError, match="'MlpLstmPolicy' is recurrent: use RecurrentMDPO"):
        make(policy="MlpLstmPolicy")


def test_image_policies_take_floats_when_told_so():
    env = DummyVecEnv([maker(spaces.Box(0, 1, (3, 36, 36), np.float32), spaces.Discrete(2))] * 2)
    with pytest.raises(ValueError, match="normalize_images=False"):
        MDPO("ImpalaCnnPolicy", env)
    assert MDPO("ImpalaCnnPolicy", env, policy_kwargs={"normalize_images": False}).n_envs == 2


def test_values_given_to_load_are_checked(tmp_path):
    make().save(tmp_path / "model")
    model = MDPO.load(tmp_path / "model", env=cartpole(2), n_steps=8)
    with pytest.raises(ValueError, match="batch_size=16 is larger than a policy's rollout of 8"):
        model.learn(10)
    with pytest.raises(ValueError, match="distill_coef=-1"):
        MDPO.load(tmp_path / "model", distill_coef=-1)


def test_minibatches_that_do_not_divide_the_rollout_are_pointed_out():
    with pytest.warns(UserWarning, match="batch_size=24 does not divide a policy's rollout of 32 samples"):
        make(batch_size=24)


def test_an_environment_that_cannot_be_copied_says_so():
    class Unrecorded(gym.Wrapper):
        """A wrapper whose arguments Gymnasium does not know, so that it is missing from the spec."""

    with pytest.raises(
        ValueError, match=r"cannot be copied from its spec .*Pass a function that makes the environment"
    ):
        MDPO("MlpPolicy", Unrecorded(gym.make("CartPole-v1")))
