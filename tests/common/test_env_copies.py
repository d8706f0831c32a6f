"""One environment per policy, from an id, a class, a function or a single environment."""

import gymnasium as gym
import pytest
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.wrappers import RecordVideo, TimeLimit
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor

from sb3_mdpo import MDPO
from tests.support.training import small


def changed() -> gym.Env:
    env = gym.make("CartPole-v1")
    env.unwrapped.force_mag = 99.0
    return env


@pytest.mark.parametrize("env", [CartPoleEnv, lambda: TimeLimit(CartPoleEnv(), 20)], ids=["class", "function"])
def test_classes_and_functions_make_an_environment_per_policy(env, recwarn):
    model = small(env=env, n_policies=3).learn(96)
    assert len({id(one.unwrapped) for one in model.get_env().envs}) == 3
    assert not [one for one in recwarn if "Each of the" in str(one.message)]


def test_copies_of_a_single_environment_are_announced_at_any_verbosity():
    with pytest.warns(UserWarning, match="Each of the 2 policies needs an environment of its own: 1 more made from"):
        model = small(env=gym.make("CartPole-v1"), verbose=0)
    assert model.n_envs == 2


def test_load_and_set_env_copy_like_the_constructor(tmp_path):
    small().save(tmp_path / "model.zip")
    model = MDPO.load(tmp_path / "model.zip", env=CartPoleEnv)
    with pytest.warns(UserWarning, match="Each of the 2 policies"):
        model.set_env(gym.make("CartPole-v1"))
    assert model.learn(32, reset_num_timesteps=False).n_envs == 2


def test_loading_to_predict_needs_no_multiple_of_the_policies(tmp_path):
    small().save(tmp_path / "model.zip")
    model = MDPO.load(tmp_path / "model.zip", env=make_vec_env("CartPole-v1", n_envs=1))
    assert model.predict(model.get_env().reset())[0].shape == (1,)
    with pytest.raises(ValueError, match="cannot be shared out equally"):
        model.learn(32)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda folder: Monitor(gym.make("CartPole-v1"), str(folder / "m")),
            "Monitor writes the episodes .* monitor_dir",
        ),
        (
            lambda folder: RecordVideo(gym.make("CartPole-v1", render_mode="rgb_array"), str(folder)),
            "RecordVideo would",
        ),
        (lambda _: changed(), r"changed after it was made \(force_mag=99.0, in the copy 10.0\). Pass a function"),
        (
            lambda _: CartPoleEnv(),
            r"not made by gym.make\(\): pass the class, MDPO\(policy, CartPoleEnv\), or make_vec_env",
        ),
        (
            lambda _: make_vec_env(CartPoleEnv, 3),
            r"3 environment.*shared out equally .*make_vec_env\(MyEnv, n_envs=2\)",
        ),
    ],
)
def test_environments_that_cannot_be_copied_are_refused_by_the_constructor(tmp_path, make, message):
    with pytest.raises(ValueError, match=message):
        small(env=make(tmp_path))


@pytest.mark.parametrize("name", ["get_distribution", "evaluate_actions", "mlp_extractor"])
def test_what_only_members_have_is_named(name):
    policy = small().policy
    with pytest.raises(AttributeError, match=rf"use policy.members\[k\].{name}"):
        getattr(policy, name)
    assert not hasattr(policy, "another_name")
