"""sb3-mdpo pull of what strangers share: nothing of it runs, at no time, unless they are trusted."""

import base64
import importlib
import io
import json
import os
import pickle
import re
import subprocess
import sys
import zipfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import rl_zoo3
import safetensors.torch
import yaml
from gymnasium.spaces import Box, Dict, Discrete
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_mdpo import MDPO
from sb3_mdpo.envs import MutualVecNormalize
from sb3_mdpo.hub.normalization import statistics_from_json, statistics_to_json
from sb3_mdpo.hub.pull import read_snapshot
from sb3_mdpo.hub.settings import KEYS, WRAPPERS, check_settings, read_settings
from tests.support.envs import maker
from tests.support.hub_commands import command, files_in, hub_environment, refused

CARTPOLE = "CartPole-v1"
ARGS = {"algo": "mdpo", "env": CARTPOLE, "env_kwargs": {}, "gym_packages": [], "seed": 1}
ATTACK = "__import__('os').system('touch executed')"
IMAGE = Box(0, 255, (3, 8, 8), np.uint8)
VECTOR = Box(-np.inf, np.inf, (3,), np.float32)
# Loading is replaced in Python, and an audit hook sees what C code looks up for a pickle
PULL_WITHOUT_UNPICKLING = """
import pickle, sys
def stop(*_, **__): raise SystemExit('unpickled')
import cloudpickle, torch, stable_baselines3
pickle.load = pickle.loads = cloudpickle.load = cloudpickle.loads = torch.load = stop
sys.addaudithook(lambda event, _: stop() if event in ('pickle.find_class', 'os.system') else None)
from sb3_mdpo.cli.main import main
main(['pull', 'alice/sound', '-f', 'got'])
"""


class Attack:
    """An object whose unpickling makes a file."""

    def __reduce__(self):
        return os.system, ("touch executed",)


@pytest.fixture(autouse=True)
def marker(tmp_path, monkeypatch):
    """Where an attack that works leaves a file: only this test's own folder may have it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "executed"


def zipped(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, b"hidden")
    return buffer.getvalue()


def plain(**content: object) -> bytes:
    return yaml.safe_dump(content).encode()


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> dict[str, bytes]:
    """A repository that is as it should be."""
    folder = tmp_path_factory.mktemp("sound") / "export"
    kwargs = {"n_steps": 8, "batch_size": 8, "seed": 0, "device": "cpu", "policy_kwargs": {"net_arch": [4]}}
    model = MDPO("MlpPolicy", statistics_of(Box(-np.inf, np.inf, (8,), np.float32)), n_policies=2, **kwargs)
    model.export(folder)
    statistics = statistics_of(Box(-np.inf, np.inf, (4,), np.float32))
    return {
        **{path.name: path.read_bytes() for path in folder.iterdir()},
        "args.yml": plain(**ARGS),
        "config.yml": plain(normalize=True, frame_stack=2),
        "vec_normalize.json": statistics_to_json(statistics).encode(),
    }


@pytest.fixture
def snapshot(sound, tmp_path):
    """Lay out a downloaded repository whose files were changed after it was pushed."""

    def make(changes: dict[str, bytes | None] | None = None, **settings: dict[str, object]) -> Path:
        folder = tmp_path / "snapshot"
        folder.mkdir(exist_ok=True)
        documents = {f"{name}.yml": plain(**content) for name, content in settings.items()}
        for name, data in (sound | documents | (changes or {})).items():
            (folder / name).unlink(missing_ok=True)
            if data is not None:
                (folder / name).write_bytes(data)
        return folder

    return make


def publish(hub, repo_id: str, files: dict[str, bytes]) -> None:
    hub.repositories.pop(repo_id, None)
    hub.add(repo_id, files)


def test_sound_repository_is_pulled_without_unpickling_and_enjoyed(hub, sound, tmp_path):
    publish(hub, "alice/sound", {**sound, "mdpo-CartPole-v1.zip": b"no zip", "vec_normalize.pkl": b"no pickle"})
    environ = os.environ | hub_environment(hub, tmp_path)
    result = subprocess.run(
        [sys.executable, "-c", PULL_WITHOUT_UNPICKLING], env=environ, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    (run,) = (tmp_path / "got" / "mdpo").iterdir()
    names = {f"{CARTPOLE}/{name}" for name in ("args.yml", "config.yml", "command.txt", "vecnormalize.pkl")}
    assert files_in(run) == names | {"CartPole-v1.zip"}
    shown = command(hub, tmp_path, *result.stdout.splitlines()[-1].split(), "--no-render", "-n", "60", "--n-envs", "2")
    assert "Loading running average" in shown.stdout
    assert "Stacking 2 frames" in shown.stdout


def hostile_zip() -> bytes:
    """A model of SB3 with an attribute that is an attack."""
    buffer = io.BytesIO()
    MDPO("MlpPolicy", CARTPOLE, n_steps=8, batch_size=8, device="cpu").save(buffer)
    attack = {":type:": "x", ":serialized:": base64.b64encode(pickle.dumps(Attack())).decode()}
    result = io.BytesIO()
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(result, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, json.dumps({**json.loads(data), "clip_range": attack}) if name == "data" else data)
    return result.getvalue()


def test_model_that_is_a_pickle_alone_needs_trust(hub, tmp_path, marker):
    hostile = hostile_zip()
    files = {"mdpo-CartPole-v1.zip": hostile, "args.yml": plain(**ARGS), "config.yml": plain(policy="MlpPolicy")}
    publish(hub, "mallory/run", files)
    hub.requests.clear()
    line = refused(command(hub, tmp_path, "sb3-mdpo", "pull", "mallory/run", check=False), "pull")
    assert "a pickle" in line
    assert "--trust" in line
    assert hub.requests == ["GET /api/models/mallory/run"]  # not even downloaded
    assert list(tmp_path.iterdir()) == []

    result = command(hub, tmp_path, "sb3-mdpo", "pull", "mallory/run", "--trust")
    assert "loading them runs any code that they contain" in result.stdout
    pulled = tmp_path / "logs" / "mdpo" / f"{CARTPOLE}_1" / f"{CARTPOLE}.zip"
    assert pulled.read_bytes() == hostile
    assert not marker.exists()
    MDPO.load(pulled, device="cpu")
    assert marker.exists()  # it would have been one


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config.yml": plain(env_wrapper="os.system")}, "config.yml: env_wrapper: 'os.system' could run code"),
        ({"args.yml": b"!!python/object/apply:os.system ['touch executed']"}, "args.yml is not plain YAML"),
        ({"args.yml": plain(**ARGS | {"env": "../../../escaped"})}, "not the id of an environment"),
    ],
    ids=["wrapper", "tag", "path"],
)
def test_hostile_repository_leaves_nothing(hub, sound, tmp_path, marker, changes, message):
    publish(hub, "mallory/run", sound | changes)
    result = command(hub, tmp_path, "sb3-mdpo", "pull", "mallory/run", "-f", "deep/down/logs", check=False)
    assert message in refused(result, "pull")
    assert list(tmp_path.iterdir()) == []
    assert not list(tmp_path.parent.rglob("escaped*"))


def test_model_named_to_escape_is_not_a_model(hub, tmp_path):
    publish(hub, "mallory/run", {"mdpo-../../evil.zip": b"PK"})
    hub.requests.clear()
    result = command(hub, tmp_path, "sb3-mdpo", "pull", "mallory/run", "--trust", check=False)
    assert "nor one model" in refused(result, "pull")
    assert hub.requests == ["GET /api/models/mallory/run"]


@pytest.mark.parametrize(
    ("changes", "value"),
    [
        ({"env_wrapper": "os.system"}, "os.system"),
        ({"env_wrapper": [{"rl_zoo3.wrappers.FrameSkip": {"skip": 2}}, "antigravity.x"]}, "antigravity.x"),
        ({"env_wrapper": {"gymnasium.wrappers.RecordVideo": {"video_folder": "x"}}}, "RecordVideo"),
        ({"env_wrapper": {"rl_zoo3.wrappers.FrameSkip": {"x": ["os:system"]}}}, "os:system"),
        ({"env_wrapper": {"rl_zoo3.wrappers.FrameSkip": {"x": {"os:system": 1}}}}, "os:system"),
        ({"vec_env_wrapper": "stable_baselines3.common.vec_env.VecMonitor"}, "VecMonitor"),
        ({"policy_kwargs": ATTACK}, "policy_kwargs"),
        ({"callback": "subprocess.Popen"}, "callback"),
        ({"policy": "os.system"}, "policy"),
    ],
)
def test_settings_that_could_run_code(snapshot, marker, changes, value):
    folder = snapshot(config=changes)
    with pytest.raises(ValueError, match=r"^config\.yml: .* could run code .* --trust") as error:
        read_snapshot(folder)
    assert value in str(error.value)
    assert "\n" not in str(error.value)
    # Those who trust the author get them as they are
    _, files = read_snapshot(folder, trust=True)
    assert yaml.safe_load(files[f"{CARTPOLE}/config.yml"]) == changes
    assert not marker.exists()


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("args", {"gym_packages": ["antigravity"]}, r"gym_packages: \['antigravity'\] could run code"),
        ("args", {"env": "antigravity:CartPole-v1"}, "Gymnasium would import antigravity"),
        ("args", {"env_kwargs": {"env_id": "os:x"}}, "env_kwargs: 'os:x' could run code"),
        ("args", {"eval_env_kwargs": {"env_id": "os:x"}}, "args.yml: 'eval_env_kwargs' could run code"),
        ("args", {"hyperparams": {"policy_kwargs": ATTACK}}, "args.yml: 'hyperparams' could run code"),
        ("args", {"env_kwargs": [1]}, "env_kwargs must not be"),
        ("args", {"env_kwargs": {1: 2}}, "env_kwargs must be a mapping from names"),
        ("args", {"seed": "1"}, "seed must not be '1'"),
        ("args", {"env": [CARTPOLE]}, "not the id of an environment"),
        ("args", {"env": "x;y:CartPole-v1"}, "not the id of an environment"),
        ("args", {"env": "../../CartPole-v1"}, "not the id of an environment"),
        ("args", {"algo": "ppo"}, "not of mdpo"),
        ("config", {"normalize": 1}, "normalize must not be 1"),
        ("config", {"normalize": ATTACK}, "normalize must not be"),
        ("config", {"frame_stack": "2"}, "frame_stack must not be '2'"),
        *(("config", {"frame_stack": n}, f"frame_stack must be a positive integer, not {n}") for n in (0, -2, True)),
        (
            "config",
            {"frame_stack": 10**12},
            r"a stack of 10{12} observation\(s\) is not what the model acts on: 8",
        ),
        ("config", {"frame_stack": 4, "normalize": True}, r"of Box\(.*\(4,\), float32\), as in vec_normalize.json, is"),
        ("config", {"env_wrapper": [["os.system"]]}, "must be a dotted name"),
        ("config", {"env_wrapper": {"rl_zoo3.wrappers.FrameSkip": 2}}, "must be a mapping from names"),
    ],
)
def test_settings_that_are_not_those_of_a_shared_run(snapshot, name, changes, message):
    assert read_snapshot(snapshot())[0] == CARTPOLE
    with pytest.raises(ValueError, match=message):
        read_snapshot(snapshot(**{name: (ARGS if name == "args" else {}) | changes}))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.yml", b"!!python/name:os.system ''", "config.yml is not plain YAML"),
        ("config.yml", b"{a: !!python/object/apply:os.system ['touch executed']}", "config.yml is not plain YAML"),
        ("config.yml", b"{a: &x [1], b: [*x, *x]}", "config.yml is not plain YAML"),
        ("config.yml", b"{a: " + b"[" * 5000 + b"]" * 5000 + b"}", "nested more than 50 levels"),
        ("config.yml", b"a: '" + b"x" * 2**20 + b"'", "too many for settings"),
        ("config.yml", b"{a: 2020-01-01}", "only texts, numbers"),
        ("config.yml", b"- a list", "must be a mapping"),
        ("config.yml", None, "has no file config.yml"),
        ("vec_normalize.json", None, "vec_normalize.json is missing"),
        ("vec_normalize.json", b"\x80\x04.", "vec_normalize.json is not as"),
        ("model.safetensors", b"\x80\x04.", "is not a safetensors file"),
        ("model.safetensors", None, "missing"),
    ],
)
def test_snapshot_with_something_wrong(snapshot, marker, name, content, message):
    with pytest.raises(ValueError, match=message):
        read_snapshot(snapshot({name: content}))
    assert not marker.exists()


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_weights_that_are_not_finite(snapshot, sound, value):
    tensors = safetensors.torch.load(sound["model.safetensors"])
    name = "policy.members.1.action_net.bias"
    tensors[name][1] = value
    with pytest.raises(ValueError, match=r"model.safetensors: the weights members\.1\.action_net\.bias hold NaN"):
        read_snapshot(snapshot({"model.safetensors": safetensors.torch.save(tensors)}))


@pytest.mark.parametrize(
    ("space", "n_stack", "message"),
    [
        (
            Box(-np.inf, np.inf, (8,), np.float64),
            1,
            r"vec_normalize.json is of Box\(.*float64\), but the model",
        ),
        (Box(-np.inf, np.inf, (2, 4), np.float32), 1, r"vec_normalize.json is of Box\(.*\(2, 4\)"),
        (Box(-np.inf, np.inf, (), np.float32), 8, "cannot be stacked"),
        (Dict({"a": Box(0, 1, (3,)), "b": Discrete(3)}), 2, "cannot be stacked"),
    ],
)
def test_statistics_of_other_observations(snapshot, space, n_stack, message):
    keys = ["a"] if isinstance(space, Dict) else None
    statistics = statistics_to_json(statistics_of(space, norm_obs_keys=keys)).encode()
    with pytest.raises(ValueError, match=message):
        read_snapshot(snapshot({"vec_normalize.json": statistics}, config={"normalize": True, "frame_stack": n_stack}))


@pytest.mark.parametrize(("name", "content"), [("CartPole-v1", b"\x80\x04."), ("Other-v1", zipped("data"))])
def test_trusted_files_that_are_not_the_model(snapshot, name, content):
    folder = snapshot({f"mdpo-{name}.zip": content})
    assert read_snapshot(folder)[1][f"{CARTPOLE}.zip"] != content  # without trust it is not even looked at
    with pytest.raises(ValueError, match=f"mdpo-{name}.zip is not a model of CartPole-v1"):
        read_snapshot(folder, trust=True)


def test_export_that_names_a_function(snapshot, sound, marker):
    content = json.loads(sound["config.json"])
    content["settings"]["policy_class"] = {"$class": "os.system"}
    with pytest.raises(ValueError, match=r"names the class 'os\.system'"):
        read_snapshot(snapshot({"config.json": json.dumps(content).encode()}))
    assert not marker.exists()


def test_accepted_settings_are_written_as_plain_data(snapshot):
    wrappers = [{"rl_zoo3.wrappers.FrameSkip": {"skip": 2}}, "gymnasium.wrappers.FlattenObservation"]
    config = {"env_wrapper": wrappers, "vec_env_wrapper": "sb3_mdpo.envs.native_vec_env"}
    config |= {"normalize": False, "frame_stack": 4}
    args = {"algo": "mdpo", "env": "ale_py:ALE/Pong-v5", "env_kwargs": {"note": ATTACK.replace(":", "")}}
    folder = snapshot(config=config, args=args)
    env_id, files = read_snapshot(folder)
    assert env_id == "ale_py:ALE/Pong-v5"
    # The zoo's folder names, read as the zoo does
    assert set(files) == {"ALE-Pong-v5.zip", "ALE-Pong-v5/args.yml", "ALE-Pong-v5/config.yml"}
    assert yaml.unsafe_load(files["ALE-Pong-v5/config.yml"]) == config
    assert yaml.unsafe_load(files["ALE-Pong-v5/args.yml"]) == {"gym_packages": [], "seed": 0, **args}


scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.dates(), st.binary())
documents = st.recursive(
    scalars | st.just(ATTACK),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text() | st.integers(), part, max_size=3),
)
keys = st.sampled_from([key for keys in KEYS.values() for key in keys])


@settings(max_examples=100, deadline=None)
@given(content=st.dictionaries(keys | st.text(), documents, max_size=4))
def test_settings_are_plain_data_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "random.yml"
    path.write_text(yaml.safe_dump(content))
    with suppress(ValueError):  # every other error is one
        found = read_settings(path)
        assert repr(yaml.unsafe_load(yaml.safe_dump(found))) == repr(dict(sorted(found.items())))
        check_settings({"env": CARTPOLE} | found, found)


def test_names_that_are_allowed_exist():
    names = [f"{module}.{name}" for module, names in WRAPPERS.items() for name in names.split()]
    installed = [name for name in names if find_spec(name.split(".")[0])]
    assert len(installed) > 40
    for name in installed:
        module, _, attribute = name.rpartition(".")
        assert callable(getattr(importlib.import_module(module), attribute)), name


def test_the_zoo_evaluates_and_imports_nothing_that_is_not_checked():
    """If this fails, a newer zoo uses settings in a way that sb3_mdpo/hub/settings.py must know of."""
    loads = "Loader=yaml.UnsafeLoader"
    found = {}
    for name in ("enjoy", "record_video", "utils"):
        source = (Path(rl_zoo3.__file__).parent / f"{name}.py").read_text()
        found[name] = re.findall(r"(?<!\w)(?:eval|import_module)\((.*?)\)|(Loader=yaml.UnsafeLoader)", source)
    modules = ["get_module_name(wrapper_name", "get_module_name(name"]
    assert {name: ["".join(one) for one in places] for name, places in found.items()} == {
        "enjoy": ["env_module", loads],  # what the user types, args.yml
        "record_video": [loads],
        "utils": [*modules, loads, loads, 'hyperparams["normalize"]', "value"],
    }


def statistics_of(space, **arguments) -> VecNormalize:
    env = DummyVecEnv([maker(space, Discrete(2))] * 2)
    env.seed(3)
    normalize = (MutualVecNormalize if "n_policies" in arguments else VecNormalize)(env, **arguments)
    normalize.reset()
    for _ in range(9):
        normalize.step(np.array([0, 1]))
    return normalize


@pytest.mark.parametrize(
    ("space", "arguments"),
    [
        (VECTOR, {"clip_obs": 5, "gamma": 0.9, "epsilon": 1e-5}),
        (IMAGE, {}),
        (Discrete(3), {"norm_obs": False}),
        (VECTOR, {"n_policies": 2, "gamma": 0.9}),
        (Dict({"z": VECTOR, "image": IMAGE}), {}),
        (Dict({"z": VECTOR, "which": Discrete(3)}), {"norm_obs_keys": ["z"]}),
    ],
    ids=[
        "vector",
        "image",
        "rewards alone",
        "per policy",
        "dictionary",
        "parts of a dictionary",
    ],
)
def test_statistics_are_the_same_after_json(tmp_path, space, arguments):
    original = statistics_of(space, **arguments)
    path = tmp_path / "vec_normalize.json"
    path.write_text(statistics_to_json(pickle.loads(pickle.dumps(original))))
    # Through the zoo's file, into its environment
    (tmp_path / "vecnormalize.pkl").write_bytes(pickle.dumps(statistics_from_json(path)))
    rebuilt = VecNormalize.load(str(tmp_path / "vecnormalize.pkl"), original.venv)
    assert type(rebuilt) is type(original)
    assert rebuilt.observation_space == original.observation_space
    assert vars(rebuilt).get("n_policies") == arguments.get("n_policies")
    for name in ("mean", "var", "count"):
        np.testing.assert_array_equal(*(getattr(one.ret_rms, name) for one in (rebuilt, original)))
    observations, rewards = original.get_original_obs(), np.array([0.5, 2.0])
    expected, found = (one.normalize_obs(observations) for one in (original, rebuilt))
    for key in expected if isinstance(expected, dict) else [...]:
        np.testing.assert_array_equal(found[key], expected[key])
    np.testing.assert_array_equal(rebuilt.normalize_reward(rewards), original.normalize_reward(rewards))
    assert (rebuilt.gamma, rebuilt.training) == (original.gamma, original.training)
    # and they continue as they would have
    if hasattr(original, "obs_rms") and not isinstance(original.obs_rms, dict):
        for one in (original, rebuilt):
            one.obs_rms.update(np.ones((2, *space.shape)))
        np.testing.assert_array_equal(rebuilt.obs_rms.var, original.obs_rms.var)


def returns(**changes: float) -> dict[str, object]:
    return {"returns": {"mean": [0.0], "var": [1.0], "count": 1.0} | changes}


NOT_AS = r"vec_normalize\.json is not as"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *((text, NOT_AS) for text in ("[" * 100_000, '{"format_version": NaN}', "[]", "", "1" * 5000)),
        ({"format_version": 2}, "format_version: Input should be 1"),
        ({"mine": 1}, "mine: Extra inputs are not permitted"),
        ({"clip_obs": "5"}, "clip_obs: Input should be a valid number"),
        ({"gamma": float("nan")}, "gamma: Input should be a finite number"),
        ({"norm_obs": 1}, "norm_obs: Input should be a valid boolean"),
        ({"norm_obs_keys": ["z"]}, "only with `gym.spaces.Dict`"),
        ({"observations": {}}, "not those that are normalized"),
        (returns(var=[-1.0]), r"returns.var.0: Input should be greater"),
        ({"epsilon": -1e-8}, "epsilon: Input should be greater than or equal to 0"),
        ({"epsilon": 0.0} | returns(var=[0.0]), "a variance and epsilon are 0"),
        (returns(mean=[], var=[]), "returns.mean: List should have at least 1 item"),
        (returns(count=0.0), "returns.count: Input should be greater"),
        (returns(mean=[0.0, 0.0]), "cannot reshape"),
        ({"action_space": {"type": "Text"}}, NOT_AS),
    ],
)
def test_statistics_that_were_changed(tmp_path, changes, message):
    path, sound = tmp_path / "vec_normalize.json", json.loads(statistics_to_json(statistics_of(VECTOR)))
    path.write_text(changes if isinstance(changes, str) else json.dumps(sound | changes))
    with pytest.raises(ValueError, match=message):
        statistics_from_json(path)


def test_statistics_that_cannot_be_shared():
    statistics = statistics_of(VECTOR)
    statistics.clip_obs = np.inf
    with pytest.raises(ValueError, match="clip_obs: Input should be a finite number"):
        statistics_to_json(statistics)
    statistics.__class__ = type("Mine", (VecNormalize,), {})
    with pytest.raises(ValueError, match="of Mine"):
        statistics_to_json(statistics)
