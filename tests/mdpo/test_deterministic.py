"""One seed gives one run: weights, actions, logs; another seed, another one."""

from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_mdpo import MDPO
from tests.support.envs import maker
from tests.support.helpers import assert_same_parameters, both
from tests.support.training import N_ENVS, ROLLOUT, EachStep, cartpole, small, small_silent

DICT = spaces.Dict({"image": spaces.Box(0, 255, (36, 36, 1), np.uint8), "vector": spaces.Box(-1, 1, (2,))})


def run(algorithm, policy: str, env: str, seed: int | None, **kwargs: Any) -> tuple[PPO | MDPO, EachStep]:
    if env == "dict":
        vec_env = DummyVecEnv([maker(DICT, spaces.Discrete(2))] * N_ENVS)
        kwargs["policy_kwargs"] = {"features_extractor_kwargs": {"cnn_output_dim": 8}}
    else:
        vec_env = make_vec_env(env, n_envs=N_ENVS)
    model, callback = small_silent(algorithm, vec_env, policy, n_epochs=2, seed=seed, **kwargs), EachStep()
    model.learn(3 * ROLLOUT, callback=callback, log_interval=1000)
    return model, callback


def column(callback: EachStep, name: str) -> np.ndarray:
    return np.stack([step[name] for step in callback.steps])


def predictions(model: PPO | MDPO) -> list[np.ndarray]:
    """Sampled actions, on the model's own environments."""
    env = model.get_env()
    obs = env.reset()
    actions = []
    for _ in range(20):
        action, _ = model.predict(obs)
        obs, *_ = env.step(action)
        actions.append(action)
    return actions


KINDS = pytest.mark.parametrize(
    ("policy", "env", "kwargs"),
    [
        ("MlpPolicy", "CartPole-v1", {}),
        ("MlpPolicy", "Pendulum-v1", {}),
        ("MlpPolicy", "Pendulum-v1", {"use_sde": True, "sde_sample_freq": 4}),
        ("MultiInputPolicy", "dict", {}),
    ],
    ids=["discrete", "box", "gSDE", "dict"],
)


@both
@KINDS
def test_one_seed_gives_one_run_and_another_seed_another(algorithm, policy, env, kwargs):
    runs, samples = [], []
    for _ in range(2):
        model, callback = run(algorithm, policy, env, 3, **kwargs)
        runs.append((model, callback))
        samples.append(predictions(model))
        if algorithm is MDPO:
            model.predict_with = "ensemble"
            samples[-1] += predictions(model)
    (first, its), (second, others) = runs
    # They would differ if one of the runs had drawn more random numbers
    np.testing.assert_array_equal(*samples)
    for name in ("actions", "rewards"):
        np.testing.assert_array_equal(column(its, name), column(others, name))
    assert_same_parameters(second.policy, first.policy)
    logs = [
        {key: value for key, value in model.logger.name_to_value.items() if not key.startswith("time/")}
        for model in (first, second)
    ]
    assert "train/value_loss" in logs[0]
    np.testing.assert_equal(logs[1], logs[0])
    third, another = run(algorithm, policy, env, 4, **kwargs)
    assert not np.array_equal(column(its, "actions"), column(another, "actions"))
    with pytest.raises(AssertionError):
        assert_same_parameters(third.policy, first.policy)


@both
def test_without_a_seed_runs_differ(algorithm):
    (_, its), (_, others) = (run(algorithm, "MlpPolicy", "Pendulum-v1", None) for _ in range(2))
    assert not np.array_equal(column(its, "actions"), column(others, "actions"))


@pytest.mark.parametrize("who", [0, 1, "ensemble"])
@KINDS
def test_deterministic_predictions_draw_nothing(who, policy, env, kwargs):
    model, callback = run(MDPO, policy, env, 3, predict_with=who, **kwargs)
    obs = callback.steps[-1]["new_obs"]
    states = th.get_rng_state(), np.random.get_state()[1].tolist()
    first, second = (model.predict(obs, deterministic=True)[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert th.equal(th.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]


@both
def test_setting_the_seed_again_repeats_what_follows(algorithm):
    model, _ = run(algorithm, "MlpPolicy", "Pendulum-v1", 3)
    outcomes = []
    for seed in (11, 11, 12):
        model.set_random_seed(seed)
        outcomes.append((np.stack(predictions(model)), [model.action_space.sample() for _ in range(3)]))
    np.testing.assert_equal(outcomes[1], outcomes[0])
    assert not np.array_equal(outcomes[2][0], outcomes[0][0])
    assert not np.array_equal(outcomes[2][1], outcomes[0][1])


@both
def test_training_can_be_repeated_from_a_saved_model(algorithm, tmp_path):
    model, _ = run(algorithm, "MlpPolicy", "CartPole-v1", 3)
    model.save(tmp_path / "model")
    continued = []
    for _ in range(2):
        loaded = algorithm.load(tmp_path / "model", env=cartpole())
        loaded.set_random_seed(5)
        continued.append(loaded.learn(64, reset_num_timesteps=False))
    assert_same_parameters(*(one.policy for one in continued))


def first_episodes(env: VecEnv) -> list[np.ndarray]:
    """The observations of the first steps of every environment under one and the same action."""
    observations = [env.reset()]
    for _ in range(5):
        obs, *_ = env.step(np.zeros((env.num_envs, 1), dtype=np.float32))
        observations.append(obs)
    return list(np.stack(observations, axis=1))


@pytest.mark.parametrize("n_policies", [2, 3])
@pytest.mark.parametrize("given", ["id", "vectorised"])
def test_no_two_environments_see_the_same_episode(n_policies, given):
    """Neither those of different members: environment ``i`` gets the seed plus ``i``, as in PPO."""

    def build(seed: int) -> MDPO:
        env = "Pendulum-v1" if given == "id" else make_vec_env("Pendulum-v1", n_envs=2 * n_policies)
        return small(MDPO, env, n_policies=n_policies, seed=seed)

    episodes, again, other = (first_episodes(build(seed).get_env()) for seed in (7, 7, 8))
    n_envs = len(episodes)
    assert n_envs == (n_policies if given == "id" else 2 * n_policies)
    for i in range(n_envs):
        np.testing.assert_array_equal(episodes[i], again[i])
        assert not any(np.array_equal(episodes[i], episodes[j]) for j in range(i))
    ppo = small(PPO, make_vec_env("Pendulum-v1", n_envs=n_envs), seed=7)
    np.testing.assert_array_equal(episodes, first_episodes(ppo.get_env()))
    # Seeds next to each other give the same episodes, one environment further
    np.testing.assert_array_equal(other[:-1], episodes[1:])
