"""Saving, loading, continuing."""

import io
import json
import zipfile

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.utils import LinearSchedule

from sb3_mdpo import MDPO
from tests.helpers import assert_same_parameters, seeded

TINY = {"n_steps": 16, "batch_size": 16, "n_epochs": 2}


def make_env(n_envs: int = 4):
    return make_vec_env("CartPole-v1", n_envs=n_envs, seed=0)


@pytest.fixture
def model() -> MDPO:
    return MDPO("MlpPolicy", make_env(), seed=0, n_policies=2, distill_coef=LinearSchedule(1, 0, 1), **TINY).learn(128)


@pytest.mark.parametrize("target", ["path", "file"])
def test_loaded_models_act_the_same(model, tmp_path, target):
    file = tmp_path / "model.zip" if target == "path" else io.BytesIO()
    model.save(file)
    if target == "file":
        file.seek(0)
    loaded = MDPO.load(file)
    obs = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    for who in (0, 1, "ensemble"):
        model.predict_with = loaded.predict_with = who
        np.testing.assert_array_equal(
            model.predict(obs, deterministic=True)[0], loaded.predict(obs, deterministic=True)[0]
        )


def test_the_way_to_predict_is_saved_and_can_be_changed_on_loading(model, tmp_path):
    model.predict_with = "ensemble"
    model.save(tmp_path / "model")
    assert MDPO.load(tmp_path / "model").predict_with == "ensemble"
    assert MDPO.load(tmp_path / "model", predict_with=1).predict_with == 1


def test_settings_and_schedules_are_saved_as_they_were_given(model, tmp_path):
    model.save(tmp_path / "model")
    loaded = MDPO.load(tmp_path / "model")
    assert (loaded.n_policies, loaded.detach_peers, loaded.precision, loaded.clip_range) == (2, False, "fp32", 0.2)
    assert isinstance(loaded.distill_coef, LinearSchedule)
    assert loaded.distill_coef_schedule(0.5) == 0.5


def test_continuing_after_loading_is_continuing(model, tmp_path):
    """Weights, Adam's moments and counters: both take the same further steps."""
    model.save(tmp_path / "model")
    loaded = MDPO.load(tmp_path / "model", env=make_env())
    assert (
        loaded.policy.optimizer.state_dict()["state"][0]["step"]
        == model.policy.optimizer.state_dict()["state"][0]["step"]
    )
    for continued in (model, loaded):
        continued.set_env(make_env())
        seeded(1)
        continued.learn(128, reset_num_timesteps=False)
    assert loaded.num_timesteps == model.num_timesteps == 256
    assert loaded._n_updates == model._n_updates
    assert_same_parameters(loaded.policy, model.policy)


def test_a_model_loads_with_another_number_of_environments(model, tmp_path):
    model.save(tmp_path / "model")
    loaded = MDPO.load(tmp_path / "model", env=make_env(6)).learn(96)
    assert loaded.n_envs == 6
    # as the zoo's video script does; it can predict but not learn
    single = MDPO.load(tmp_path / "model", env=make_env(1))
    single.predict(single.get_env().reset())


def test_rollouts_are_not_saved(model, tmp_path):
    model.save(tmp_path / "model")
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        assert "rollout_buffer" not in json.loads(archive.read("data"))


def test_parameters_can_be_exchanged(model):
    other = MDPO("MlpPolicy", make_env(), seed=1, **TINY)
    other.set_parameters(model.get_parameters())
    assert_same_parameters(other.policy, model.policy)
    steps = [state["step"] for state in other.policy.optimizer.state_dict()["state"].values()]
    assert steps
    assert all(th.equal(step, steps[0]) for step in steps)
