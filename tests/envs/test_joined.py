"""Vectorised environments joined, and levels divided among policies."""

from pathlib import Path

import numpy as np
import pytest
from stable_baselines3.common.env_util import make_vec_env

from sb3_mdpo import MDPO
from sb3_mdpo.callbacks import GeneralizationEvalCallback, ResumableCheckpointCallback
from sb3_mdpo.envs import TexturedGridVecEnv, native_vec_env
from sb3_mdpo.envs.joined import JoinedVecEnv, divided_levels
from sb3_mdpo.lab import open_trained
from sb3_mdpo.lab.generalization.results import read_table
from tests.support.commands import run as run_command
from tests.support.helpers import assert_same_parameters

GRID, STARPILOT = "TexturedGrid-v0", "procgen-starpilot-easy-v0"
LEVELS = {"num_levels": 7, "start_level": 5}
SMALL = {"n_steps": 16, "batch_size": 16, "n_epochs": 1, "device": "cpu"}


def joined(env_id: str, n_envs: int = 4, shares: int = 2, seed: int = 3, **levels: int):
    return native_vec_env(make_vec_env(env_id, n_envs, seed, env_kwargs=levels or LEVELS), level_shares=shares)


def test_shares_are_consecutive_and_differ_by_one_level():
    assert divided_levels(7, 5, 3) == [
        {"num_levels": 3, "start_level": 5},
        {"num_levels": 2, "start_level": 8},
        {"num_levels": 2, "start_level": 10},
    ]
    with pytest.raises(ValueError, match="num_levels=2 cannot be divided into 3 shares: use at least as many levels"):
        divided_levels(2, 0, 3)


@pytest.mark.parametrize("env_id", [GRID, STARPILOT])
def test_each_policy_plays_its_own_levels(env_id):
    env = joined(env_id)
    env.reset()
    levels = [set() for _ in range(4)]
    rng = np.random.default_rng(0)
    for _ in range(400):
        _, _, _, infos = env.step(rng.integers(0, 4, 4))
        for found, info in zip(levels, infos, strict=True):
            found.add(info["level_seed"])
    assert levels[0] | levels[1] <= {5, 6, 7, 8}
    assert levels[2] | levels[3] <= {9, 10, 11}
    assert all(len(levels[k] | levels[k + 1]) > 1 for k in (0, 2))
    assert env.get_attr("env_id") == [env_id] * 4
    kwargs = env.get_attr("env_kwargs")[3]
    assert (kwargs["num_levels"], kwargs["start_level"]) == (7, 5)
    env.close()


def test_joined_environments_are_their_parts():
    def parts():
        return [TexturedGridVecEnv(n, num_levels=2, seed=seed, render_mode="rgb_array") for n, seed in ((2, 7), (1, 9))]

    one, (first, second) = JoinedVecEnv(parts(), {}), parts()
    assert one.seed(7) == [7, 8, 9]
    observations = one.reset()
    assert np.array_equal(observations, np.concatenate([first.reset(), second.reset()]))
    assert one.reset_infos == first.reset_infos + second.reset_infos
    rng = np.random.default_rng(0)
    for _ in range(60):
        actions = rng.integers(0, 4, 3)
        observations, rewards, dones, infos = one.step(actions)
        theirs = (first.step(actions[:2]), second.step(actions[2:]))
        for ours, k in ((observations, 0), (rewards, 1), (dones, 2)):
            assert np.array_equal(ours, np.concatenate([their[k] for their in theirs]))
        assert [info["level_seed"] for info in infos] == [info["level_seed"] for their in theirs for info in their[3]]
    assert np.array_equal(one.get_images()[2], second.get_images()[0])
    assert one.get_attr("num_envs") == [2, 2, 1]
    assert one.get_attr("num_envs", [2]) == [1]


def test_all_levels_are_not_divided_and_environments_must_divide():
    assert isinstance(joined(GRID, n_envs=3, num_levels=0).unwrapped, TexturedGridVecEnv)
    with pytest.raises(ValueError, match=r"3 environment.s. cannot be divided among level_shares=2"):
        joined(GRID, n_envs=3)


@pytest.mark.parametrize("env_id", [GRID, STARPILOT])
def test_training_on_divided_levels_resumes_identically(env_id, tmp_path):
    def train(folder: str, steps: int, resume: bool = False) -> MDPO:
        kwargs = {"features_extractor_kwargs": {"channels": (2,), "features_dim": 4}}
        model = MDPO("StridedCnnPolicy", joined(env_id), seed=0, policy_kwargs=kwargs, distill_mode="max", **SMALL)
        checkpoints = ResumableCheckpointCallback(tmp_path / folder, save_freq=1, resume=resume, verbose=0)
        model.learn(steps, checkpoints)
        model.env.close()
        return model

    whole = train("whole", 256)
    train("parts", 128)
    assert_same_parameters(train("parts", 256, resume=True).policy, whole.policy)


def test_the_callback_evaluates_on_the_levels_of_all_policies(tmp_path):
    callback = GeneralizationEvalCallback(64, episodes=2, n_envs=2, log_path=tmp_path, verbose=0)
    MDPO("StridedCnnPolicy", joined(GRID), **SMALL).learn(64, callback)
    assert callback.last_result is not None
    assert (callback.last_result.train_levels, callback.last_result.start_level) == (7, 5)
    assert len(read_table(tmp_path / "generalization.csv")) == 6


def test_the_zoo_divides_levels_for_training_alone(tmp_path: Path):
    """Not in evaluations, whose environments belong to no policy."""
    (tmp_path / "leep.yml").write_text(
        """
TexturedGrid-v0:
  {policy: StridedCnnPolicy, n_policies: 3, distill_mode: max, n_envs: 6, n_steps: 16, batch_size: 16, n_epochs: 1,
   n_timesteps: 96, env_kwargs: {num_levels: 7, start_level: 5},
   vec_env_wrapper: [{sb3_mdpo.envs.native_vec_env: {level_shares: per_policy}}],
   callback: [{sb3_mdpo.callbacks.GeneralizationEvalCallback: {
     eval_freq: 96, episodes: 2, n_envs: 2, best_model_save_path: best}}]}
"""
    )
    command = ["python", "-m", "sb3_mdpo.zoo", "train", "--algo", "mdpo", "--env", GRID, "-conf", "leep.yml", "-f", "."]
    run_command([*command, "--eval-freq", "48", "--eval-episodes", "1"], cwd=tmp_path, check=True)
    trained = open_trained(tmp_path / "mdpo" / f"{GRID}_1", device="cpu")
    assert trained.model.distill_mode == "max"
    for levels in (7, 0):
        env = trained.make_env(2, 0, num_levels=levels)
        assert not isinstance(env.unwrapped, JoinedVecEnv)
        env.close()
