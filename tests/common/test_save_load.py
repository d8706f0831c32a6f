"""Saving, loading, continuing."""

import base64
import io
import json
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.utils import LinearSchedule

import sb3_mdpo
from sb3_mdpo import MDPO
from sb3_mdpo.common.save_util import FORMAT_VERSION
from tests.support.helpers import assert_same_parameters, both, parameters, seeded
from tests.support.training import cartpole, small

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture
def model() -> MDPO:
    return small(MDPO, n_epochs=2, distill_coef=LinearSchedule(1, 0, 1)).learn(128)


@pytest.fixture
def saved(model, tmp_path) -> Path:
    """The file of the model."""
    model.save(tmp_path / "model")
    return tmp_path / "model.zip"


def settings_of(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("data"))


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


def test_settings_and_schedules_are_saved_as_they_were_given_and_can_be_changed_on_loading(model, tmp_path):
    model.predict_with = "ensemble"
    model.save(tmp_path / "model")
    loaded = MDPO.load(tmp_path / "model")
    assert (loaded.n_policies, loaded.detach_peers, loaded.precision, loaded.clip_range) == (2, False, "fp32", 0.2)
    assert isinstance(loaded.distill_coef, LinearSchedule)
    assert (loaded.distill_coef_schedule(0.5), loaded.predict_with) == (0.5, "ensemble")
    assert MDPO.load(tmp_path / "model", predict_with=1).predict_with == 1


def test_continuing_after_loading_is_continuing(model, saved):
    """Weights, Adam's moments and counters: both take the same further steps."""
    loaded = MDPO.load(saved, env=cartpole(seed=0))
    steps = [one.policy.optimizer.state_dict()["state"][0]["step"] for one in (model, loaded)]
    assert steps[0] == steps[1]
    for continued in (model, loaded):
        continued.set_env(cartpole(seed=0))
        seeded(1)
        continued.learn(128, reset_num_timesteps=False)
    assert loaded.num_timesteps == model.num_timesteps == 256
    assert loaded._n_updates == model._n_updates
    assert_same_parameters(loaded.policy, model.policy)


@pytest.mark.parametrize("source", ["model", "file"])
def test_parameters_are_set_in_place(source, model, saved):
    other = small(MDPO, seed=1)
    policy = other.policy
    other.set_parameters(saved if source == "file" else model.get_parameters())
    assert other.policy is policy
    assert_same_parameters(policy, model.policy)
    steps = [state["step"] for state in policy.optimizer.state_dict()["state"].values()]
    assert steps
    assert all(th.equal(step, steps[0]) for step in steps)


def test_parameters_must_match_unless_told_otherwise(model):
    weights = model.get_parameters()
    partial = {"policy": {name: p for name, p in weights["policy"].items() if name.startswith("members.0")}}
    other = small(MDPO, seed=1)
    before = parameters(other.policy)
    with pytest.raises(RuntimeError, match=r"Missing key\(s\) in state_dict"):
        other.set_parameters(partial | {"policy.optimizer": weights["policy.optimizer"]})
    with pytest.raises(ValueError, match="Names of parameters do not match"):
        other.set_parameters({"policy": weights["policy"]})
    with pytest.raises(ValueError, match="invalid object name"):
        other.set_parameters({"polixy": weights["policy"]}, exact_match=False)
    other = small(MDPO, seed=1)
    other.set_parameters(partial, exact_match=False)
    assert_same_parameters(other.policy.members[0], model.policy.members[0])
    for name, p in other.policy.members[1].state_dict().items():
        assert th.equal(p, before[f"members.1.{name}"])


@both
def test_objects_can_be_replaced_on_loading(algorithm, tmp_path):
    small(algorithm, learning_rate=1e-3).save(tmp_path / "model")
    loaded = algorithm.load(tmp_path / "model", custom_objects={"learning_rate": 0.5, "clip_range": 0.1})
    assert loaded.lr_schedule(1) == 0.5
    assert loaded.clip_range(1) == 0.1 if algorithm is PPO else loaded.clip_range_schedule(1) == 0.1


@pytest.mark.parametrize("device", ["cpu", "auto", th.device("cpu")])
def test_the_device_is_chosen_on_loading(device, saved):
    loaded = MDPO.load(saved, device=device)
    expected = th.device("cuda" if device == "auto" and th.cuda.is_available() else "cpu")
    assert loaded.device == loaded.policy.device == expected


def test_one_environment_or_none_is_enough_to_predict(saved):
    loaded = MDPO.load(saved)
    assert loaded.get_env() is None
    loaded.predict(np.zeros((3, 4), dtype=np.float32))
    loaded.set_env(cartpole())
    loaded.learn(64)
    single = MDPO.load(saved, env=cartpole(1))  # as the zoo's video script does
    single.predict(single.get_env().reset())


@both
def test_attributes_can_be_left_out_or_taken_in(algorithm, tmp_path):
    model = small(algorithm)
    model.note = "mine"

    def names(**kwargs) -> set[str]:
        model.save(tmp_path / "model", **kwargs)
        return set(settings_of(tmp_path / "model.zip"))

    usual = names()
    assert "note" in usual
    assert {"policy", "env", "rollout_buffer", "_logger"}.isdisjoint(usual)
    assert names(exclude=["note"]) == usual - {"note"}
    assert names(include=["device"]) == usual | {"device"}
    algorithm.load(tmp_path / "model")


def test_the_file_ends_in_zip_and_folders_are_made(model, tmp_path):
    model.save(str(tmp_path / "new" / "folder" / "model"))
    model.save(tmp_path / "new" / "model.bin")
    assert sorted(path.name for path in (tmp_path / "new").rglob("*.*")) == ["model.bin", "model.zip"]
    MDPO.load(tmp_path / "new" / "model.bin")
    MDPO.load(str(tmp_path / "new" / "folder" / "model"))


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_file_is_replaced_only_once_the_new_one_is_complete(error, model, saved):
    before = saved.read_bytes()

    class Unpicklable:
        def __reduce__(self):
            raise error("disk full")

    model.note = Unpicklable()
    with pytest.raises(error, match="disk full"):
        model.save(saved)
    assert list(saved.parent.iterdir()) == [saved]
    assert saved.read_bytes() == before


def test_another_number_of_policies_does_not_fit_the_weights(saved):
    with pytest.raises(ValueError, match="holds 2 policies and cannot be loaded with n_policies=3"):
        MDPO.load(saved, n_policies=3)


def test_damaged_and_missing_files_say_so(saved, tmp_path):
    content = saved.read_bytes()
    (tmp_path / "cut.zip").write_bytes(content[: len(content) // 2])
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme", "hello")
    for name in ("cut.zip", "other.zip"):
        with pytest.raises(ValueError, match=f"{name} is no saved model, or a damaged one"):
            MDPO.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        MDPO.load(tmp_path / "nothing")


def with_settings(source: Path, name: str, **changed) -> Path:
    """A copy of a saved model with other plain settings inside."""
    target = source.with_name(name)
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for part in old.namelist():
            new.writestr(part, json.dumps(settings_of(source) | changed) if part == "data" else old.read(part))
    return target


def test_classes_that_are_not_installed_are_named(saved):
    space = settings_of(saved)["observation_space"]
    pickled = base64.b64decode(space[":serialized:"]).replace(b"gymnasium.spaces", b"gymnasium.spades")
    space[":serialized:"] = base64.b64encode(pickled).decode()
    path = with_settings(saved, "other.zip", observation_space=space)
    with pytest.raises(ValueError, match=r"other.zip cannot be loaded: No module named 'gymnasium.spades'. Install"):
        MDPO.load(path)


def test_files_know_their_format(saved):
    # Nothing of a newer file is unpickled
    hostile = {":type:": "x", ":serialized:": "not even a pickle"}
    newer = with_settings(saved, "newer.zip", format_version=FORMAT_VERSION + 1, action_space=hostile)
    message = (
        f"newer.zip has format version {FORMAT_VERSION + 1}, but sb3-mdpo {sb3_mdpo.__version__} reads versions up to "
        f"{FORMAT_VERSION}: install a newer sb3-mdpo"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        MDPO.load(newer)
    # An older file that is saved again is one of this version
    again = saved.with_name("again.zip")
    MDPO.load(with_settings(saved, "older.zip", format_version=0)).save(again)
    assert settings_of(again)["format_version"] == FORMAT_VERSION


def test_models_of_format_1_stay_loadable(tmp_path):
    """
    ``mdpo_format_1.zip`` was saved by release 0.1.0, with SB3 2.9.2 and Python 3.11:
    ``MDPO("MlpPolicy", make_vec_env("CartPole-v1", n_envs=4, seed=0), n_steps=16, batch_size=16, n_epochs=2, seed=0,
    distill_coef=LinearSchedule(0, 1, 0.5), predict_with="ensemble", policy_kwargs={"net_arch": [4]}).learn(128)``;
    the JSON file has what its members answered then.
    """
    shutil.copy(DATA / "mdpo_format_1.zip", tmp_path)
    loaded = MDPO.load(tmp_path / "mdpo_format_1.zip", env=cartpole(), device="cpu")
    expected = json.loads((DATA / "mdpo_format_1.json").read_text())
    obs = th.tensor(expected["observations"])
    for member, answers in zip(loaded.policy.members, expected["members"], strict=True):
        th.testing.assert_close(member.get_distribution(obs).distribution.probs, th.tensor(answers["probabilities"]))
        th.testing.assert_close(member.predict_values(obs).flatten(), th.tensor(answers["values"]))
    assert (loaded.predict_with, loaded.num_timesteps, loaded.distill_coef_schedule(0.75)) == ("ensemble", 128, 0.5)
    loaded.learn(64, reset_num_timesteps=False)
    assert loaded.num_timesteps == 192
