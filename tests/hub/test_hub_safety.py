"""sb3-mdpo pull of what strangers share: nothing of it runs, at no time, unless they are trusted."""

import base64
import importlib
import io
import json
import os
import pickle
import re
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import rl_zoo3
import torch as th
import yaml
from gymnasium import Env
from gymnasium.spaces import Box, Dict, Discrete
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_mdpo import MDPO
from sb3_mdpo.hub.allowed import IMPORTED, NAMES
from sb3_mdpo.hub.bundle import why_refused
from sb3_mdpo.hub.expressions import checked_expression
from sb3_mdpo.hub.normalization import statistics_from_json, statistics_to_json
from sb3_mdpo.hub.plain_yaml import read_mapping
from sb3_mdpo.hub.settings import check_args, check_hyperparams
from sb3_mdpo.hub.snapshot import read_snapshot
from tests.support.hub_commands import command, files_in, refused
from tests.support.hub_server import HubServer

CARTPOLE = "CartPole-v1"
ARGS = {"algo": "mdpo", "env": CARTPOLE, "env_kwargs": None, "gym_packages": [], "hyperparams": {"n_envs": 2}}
ATTACK = "__import__('os').system('touch executed')"


class Attack:
    """An object whose unpickling makes a file."""

    def __reduce__(self):
        return os.system, ("touch executed",)


@pytest.fixture(scope="module")
def hub():
    with HubServer() as server:
        yield server


@pytest.fixture(autouse=True)
def marker(tmp_path, monkeypatch):
    """Where an attack that works leaves a file: only this test's own folder may have it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "executed"


def zipped(name: str, data: bytes = b"hidden") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, data)
    return buffer.getvalue()


def plain(**content: object) -> bytes:
    return yaml.safe_dump(content).encode()


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> dict[str, bytes]:
    """A repository that is as it should be."""
    folder = tmp_path_factory.mktemp("sound") / "export"
    model = MDPO("MlpPolicy", CARTPOLE, n_steps=8, batch_size=8, seed=0, device="cpu", policy_kwargs={"net_arch": [4]})
    model.export(folder)
    statistics = VecNormalize(model.get_env())
    statistics.reset()
    return {
        **{path.name: path.read_bytes() for path in folder.iterdir()},
        "args.yml": plain(**ARGS),
        "config.yml": plain(policy="MlpPolicy", normalize="dict(norm_reward=True)", n_envs=2),
        "command.txt": b"rl_zoo3 train --algo mdpo\n",
        "vec_normalize.json": statistics_to_json(statistics).encode(),
        "train_eval_metrics.zip": zipped("0.monitor.csv"),
    }


@pytest.fixture(scope="module")
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


@pytest.fixture
def snapshot(sound, tmp_path):
    """Lay out a downloaded repository whose files were changed after it was pushed."""

    def make(**changes: bytes | None) -> Path:
        folder = tmp_path / "snapshot"
        folder.mkdir(exist_ok=True)
        for name, data in (sound | {key.replace("__", "."): value for key, value in changes.items()}).items():
            (folder / name).unlink(missing_ok=True)
            if data is not None:
                (folder / name).write_bytes(data)
        return folder

    return make


def publish(hub: HubServer, repo_id: str, files: dict[str, bytes | None]) -> str:
    hub.repositories.pop(repo_id, None)
    hub.add(repo_id, {name: data for name, data in files.items() if data is not None})
    return repo_id


def test_sound_repository_is_pulled_without_unpickling_and_enjoyed(hub, sound, tmp_path):
    publish(hub, "alice/sound", {**sound, "mdpo-CartPole-v1.zip": b"no zip", "vec_normalize.pkl": b"no pickle"})
    # Loading is replaced in Python, and an audit hook sees what C code looks up for a pickle
    code = (
        "import pickle, sys\n"
        "def stop(*_, **__): raise SystemExit('unpickled')\n"
        "import cloudpickle, torch, stable_baselines3\n"
        "pickle.load = pickle.loads = cloudpickle.load = cloudpickle.loads = torch.load = stop\n"
        "sys.addaudithook(lambda event, _: stop() if event in ('pickle.find_class', 'os.system') else None)\n"
        "from sb3_mdpo.cli.main import main\n"
        "main(['pull', 'alice/sound', '-f', 'got'])\n"
    )
    result = command(hub, tmp_path, "python", "-c", code)
    (run,) = (tmp_path / "got" / "mdpo").iterdir()
    assert files_in(run) == {
        "CartPole-v1.zip", "0.monitor.csv", "CartPole-v1/args.yml", "CartPole-v1/config.yml",
        "CartPole-v1/command.txt", "CartPole-v1/vecnormalize.pkl",
    }  # fmt: skip
    shown = command(hub, tmp_path, *result.stdout.splitlines()[-1].split(), "--no-render", "-n", "60", "--n-envs", "2")
    assert "Loading running average" in shown.stdout


def test_model_that_is_a_pickle_alone_is_for_those_who_trust(hub, hostile_zip, tmp_path, marker):
    files = {"mdpo-CartPole-v1.zip": hostile_zip, "args.yml": plain(**ARGS), "config.yml": plain(policy="MlpPolicy")}
    publish(hub, "mallory/run", files)
    hub.requests.clear()
    line = refused(command(hub, tmp_path, "sb3-mdpo", "pull", "mallory/run", check=False), "pull")
    assert "a pickle" in line
    assert "--trust" in line
    assert hub.requests == ["GET /api/models/mallory/run"]  # not even downloaded
    assert list(tmp_path.iterdir()) == []

    result = command(hub, tmp_path, "sb3-mdpo", "pull", "mallory/run", "--trust")
    assert "loading them runs what code they hold" in result.stdout
    pulled = tmp_path / "logs" / "mdpo" / f"{CARTPOLE}_1" / f"{CARTPOLE}.zip"
    assert pulled.read_bytes() == hostile_zip
    assert not marker.exists()
    MDPO.load(pulled, device="cpu")
    assert marker.exists()  # it would have been one


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config.yml": plain(policy="MlpPolicy", policy_kwargs=ATTACK)}, "config.yml: policy_kwargs"),
        ({"args.yml": b"!!python/object/apply:os.system ['touch executed']"}, "args.yml is no plain YAML"),
        ({"train_eval_metrics.zip": zipped("../../../escaped.monitor.csv")}, "only monitor files"),
    ],
    ids=["expression", "tag", "zip slip"],
)
def test_hostile_repository_leaves_nothing(hub, sound, tmp_path, marker, changes, message):
    publish(hub, "mallory/run", sound | changes)
    result = command(hub, tmp_path, "sb3-mdpo", "pull", "mallory/run", "-f", "deep/down/logs", check=False)
    assert message in refused(result, "pull")
    assert list(tmp_path.iterdir()) == []
    assert not list(tmp_path.parent.rglob("escaped*"))


def test_model_named_to_escape_is_no_model(hub, tmp_path):
    publish(hub, "mallory/run", {"mdpo-../../evil.zip": b"PK"})
    hub.requests.clear()
    result = command(hub, tmp_path, "sb3-mdpo", "pull", "mallory/run", "--trust", check=False)
    assert "0 models" in refused(result, "pull")
    assert hub.requests == ["GET /api/models/mallory/run"]


@pytest.mark.parametrize(
    ("changes", "value"),
    [
        ({"policy_kwargs": ATTACK}, "policy_kwargs"),
        ({"policy_kwargs": "dict(a=().__class__.__base__.__subclasses__())"}, "policy_kwargs"),
        ({"policy_kwargs": "dict(activation_fn=nn.ReLU()(0))"}, "policy_kwargs"),
        ({"policy_kwargs": "dict(**globals())"}, "policy_kwargs"),
        ({"policy_kwargs": "[x for x in ()]"}, "policy_kwargs"),
        ({"policy_kwargs": "9**9**9"}, "policy_kwargs"),
        ({"policy_kwargs": "-" * 100_000 + "1"}, "policy_kwargs"),
        ({"policy_kwargs": "(" * 3000}, "policy_kwargs"),
        ({"normalize": ATTACK}, "normalize"),
        ({"monitor_kwargs": ATTACK}, "monitor_kwargs"),
        ({"replay_buffer_class": "os.system"}, "os.system"),
        ({"replay_buffer_kwargs": ATTACK}, "replay_buffer_kwargs"),
        ({"env_wrapper": "os.system"}, "os.system"),
        ({"env_wrapper": [{"rl_zoo3.wrappers.FrameSkip": {"skip": 2}}, "antigravity.x"]}, "antigravity.x"),
        ({"env_wrapper": {"gymnasium.wrappers.RecordVideo": {"video_folder": "x"}}}, "RecordVideo"),
        ({"env_wrapper": {"rl_zoo3.wrappers.FrameSkip": {"x": ["os:system"]}}}, "os:system"),
        ({"vec_env_wrapper": "stable_baselines3.common.vec_env.VecMonitor"}, "VecMonitor"),
        ({"callback": "subprocess.Popen"}, "subprocess.Popen"),
        ({"policy": "os.system"}, "os.system"),
        ({"policy": ["MlpPolicy", "os.system"]}, "os.system"),
        ({"env_kwargs": {"env_id": "antigravity:X-v0"}}, "antigravity:X-v0"),
    ],
)
def test_settings_that_could_run_code(snapshot, marker, changes, value):
    folder = snapshot(config__yml=plain(**{"policy": "MlpPolicy", **changes}))
    (key,) = changes
    with pytest.raises(ValueError, match=rf"^config\.yml: {key}: .* could run code .* --trust") as error:
        read_snapshot(folder)
    assert value in str(error.value)
    assert "\n" not in str(error.value)
    # Where hyperparameters came from the command line they are in args.yml, too
    folder = snapshot(args__yml=plain(**ARGS | {"hyperparams": changes}))
    with pytest.raises(ValueError, match=r"^args\.yml: hyperparams: .* could run code"):
        read_snapshot(folder)
    # Who trusts the author gets them as they are
    if "normalize" not in changes:
        _, files = read_snapshot(snapshot(config__yml=plain(**changes), args__yml=plain(**ARGS)), trust=True)
        assert yaml.safe_load(files[f"{CARTPOLE}/config.yml"]) == changes
    assert not marker.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gym_packages": ["antigravity"]}, r"gym_packages: \['antigravity'\] could run code"),
        ({"env": "antigravity:CartPole-v1"}, "Gymnasium would import antigravity"),
        ({"env_kwargs": {"env_id": "os:x"}}, "env_kwargs: 'os:x' could run code"),
        ({"eval_env_kwargs": {"env_id": "os:x"}}, "eval_env_kwargs: 'os:x' could run code"),
        ({"env_kwargs": [1]}, "env_kwargs must be a mapping"),
        ({"hyperparams": "dict()"}, "hyperparams must be a mapping"),
        ({"env": [CARTPOLE]}, "the run is not sound"),
        ({"env": "x;y:CartPole-v1"}, "the run is not sound"),
        ({"env": "../../CartPole-v1"}, "the run is not sound"),
        ({"algo": "ppo"}, "not of mdpo"),
    ],
)
def test_arguments_that_could_run_code_or_are_none(snapshot, changes, message):
    with pytest.raises(ValueError, match=message):
        read_snapshot(snapshot(args__yml=plain(**ARGS | changes)))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.yml", b"!!python/name:os.system ''", "config.yml is no plain YAML"),
        ("config.yml", b"{a: !!python/object/apply:os.system ['touch executed']}", "config.yml is no plain YAML"),
        ("config.yml", b"{a: &x [1], b: [*x, *x]}", "config.yml is no plain YAML"),
        ("config.yml", b"{a: " + b"[" * 5000 + b"]" * 5000 + b"}", "nested more than 50 levels"),
        ("config.yml", b"{a: " + b"[" * 40 + b"]" * 40 + b"}", "too deeply nested"),
        ("config.yml", b"a: '" + b"x" * 2**20 + b"'", "these are no settings"),
        ("config.yml", b"{a: 2020-01-01}", "only numbers, texts"),
        ("config.yml", b"{1: a}", "must be a text"),
        ("config.yml", b"- a list", "must be a mapping"),
        ("config.yml", b"{normalize: 1}", "normalize must be true"),
        ("config.yml", b"{normalize: nn.ReLU}", "normalize must be true"),
        ("config.yml", None, "has no config.yml"),
        ("env_kwargs.yml", b"!!python/object/new:os.system [ls]", "env_kwargs.yml is no plain YAML"),
        ("vec_normalize.json", None, "vec_normalize.json is missing"),
        ("vec_normalize.json", b"\x80\x04.", "vec_normalize.json is not as"),
        ("command.txt", b"rl_zoo3\x1b]0;x\x07", "printable"),
        ("command.txt", b"rl_zoo3\nrm", "printable"),
        ("command.txt", "rl_zoo3\u202e".encode(), "printable"),
        ("model.safetensors", b"\x80\x04.", "is not a safetensors file"),
        ("model.safetensors", None, "missing"),
        ("mdpo-CartPole-v1.zip", b"\x80\x04.", "is not a zip file"),
        ("mdpo-Other-v1.zip", zipped("data"), "the run is not sound"),
        ("train_eval_metrics.zip", b"no zip", "not a zip file"),
        ("train_eval_metrics.zip", zipped("/etc/monitor.csv"), "only monitor files"),
        ("train_eval_metrics.zip", zipped("run.py"), "only monitor files"),
        ("train_eval_metrics.zip", zipped("monitor.csv", b"r,l,t").replace(b"r,l,t", b"R,L,T"), "damaged"),
    ],
)
def test_snapshot_with_something_wrong(snapshot, marker, name, content, message):
    folder = snapshot()
    env_id, files = read_snapshot(folder)
    assert env_id == CARTPOLE
    assert files["0.monitor.csv"] == b"hidden"
    snapshot(**{name.replace(".", "__"): content})
    with pytest.raises(ValueError, match=message):
        read_snapshot(folder)
    assert not marker.exists()


def test_export_that_names_a_function(snapshot, sound, marker):
    content = json.loads(sound["config.json"])
    content["settings"]["policy_class"] = {"$class": "os.system"}
    with pytest.raises(ValueError, match=r"names the class 'os\.system'"):
        read_snapshot(snapshot(config__json=json.dumps(content).encode()))
    assert not marker.exists()


def test_what_is_accepted_is_written_as_plain_data(snapshot):
    config = {
        "policy": ["MlpPolicy", "sb3_mdpo.common.policies.ImpalaCnnPolicy"],
        "policy_kwargs": " dict(activation_fn=nn.ReLU,  optimizer_class=th.optim.Adam, net_arch=dict(pi=[-1, 2e-3]))",
        "normalize": "{'norm_obs': False, 'norm_reward': True}",
        "env_wrapper": [{"rl_zoo3.wrappers.FrameSkip": {"skip": 2}}, "gymnasium.wrappers.FlattenObservation"],
        "vec_env_wrapper": "sb3_mdpo.envs.native_vec_env",
        "callback": ["sb3_mdpo.callbacks.BudgetCallback"],
        "learning_rate": "lin_3e-4",
        "note": ATTACK,  # nothing evaluates it
    }
    _, files = read_snapshot(snapshot(config__yml=plain(**config), env_kwargs__yml=b"{}"))
    written = yaml.unsafe_load(files[f"{CARTPOLE}/config.yml"])  # as the zoo does
    expected = "dict(activation_fn=nn.ReLU, optimizer_class=th.optim.Adam, net_arch=dict(pi=[-1, 0.002]))"
    assert written == config | {"policy_kwargs": expected}
    assert yaml.unsafe_load(files[f"{CARTPOLE}/env_kwargs.yml"]) == {}


def test_ids_with_slashes_and_packages_keep_the_zoos_folder_names(snapshot):
    folder = snapshot(args__yml=plain(algo="mdpo", env="ale_py:ALE/Pong-v5"), config__yml=b"{}")
    env_id, files = read_snapshot(folder)
    assert env_id == "ale_py:ALE/Pong-v5"
    names = {"args.yml", "config.yml", "command.txt"}
    assert set(files) == {"ALE-Pong-v5.zip", "0.monitor.csv", *(f"ALE-Pong-v5/{name}" for name in names)}


def test_push_says_when_pull_will_want_trust(snapshot):
    assert why_refused(snapshot()) is None
    folder = snapshot(config__yml=plain(env_wrapper="mine.Wrapper"))
    assert "mine.Wrapper" in why_refused(folder)
    assert "Gymnasium would import mine" in why_refused(snapshot(args__yml=plain(**ARGS | {"env": "mine:X-v0"})))


def or_refused(function, *arguments):
    """What a function returns, None where it refuses its arguments; every other error is one."""
    try:
        return function(*arguments)
    except ValueError:
        return None


texts = st.text() | st.just(ATTACK)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts | st.dates() | st.binary()
documents = st.recursive(
    scalars, lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text() | st.integers(), part, max_size=3)
)
keys = st.sampled_from(["normalize", "policy_kwargs", "monitor_kwargs", "env_kwargs", "hyperparams", "env", *IMPORTED])


@settings(max_examples=150, deadline=None)
@given(content=st.dictionaries(keys | st.text(), documents, max_size=4))
def test_settings_are_plain_data_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "random.yml"
    path.write_text(yaml.safe_dump(content))
    for check in (check_hyperparams, lambda one: check_args({"gym_packages": []} | one)):
        checked = or_refused(lambda check=check: check(read_mapping(path)))
        if checked is not None:
            written = yaml.safe_dump(checked)
            assert repr(yaml.unsafe_load(written)) == repr(dict(sorted(checked.items())))
            if check is check_hyperparams:
                assert ATTACK not in [checked.get(key) for key in ("normalize", "policy_kwargs", "monitor_kwargs")]


@settings(max_examples=300, deadline=None)
@given(
    text=st.text(alphabet="{}[]:,!&*?|>-'\"%@#<= \n\t0x1eab.~_\\"),
    prefix=st.sampled_from(["", "a: ", "a: !!int ", "a: 2001-", "- "]),
)
def test_any_file_is_a_mapping_or_refused(tmp_path_factory, text, prefix):
    path = tmp_path_factory.getbasetemp() / "text.yml"
    path.write_text(prefix + text)
    assert isinstance(or_refused(read_mapping, path), dict | None)


TOKENS = """dict( ) ( [ ] { } , a= b= 'x' : 1 - 2.5 None True . nn.ReLU th.optim.Adam nn __class__ ** * open f'' b''"""


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(TOKENS.split()), max_size=12).map("".join))
def test_expressions_mean_what_they_say_or_are_refused(text):
    checked = or_refused(checked_expression, text)
    if checked is None:
        return
    names = {"__builtins__": {}, "dict": dict, "nn": th.nn, "th": th}
    try:
        value = eval(text.strip(), names)
    except TypeError:  # a list as a key: no more than useless
        return
    assert repr(eval(checked, names)) == repr(value)


def test_names_that_are_allowed_exist():
    names = frozenset().union(*IMPORTED.values())
    installed = [name for name in names if find_spec(name.split(".")[0])]
    assert len(installed) > 50
    for name in installed:
        module, _, attribute = name.rpartition(".")
        assert callable(getattr(importlib.import_module(module), attribute)), name
    zoo = vars(importlib.import_module("rl_zoo3.exp_manager")) | {"nn": th.nn, "th": th}
    for name in NAMES - {"RMSpropTFLike"}:
        assert isinstance(eval(name, zoo), type), name
    assert all(name in vars(importlib.import_module("rl_zoo3.utils")) for name in ("RMSpropTFLike", "nn", "th"))


YAML = "Loader=yaml.UnsafeLoader"


def test_the_zoo_evaluates_and_imports_nothing_that_is_not_checked():
    """Where this fails, a newer zoo does something with settings that sb3_mdpo/hub/settings.py must know of."""
    found = {}
    for name in ("enjoy", "record_video", "utils", "exp_manager"):
        source = (Path(rl_zoo3.__file__).parent / f"{name}.py").read_text()
        found[name] = re.findall(r"(?<!\w)(?:eval|import_module)\((.*?)\)|(Loader=yaml.UnsafeLoader)", source)
    of_settings = {
        "enjoy": ["env_module", YAML],  # what the user types, args.yml
        "record_video": [YAML],
        "utils": [
            "get_module_name(wrapper_name",
            "get_module_name(name",
            YAML,
            YAML,
            'hyperparams["normalize"]',
            "value",
        ],
        "exp_manager": ["self.config", "self.normalize", "hyperparams[kwargs_key]", "self.monitor_kwargs"],
    }
    assert {name: ["".join(one) for one in places] for name, places in found.items()} == of_settings


def statistics_of(space, **arguments) -> VecNormalize:
    class Sampled(Env):
        observation_space, action_space = space, Discrete(2)

        def reset(self, *, seed=None, options=None):
            return self.observation_space.sample(), {}

        def step(self, action):
            return self.observation_space.sample(), 1.5, False, False, {}

    space.seed(3)
    normalize = VecNormalize(DummyVecEnv([Sampled, Sampled]), **arguments)
    normalize.reset()
    for _ in range(9):
        normalize.step(np.array([0, 1]))
    return normalize


IMAGE = Box(0, 255, (3, 8, 8), np.uint8)
VECTOR = Box(-np.inf, np.inf, (3,), np.float32)


@pytest.mark.parametrize(
    ("space", "arguments"),
    [
        (VECTOR, {"clip_obs": 5, "gamma": 0.9, "epsilon": 1e-5}),
        (IMAGE, {}),
        (Discrete(3), {"norm_obs": False}),
        (Dict({"z": VECTOR, "image": IMAGE}), {}),
        (Dict({"z": VECTOR, "which": Discrete(3)}), {"norm_obs_keys": ["z"]}),
    ],
    ids=["vector", "image", "rewards alone", "dictionary", "parts of a dictionary"],
)
def test_statistics_are_the_same_after_json(tmp_path, space, arguments):
    original = statistics_of(space, **arguments)
    path = tmp_path / "vec_normalize.json"
    path.write_text(statistics_to_json(pickle.loads(pickle.dumps(original))))
    # Through the zoo's file, into its environment
    (tmp_path / "vecnormalize.pkl").write_bytes(pickle.dumps(statistics_from_json(path)))
    rebuilt = VecNormalize.load(str(tmp_path / "vecnormalize.pkl"), original.venv)
    assert rebuilt.observation_space == original.observation_space
    observations, rewards = original.get_original_obs(), np.array([0.5, 2.0])
    expected, found = (one.normalize_obs(observations) for one in (original, rebuilt))
    for key in expected if isinstance(expected, dict) else [...]:
        np.testing.assert_array_equal(found[key], expected[key])
    np.testing.assert_array_equal(rebuilt.normalize_reward(rewards), original.normalize_reward(rewards))
    assert (rebuilt.gamma, rebuilt.training) == (original.gamma, original.training)
    # and they go on as they would have
    if hasattr(original, "obs_rms") and not isinstance(original.obs_rms, dict):
        for one in (original, rebuilt):
            one.obs_rms.update(np.ones((2, *space.shape)))
        np.testing.assert_array_equal(rebuilt.obs_rms.var, original.obs_rms.var)


numbers = st.sampled_from([0, -1.0, 1e308, True, None, "1.0", [], [1.0], {}, {"mean": [1.0]}, [[1.0]], "Box"])


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_statistics_that_were_changed_are_statistics_or_refused(tmp_path_factory, data):
    content = json.loads(statistics_to_json(statistics_of(Dict({"z": VECTOR, "y": VECTOR}))))
    place, key = content, data.draw(st.sampled_from(sorted(content)))
    while isinstance(place[key], dict) and data.draw(st.booleans()):
        place = place[key]
        key = data.draw(st.sampled_from(sorted(place)))
    place[key] = data.draw(numbers)
    path = tmp_path_factory.getbasetemp() / "vec_normalize.json"
    path.write_text(json.dumps(content))
    statistics = or_refused(statistics_from_json, path)
    assert type(statistics) in (VecNormalize, type(None))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"format_version": NaN}', "[]", "", "1" * 5000])
def test_statistics_that_are_none(tmp_path, text):
    path = tmp_path / "vec_normalize.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"vec_normalize\.json is not as"):
        statistics_from_json(path)


def test_statistics_that_cannot_be_shared():
    class Mine(VecNormalize):
        pass

    statistics = statistics_of(VECTOR)
    statistics.clip_obs = np.inf
    with pytest.raises(ValueError, match="clip_obs is inf"):
        statistics_to_json(statistics)
    statistics.__class__ = Mine
    with pytest.raises(ValueError, match="of Mine"):
        statistics_to_json(statistics)
