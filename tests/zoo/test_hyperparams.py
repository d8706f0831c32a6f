"""The hyperparameter files: the paper's settings, and what the zoo makes of them."""

import argparse
from pathlib import Path

import pytest
import yaml
from rl_zoo3.exp_manager import ExperimentManager
from rl_zoo3.utils import create_test_env, get_saved_hyperparams
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


def experiment(tmp_path: Path, name: str, env_id: str, **kwargs) -> ExperimentManager:
    """The zoo's own preparation of a run, up to the model and its environments."""
    algo = "mdpo" if name == "mdpo" else "ppo"
    kwargs.setdefault("config", None if name == "mdpo" else str(hyperparams_folder() / f"{name}.yml"))
    return ExperimentManager(argparse.Namespace(), algo, env_id, str(tmp_path), device="cpu", verbose=0, **kwargs)


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


@pytest.mark.parametrize("name", FILES)
def test_textured_grid_has_the_same_settings_everywhere(name):
    entry, mdpo = load(name)["TexturedGrid-v0"], load("mdpo")["TexturedGrid-v0"]
    entry.pop("policy_kwargs", None)
    assert entry.pop("policy").split(".")[-1] == mdpo.pop("policy") == "StridedCnnPolicy"
    # 32 environments and 204,800 steps per policy; minibatches are counted per policy
    n_policies = 2 if name == "mdpo" else 1
    assert entry.pop("n_envs") == 32 * n_policies
    assert entry.pop("n_timesteps") == 204_800 * n_policies
    own = {"n_envs", "n_timesteps", "n_policies", "distill_coef"}
    assert {key: value for key, value in mdpo.items() if key not in own} == {
        key: value for key, value in entry.items() if key not in own
    }


@pytest.mark.parametrize("env_id", ["procgen-maze-hard-v0", "TexturedGrid-v0"])
def test_baselines_differ_in_their_regularisation_only(env_id):
    plain, l2, dropout = (load(name)[env_id] for name in FILES[1:])
    assert l2.pop("policy_kwargs") == "dict(optimizer_kwargs=dict(eps=1e-5, weight_decay=1e-4))"
    assert dropout.pop("policy_kwargs") == "dict(features_extractor_kwargs=dict(dropout=0.1))"
    assert plain == l2 == dropout


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(("mode", "num_levels"), [("hard", 500), ("easy", 200)])
def test_zoo_trains_on_the_training_levels_and_evaluates_on_unseen_ones(tmp_path, name, mode, num_levels):
    manager = experiment(tmp_path, name, f"procgen-coinrun-{mode}-v0", n_eval_envs=3)
    model, _ = manager.setup_experiment()
    assert isinstance(model, MDPO if name == "mdpo" else PPO)
    member = model.policy.members[0] if name == "mdpo" else model.policy
    assert isinstance(member, ImpalaCnnPolicy)

    train, evaluation = model.get_env().unwrapped, manager.callbacks[-1].eval_env.unwrapped
    assert isinstance(train, ProcgenVecEnv)
    assert isinstance(evaluation, ProcgenVecEnv)
    assert train.options == ProcgenOptions("coinrun", num_levels=num_levels, distribution_mode=mode)
    assert evaluation.options == ProcgenOptions("coinrun", num_levels=0, distribution_mode=mode)
    assert train.num_envs == (128 if name == "mdpo" else 64)
    assert evaluation.num_envs == 3
    # Sampled actions as in the paper, rewards normalised in training alone, observations nowhere
    assert manager.deterministic_eval is False
    normalize = model.get_vec_normalize_env()
    assert not normalize.norm_obs
    assert (normalize.norm_reward, normalize.clip_reward, normalize.gamma) == (True, 10, 0.999)
    assert not unwrap_vec_normalize(manager.callbacks[-1].eval_env).norm_reward


@pytest.mark.parametrize("eval_env_kwargs", [None, {"num_levels": 5}])
def test_evaluation_is_on_unseen_levels_or_those_that_are_given(tmp_path, eval_env_kwargs):
    env_kwargs = {"num_levels": 9, "start_level": 4}
    manager = experiment(
        tmp_path, "mdpo", "procgen-coinrun-easy-v0", env_kwargs=env_kwargs, eval_env_kwargs=eval_env_kwargs
    )
    model, _ = manager.setup_experiment()
    assert model.get_env().unwrapped.options == ProcgenOptions("coinrun", 9, 4, "easy")
    num_levels = 5 if eval_env_kwargs else 0
    assert manager.callbacks[-1].eval_env.unwrapped.options == ProcgenOptions("coinrun", num_levels, 0, "easy")


def test_env_kwargs_without_levels_are_pointed_out(tmp_path, capsys):
    experiment(tmp_path, "mdpo", "procgen-coinrun-easy-v0", env_kwargs={"use_backgrounds": False})
    assert "without num_levels, training is on all levels" in capsys.readouterr().out


def test_enjoy_and_video_run_on_the_native_environment(tmp_path):
    manager = experiment(tmp_path, "mdpo", "procgen-bigfish-hard-v0", eval_freq=-1)
    model, _ = manager.setup_experiment()
    model.get_vec_normalize_env().save(str(Path(manager.params_path) / "vecnormalize.pkl"))
    for kwargs in ({}, {"render_mode": "rgb_array"}):
        hyperparams, stats_path = get_saved_hyperparams(manager.params_path, test_mode=True)
        hyperparams.pop("env_kwargs")
        env = create_test_env(
            "procgen-bigfish-hard-v0", 1, stats_path, hyperparams=hyperparams, env_kwargs=kwargs, should_render=False
        )
        assert isinstance(env.unwrapped, ProcgenVecEnv)
        assert env.render_mode == kwargs.get("render_mode")


EXAMPLE = {"default": "CliffWalking-v1", "atari": "ALE/Pong-v5"}


@pytest.mark.parametrize("key", [key for key in load("mdpo") if not key.startswith("procgen-")])
def test_other_entries_make_models_that_learn(tmp_path, key):
    env_id = EXAMPLE.get(key, key)
    # One epoch of the shortest rollout that the entry's minibatches fit into
    entry = load("mdpo")[key]
    batch_size = entry.get("batch_size", 64)
    n_steps = max(batch_size * 2 // entry["n_envs"], 2)
    manager = experiment(
        tmp_path,
        "mdpo",
        env_id,
        eval_freq=-1,
        hyperparams={"n_steps": n_steps, "n_epochs": 1, "batch_size": min(batch_size, n_steps * entry["n_envs"] // 2)},
    )
    model, _ = manager.setup_experiment()
    assert isinstance(model, MDPO)
    model.learn(1)
    assert model.num_timesteps == n_steps * entry["n_envs"]
    model.get_env().close()


def test_other_entries_fit_their_rollouts():
    entries = load("mdpo")
    for env_id, entry in entries.items():
        per_policy = entry.get("n_steps", 2048) * entry["n_envs"] // 2
        assert entry["n_envs"] % 2 == 0, env_id
        assert entry.get("batch_size", 64) <= per_policy, env_id
        assert per_policy % entry.get("batch_size", 64) == 0, env_id
    assert len([env_id for env_id in entries if not env_id.startswith(("procgen-", "atari", "default"))]) == 13
