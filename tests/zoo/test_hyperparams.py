"""The hyperparameter files: the paper's settings, and what the zoo makes of them."""

import argparse
from pathlib import Path

import pytest
import yaml
from rl_zoo3.exp_manager import ExperimentManager
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import unwrap_vec_normalize

from sb3_mdpo import MDPO, ImpalaCnnPolicy
from sb3_mdpo.envs import ProcgenVecEnv
from sb3_mdpo.envs.procgen_options import GAMES, GAMES_OF_MODE, ProcgenOptions
from sb3_mdpo.zoo.register import hyperparams_folder

FILES = ("mdpo", "ppo", "ppo_l2", "ppo_dropout")
# Table of the paper's hyperparameters (arXiv 2501.02481), shared by MDPO and its baselines
PAPER = {
    "n_steps": 256,
    "batch_size": 2048,
    "n_epochs": 3,
    "learning_rate": 5e-4,
    "gamma": 0.999,
    "gae_lambda": 0.95,
    "clip_range": 0.2,
    "clip_range_vf": 0.2,
    "ent_coef": 0.01,
    "vf_coef": 0.5 * 0.5,
    "max_grad_norm": 0.5,
}


def load(name: str) -> dict:
    return yaml.safe_load((hyperparams_folder() / f"{name}.yml").read_text())


def experiment(tmp_path: Path, env_id: str, name: str = "mdpo", algo: str = "mdpo", **kwargs) -> ExperimentManager:
    """The zoo's own preparation of a run, up to the model and its environments."""
    config = None if name == "mdpo" else str(hyperparams_folder() / f"{name}.yml")
    arguments = {"device": "cpu", "verbose": 0, "config": config} | kwargs
    return ExperimentManager(argparse.Namespace(), algo, env_id, str(tmp_path), **arguments)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("game", GAMES)
def test_all_games_have_the_papers_settings(name, game):
    entries = load(name)
    hard, easy = entries[f"procgen-{game}-hard-v0"], entries[f"procgen-{game}-easy-v0"]
    assert entries[f"procgen-{game}-v0"] == hard
    assert PAPER.items() <= hard.items()
    assert hard["env_kwargs"] == {"num_levels": 500, "start_level": 0}
    assert easy["env_kwargs"] == {"num_levels": 200, "start_level": 0}
    # 64 environments and 5e7 steps per policy; minibatches are counted per policy
    n_policies = 2 if name == "mdpo" else 1
    assert (hard["n_envs"], hard["n_timesteps"]) == (64 * n_policies, 5e7 * n_policies)
    assert (easy["n_envs"], easy["n_timesteps"]) == (64 * n_policies, 2.5e7 * n_policies)
    if name == "mdpo":
        assert (hard["n_policies"], hard["distill_coef"], hard["precision"]) == (2, 1.0, "auto")


def test_mdpo_has_an_entry_for_every_procgen_id():
    entries = load("mdpo")
    for mode, games in GAMES_OF_MODE.items():
        for game in games:
            entry = entries[f"procgen-{game}-{mode}-v0"]
            assert entry["policy"] == "ImpalaCnnPolicy"
            assert bool(entry["env_kwargs"]) == (mode != "exploration")


def test_textured_grid_has_32_environments_and_204800_steps_per_policy():
    entry = load("mdpo")["TexturedGrid-v0"]
    assert (entry["policy"], entry["n_envs"], entry["n_timesteps"]) == ("StridedCnnPolicy", 64, 409_600)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(("mode", "num_levels"), [("hard", 500), ("easy", 200)])
def test_zoo_trains_on_the_training_levels_and_evaluates_on_unseen_ones(tmp_path, name, mode, num_levels):
    algo = "mdpo" if name == "mdpo" else "ppo"
    manager = experiment(tmp_path, f"procgen-coinrun-{mode}-v0", name, algo, n_eval_envs=3)
    model, _ = manager.setup_experiment()
    assert isinstance(model, MDPO if name == "mdpo" else PPO)
    member = model.policy.members[0] if name == "mdpo" else model.policy
    assert isinstance(member, ImpalaCnnPolicy)
    assert member.features_extractor.linear[-1].p == (0.1 if name == "ppo_dropout" else 0)
    assert model.policy.optimizer.defaults["weight_decay"] == (1e-4 if name == "ppo_l2" else 0)

    train, evaluation = model.get_env().unwrapped, manager.callbacks[-1].eval_env.unwrapped
    assert {type(train), type(evaluation)} == {ProcgenVecEnv}
    assert train.options == ProcgenOptions("coinrun", num_levels=num_levels, distribution_mode=mode)
    assert evaluation.options == ProcgenOptions("coinrun", num_levels=0, distribution_mode=mode)
    assert (train.num_envs, evaluation.num_envs) == (128 if name == "mdpo" else 64, 3)
    # Sampled actions as in the paper, rewards normalised in training alone, observations nowhere
    assert manager.deterministic_eval is False
    normalize = model.get_vec_normalize_env()
    assert not normalize.norm_obs
    assert (normalize.norm_reward, normalize.clip_reward, normalize.gamma) == (True, 10, 0.999)
    assert not unwrap_vec_normalize(manager.callbacks[-1].eval_env).norm_reward


def test_files_of_baselines_are_for_mdpo_as_well(tmp_path):
    manager = experiment(tmp_path, "procgen-coinrun-v0", "ppo_l2", hyperparams={"n_policies": 1})
    model, _ = manager.setup_experiment()
    assert isinstance(model, MDPO)
    assert model.policy.optimizer.defaults["weight_decay"] == 1e-4


def test_installed_files_are_found_by_name_unless_there_is_one_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert experiment(tmp_path, "procgen-coinrun-v0", config="ppo_l2.yml").config == str(
        hyperparams_folder() / "ppo_l2.yml"
    )
    (tmp_path / "ppo_l2.yml").write_text("CartPole-v1: {}")
    assert experiment(tmp_path, "CartPole-v1", config="ppo_l2.yml").config == "ppo_l2.yml"
    assert experiment(tmp_path, "CartPole-v1", config="other.yml").config == "other.yml"


@pytest.mark.parametrize("eval_env_kwargs", [None, {"num_levels": 5}])
def test_evaluation_is_on_unseen_levels_or_those_that_are_given(tmp_path, eval_env_kwargs):
    kwargs = {"env_kwargs": {"num_levels": 9, "start_level": 4}, "eval_env_kwargs": eval_env_kwargs}
    manager = experiment(tmp_path, "procgen-coinrun-easy-v0", **kwargs)
    model, _ = manager.setup_experiment()
    assert model.get_env().unwrapped.options == ProcgenOptions("coinrun", 9, 4, "easy")
    num_levels = 5 if eval_env_kwargs else 0
    assert manager.callbacks[-1].eval_env.unwrapped.options == ProcgenOptions("coinrun", num_levels, 0, "easy")


def test_env_kwargs_without_levels_are_pointed_out(tmp_path, capsys):
    experiment(tmp_path, "procgen-coinrun-easy-v0", env_kwargs={"use_backgrounds": False})
    assert "without num_levels, training is on all levels" in capsys.readouterr().out


EXAMPLE = {"default": "CliffWalking-v1", "atari": "ALE/Pong-v5"}


@pytest.mark.parametrize("key", [key for key in load("mdpo") if not key.startswith("procgen-")])
def test_other_entries_make_models_that_learn(tmp_path, key):
    n_envs = load("mdpo")[key]["n_envs"]
    short = {"n_steps": 2, "n_epochs": 1, "batch_size": n_envs}
    manager = experiment(tmp_path, EXAMPLE.get(key, key), eval_freq=-1, hyperparams=short)
    model, _ = manager.setup_experiment()
    assert isinstance(model, MDPO)
    model.learn(1)
    assert model.num_timesteps == 2 * n_envs
    model.get_env().close()


def test_other_entries_fit_their_rollouts():
    entries = load("mdpo")
    for env_id, entry in entries.items():
        per_policy = entry.get("n_steps", 2048) * entry["n_envs"] // 2
        assert entry["n_envs"] % 2 == 0, env_id
        assert entry.get("batch_size", 64) <= per_policy, env_id
        assert per_policy % entry.get("batch_size", 64) == 0, env_id
    assert len([env_id for env_id in entries if not env_id.startswith(("procgen-", "atari", "default"))]) == 13
