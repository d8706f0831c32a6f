"""Every observation and action space that SB3's PPO takes, and discrete actions that do not start at 0."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_mdpo import MDPO
from tests.support.envs import maker
from tests.support.helpers import both, collect
from tests.support.training import ScriptedEnv, remember_steps

TINY = {"n_steps": 16, "batch_size": 16, "n_epochs": 2, "seed": 0}
FLOATS = spaces.Box(0, 1, (3, 36, 36), np.float32)
VECTOR = spaces.Box(-1, 1, (3,), np.float32)
BUTTONS = spaces.Discrete(3)
CHANNELS_LAST = spaces.Box(0, 255, (36, 36, 3), np.uint8)
CHANNELS_FIRST = spaces.Box(0, 255, (3, 36, 36), np.uint8)
MIXED = {
    "image": CHANNELS_LAST,
    "vector": spaces.Box(-1, 1, (2,)),
    "discrete": spaces.Discrete(4),
    "multi_discrete": spaces.MultiDiscrete([3, 2]),
    "multi_binary": spaces.MultiBinary(3),
}


def learned(policy: str, observation_space: spaces.Space, action_space: spaces.Space, **kwargs) -> MDPO:
    """A model after three updates; the environment rejects actions outside the space."""
    n_envs = 2 * kwargs.get("n_policies", 2)
    env = DummyVecEnv([maker(observation_space, action_space)] * n_envs)
    model = MDPO(policy, env, **TINY, **kwargs)
    before = [p.clone() for p in model.policy.parameters()]
    model.learn(3 * TINY["n_steps"] * n_envs)
    assert any(not th.equal(old, new) for old, new in zip(before, model.policy.parameters(), strict=True))
    assert all(th.isfinite(p).all() for p in model.policy.parameters())
    for who in (*range(model.n_policies), "ensemble"):
        model.predict_with = who
        for deterministic in (True, False):
            actions, _ = model.predict(env.reset(), deterministic=deterministic)
            assert all(action_space.contains(action) for action in actions)
    return model


ACTIONS = {
    "box": spaces.Box(-2, 1, (2,)),
    "box_of_two_dimensions": spaces.Box(-2, 1, (2, 2)),
    "discrete": BUTTONS,
    "discrete_start": spaces.Discrete(3, start=5),
    "discrete_negative_start": spaces.Discrete(3, start=-1),
    "multi_discrete": spaces.MultiDiscrete([2, 3]),
    "multi_discrete_start": spaces.MultiDiscrete([2, 3], start=[4, -1]),
    "multi_binary": spaces.MultiBinary(3),
}


@pytest.mark.parametrize("name", ACTIONS)
def test_action_spaces(name):
    learned("MlpPolicy", VECTOR, ACTIONS[name])


@pytest.mark.parametrize("sde_sample_freq", [-1, 4])
@pytest.mark.parametrize("squash_output", [False, True])
def test_gsde(sde_sample_freq, squash_output):
    kwargs = {"sde_sample_freq": sde_sample_freq, "policy_kwargs": {"squash_output": squash_output, "net_arch": [8]}}
    model = learned("MlpPolicy", VECTOR, ACTIONS["box"], use_sde=True, **kwargs)
    assert model.policy.squash_output == squash_output


def test_gsde_draws_new_noise_as_often_as_it_is_told():
    def draws(algorithm, sde_sample_freq) -> list[int]:
        env = DummyVecEnv([maker(VECTOR, ACTIONS["box"])] * 2)
        model = algorithm("MlpPolicy", env, **TINY, use_sde=True, sde_sample_freq=sde_sample_freq)
        sizes: list[int] = []
        reset_noise = model.policy.reset_noise

        model.policy.reset_noise = lambda n_envs=1: sizes.append(n_envs) or reset_noise(n_envs)
        model.learn(32)
        return sizes

    for sde_sample_freq in (-1, 4):
        assert draws(MDPO, sde_sample_freq) == draws(PPO, sde_sample_freq) == [2] * (1 if sde_sample_freq < 0 else 5)


@pytest.mark.parametrize("n_policies", [2, 3])
def test_gsde_explores_differently_in_every_environment(n_policies):
    env = DummyVecEnv([maker(VECTOR, ACTIONS["box"])] * (2 * n_policies))
    model = MDPO("MlpPolicy", env, n_policies=n_policies, use_sde=True, **TINY)
    model.policy.reset_noise(env.num_envs)
    matrices = th.cat([member.action_dist.exploration_matrices for member in model.policy.members])
    assert len(matrices) == 2 * n_policies
    assert len({tuple(matrix.flatten().tolist()) for matrix in matrices}) == 2 * n_policies


OBSERVATIONS = {
    "box": ("MlpPolicy", VECTOR),
    "box_float64": ("MlpPolicy", spaces.Box(-1, 1, (3,), np.float64)),
    "box_of_two_dimensions": ("MlpPolicy", spaces.Box(-1, 1, (3, 2))),
    "discrete": ("MlpPolicy", spaces.Discrete(5)),
    "multi_discrete": ("MlpPolicy", spaces.MultiDiscrete([3, 4])),
    "multi_binary": ("MlpPolicy", spaces.MultiBinary(4)),
    "multi_binary_of_two_dimensions": ("MlpPolicy", spaces.MultiBinary((2, 3))),
    "channels_last": ("CnnPolicy", CHANNELS_LAST),
    "channels_first": ("CnnPolicy", CHANNELS_FIRST),
    "impala": ("ImpalaCnnPolicy", CHANNELS_LAST),
    "floats": ("CnnPolicy", FLOATS, {"policy_kwargs": {"normalize_images": False}}),
    "impala_floats": ("ImpalaCnnPolicy", FLOATS, {"policy_kwargs": {"normalize_images": False}}),
    "dict": ("MultiInputPolicy", spaces.Dict(MIXED)),
}


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_observation_spaces(name):
    policy, space, *kwargs = OBSERVATIONS[name]
    learned(policy, space, BUTTONS, **dict(*kwargs))


@pytest.mark.parametrize("share_features_extractor", [True, False])
def test_dict_observations_with_three_policies(share_features_extractor):
    kwargs = {"share_features_extractor": share_features_extractor}
    learned("MultiInputPolicy", spaces.Dict(MIXED), ACTIONS["box"], n_policies=3, policy_kwargs=kwargs)


@pytest.mark.parametrize("space", [CHANNELS_LAST, CHANNELS_FIRST, spaces.Dict(MIXED), spaces.Discrete(5)])
def test_rollouts_hold_the_observations_that_the_environments_gave(space):
    policy = "MultiInputPolicy" if isinstance(space, spaces.Dict) else "MlpPolicy"
    model = MDPO(policy, DummyVecEnv([maker(space, BUTTONS)] * 2), **TINY)
    given = remember_steps(model.env)
    observations = collect(model).observations
    for step in (1, 7, 15):
        shown, stored = given[step - 1][0], observations
        if not isinstance(shown, dict):
            shown, stored = {"": shown}, {"": stored}
        for key, array in shown.items():
            np.testing.assert_array_equal(stored[key][step].numpy().reshape(array.shape), array)


@pytest.mark.parametrize(
    ("action_space", "best"),
    [(spaces.Discrete(3, start=5), 7), (spaces.MultiDiscrete([2, 3], start=[4, -1]), [5, 1])],
)
def test_actions_with_a_start_are_learned(action_space, best):
    """Chance gets 8/3 or 8/6; after 60 updates of a bandit with 3 or 6 arms both members know the best one."""
    kwargs = {"reward": lambda _env, action: float(np.all(action == best)), "length": lambda _env: 8, "truncates": True}
    env = make_vec_env(ScriptedEnv, n_envs=4, seed=0, env_kwargs=kwargs | {"action_space": action_space})
    model = MDPO("MlpPolicy", env, learning_rate=1e-2, n_steps=16, batch_size=32, n_epochs=4, seed=0).learn(60 * 64)
    for policy in (model, *model.policy.members):
        mean, _ = evaluate_policy(policy, env, n_eval_episodes=4)
        assert mean == 8


@pytest.mark.parametrize(
    ("space", "last", "dtype"),
    [
        (spaces.Discrete(3, start=2**63 - 2), 2**63, "int64"),
        (spaces.Discrete(3, start=126, dtype=np.int8), 128, "int8"),
        (spaces.MultiDiscrete([2, 3], start=[254, 254], dtype=np.uint8), 256, "uint8"),
    ],
)
def test_actions_beyond_their_data_type_are_refused(space, last, dtype):
    with pytest.raises(ValueError, match=rf"go up to {last}, but its data type {dtype} only to {last - 1}"):
        MDPO("MlpPolicy", DummyVecEnv([maker(VECTOR, space)] * 2), n_steps=8, batch_size=8)


@pytest.mark.parametrize(
    "space", [spaces.Discrete(3, start=1), spaces.Dict({"a": VECTOR, "b": spaces.MultiDiscrete([2, 2], start=[0, 1])})]
)
def test_observations_with_a_start_are_refused(space):
    """SB3's one-hot encoding would fail in the middle of the network."""
    policy = "MultiInputPolicy" if isinstance(space, spaces.Dict) else "MlpPolicy"
    with pytest.raises(ValueError, match=r"do not start at 0, .* subtract the start in a gymnasium.ObservationWrapper"):
        MDPO(policy, DummyVecEnv([maker(space, BUTTONS)] * 2), **TINY)


@both
def test_what_ppo_refuses_is_refused(algorithm):
    with pytest.raises(ValueError, match="You must use `MultiInputPolicy`"):
        algorithm("MlpPolicy", DummyVecEnv([maker(spaces.Dict(MIXED), BUTTONS)] * 2))
    with pytest.raises(ValueError, match="can only be used with continuous actions"):
        algorithm("MlpPolicy", make_vec_env("CartPole-v1", n_envs=2), use_sde=True)
    for space in (spaces.Box(-np.inf, np.inf, (2,)), spaces.Tuple([BUTTONS])):
        with pytest.raises(AssertionError):
            algorithm("MlpPolicy", DummyVecEnv([maker(VECTOR, space)] * 2))


def test_dict_observations_need_the_multi_input_policy_in_every_member():
    with pytest.raises(ValueError, match=r"MlpPolicy needs vectors, .* use MultiInputPolicy"):
        MDPO(["MultiInputPolicy", "MlpPolicy"], DummyVecEnv([maker(spaces.Dict(MIXED), BUTTONS)] * 2))
