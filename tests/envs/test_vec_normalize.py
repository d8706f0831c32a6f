"""Rewards normalized per policy: against SB3's ``VecNormalize`` of each policy's environments alone."""

import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_mdpo import MDPO
from sb3_mdpo.distributed.reductions import share_statistics
from sb3_mdpo.envs import MutualVecNormalize
from tests.support.commands import run
from tests.support.helpers import TINY


class ScaledRewards(gym.Env):
    """Random rewards times a scale, in episodes of seven steps."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, scale: float) -> None:
        self.scale = scale
        self.rewards = np.random.default_rng(int(scale))

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.zeros(2, np.float32), self.scale * self.rewards.random(), self.steps == 7, False, {}


def scaled(scales: list[float]) -> DummyVecEnv:
    return DummyVecEnv([lambda scale=scale: ScaledRewards(scale) for scale in scales])


def rewards_of(env: VecNormalize, n_steps: int = 30) -> np.ndarray:
    env.reset()
    return np.stack([env.step(np.zeros(env.num_envs, dtype=int))[1] for _ in range(n_steps)])


def test_each_policys_rewards_are_those_of_a_vec_normalize_of_its_own():
    scales = [1.0, 2.0, 50.0, 100.0]
    together = rewards_of(MutualVecNormalize(scaled(scales), n_policies=2, norm_obs=False, gamma=0.9))
    for k in range(2):
        own = slice(2 * k, 2 * k + 2)
        alone = rewards_of(VecNormalize(scaled(scales[own]), norm_obs=False, gamma=0.9))
        np.testing.assert_allclose(together[:, own], alone, rtol=1e-6)


def test_one_policy_has_sb3s_statistics():
    ours, theirs = (
        rewards_of(one) for one in (MutualVecNormalize(scaled([1.0, 2.0]), 1), VecNormalize(scaled([1.0, 2.0])))
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_rewards_can_be_unnormalized():
    env = MutualVecNormalize(scaled([1.0, 100.0]), norm_obs=False, clip_reward=np.inf)
    normalized = rewards_of(env)[-1]
    np.testing.assert_allclose(env.unnormalize_reward(normalized), env.get_original_reward(), rtol=1e-5)


def test_it_trains_saves_loads_and_evaluates(tmp_path):
    env = MutualVecNormalize(make_vec_env("CartPole-v1", n_envs=4), n_policies=2)
    model = MDPO("MlpPolicy", env, **TINY).learn(128)
    assert env.ret_rms.mean.shape == (2,)
    env.save(tmp_path / "statistics.pkl")
    loaded = VecNormalize.load(tmp_path / "statistics.pkl", make_vec_env("CartPole-v1", n_envs=1))
    assert isinstance(loaded, MutualVecNormalize)
    np.testing.assert_array_equal(loaded.ret_rms.var, env.ret_rms.var)
    loaded.training = loaded.norm_reward = False
    assert evaluate_policy(model, loaded, n_eval_episodes=1)[0] > 0
    loaded.norm_reward = True
    with pytest.raises(ValueError, match="cannot be normalized by the statistics of 2 policies"):
        evaluate_policy(model, loaded, n_eval_episodes=1)


def test_another_number_of_policies_is_refused():
    env = MutualVecNormalize(make_vec_env("CartPole-v1", n_envs=6), n_policies=3)
    with pytest.raises(
        ValueError, match=r"statistics of 3 policies, but n_policies=2: pass MutualVecNormalize\(env, n_p"
    ):
        MDPO("MlpPolicy", env, **TINY)


def test_statistics_of_several_processes_keep_one_entry_per_policy():
    env, alone = (MutualVecNormalize(scaled([1.0, 2.0, 50.0, 100.0])) for _ in range(2))
    share_statistics(env, lambda mean: mean, size=1)
    np.testing.assert_allclose(rewards_of(env), rewards_of(alone), rtol=1e-4)
    assert env.ret_rms.mean.shape == (2,)


def test_shared_statistics_become_those_of_each_policy():
    shared = VecNormalize(scaled([1.0, 100.0]), gamma=0.9)
    rewards_of(shared)
    each = MutualVecNormalize.from_shared(shared, n_policies=2)
    assert (each.gamma, each.obs_rms) == (0.9, shared.obs_rms)
    np.testing.assert_array_equal(each.ret_rms.var, [shared.ret_rms.var] * 2)


@pytest.mark.parametrize(
    ("normalize", "kind"),
    [("dict(norm_obs=True,per_policy=True)", MutualVecNormalize), ("dict(norm_obs=True)", VecNormalize)],
)
def test_zoo_normalizes_per_policy(tmp_path, normalize, kind):
    settings = f"n_envs:8 n_policies:4 n_steps:16 batch_size:16 normalize:{normalize!r}"
    result = run(f"rl_zoo3 train --algo mdpo --env CartPole-v1 -n 256 --eval-freq 128 -params {settings}", tmp_path)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "logs" / "mdpo" / "CartPole-v1_1" / "CartPole-v1"
    statistics = pickle.loads((folder / "vecnormalize.pkl").read_bytes())
    assert type(statistics) is kind
    assert np.size(statistics.ret_rms.var) == (4 if kind is MutualVecNormalize else 1)
    result = run("rl_zoo3 enjoy --algo mdpo --env CartPole-v1 -f logs --no-render -n 20", tmp_path)
    assert result.returncode == 0, result.stderr


def test_zoo_refuses_another_value_of_per_policy(tmp_path):
    settings = "n_envs:8 normalize:\"dict(per_policy='yes')\""
    result = run(f"rl_zoo3 train --algo mdpo --env CartPole-v1 -n 256 -params {settings}", tmp_path)
    assert result.returncode != 0
    assert "per_policy must be True or False, not 'yes'" in result.stderr
