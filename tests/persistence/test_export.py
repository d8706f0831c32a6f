"""Exports hold the same model and run no code when they are read; ONNX and TorchScript files act like the model."""

import builtins
import json
import os
import pickle
import re
import tracemalloc
from functools import cache
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
import safetensors.torch
import torch as th
from gymnasium import spaces
from hypothesis import event, example, given, settings
from hypothesis import strategies as st
from rl_zoo3.utils import SimpleLinearSchedule
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize
from torch import nn

import sb3_mdpo
from sb3_mdpo import MDPO, StridedCNN
from sb3_mdpo.cli.main import main
from sb3_mdpo.persistence.deploy import deploy_policy
from sb3_mdpo.persistence.export.encoding import ALLOWED, SETTINGS, decode, encode
from sb3_mdpo.persistence.export.format import CONFIG, EXPORT_VERSION, MOST_SPACE_ELEMENTS, TENSORS
from sb3_mdpo.persistence.export.spaces import decode_space, encode_space
from sb3_mdpo.persistence.export.weights import read_tensors, write_tensors
from tests.support.commands import run
from tests.support.envs import maker
from tests.support.helpers import TINY, assert_same_parameters, refusal, seeded

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")

VECTOR = spaces.Box(-np.inf, np.inf, (3,), np.float32)
IMAGE = spaces.Box(0, 255, (36, 36, 3), np.uint8)
BUTTONS = spaces.Discrete(3)
MIXED = spaces.Dict(
    discrete=spaces.Discrete(4),
    image=IMAGE,
    multi_binary=spaces.MultiBinary(3),
    multi_discrete=spaces.MultiDiscrete([3, 2]),
    vector=spaces.Box(np.array([-1.0, -np.inf], np.float32), np.array([0.1, 3.0], np.float32)),
)
SMALL = {"features_extractor_kwargs": {"features_dim": 8}}
SQUASHED = {"squash_output": True, "use_expln": True, "net_arch": [8]}
RMSPROP = {"optimizer_class": th.optim.RMSprop, "net_arch": {"pi": [8], "vf": [4]}}
DIFFERENT = [{"features_extractor_kwargs": {"channels": (4, 8)}}, SMALL | {"activation_fn": nn.ReLU}]
# Policy, observations, actions, further arguments
KINDS = {
    "vector": ("MlpPolicy", VECTOR, BUTTONS, {"learning_rate": LinearSchedule(1e-3, 1e-4, 0.5)}),
    "start": ("MlpPolicy", spaces.Discrete(3), spaces.Discrete(3, start=5), {"policy_kwargs": {"net_arch": []}}),
    "multi_discrete": ("MlpPolicy", spaces.MultiBinary(4), spaces.MultiDiscrete([2, 3], start=[4, -1]), {}),
    "multi_binary": ("MlpPolicy", spaces.MultiDiscrete([3, 2]), spaces.MultiBinary(3), {}),
    "box": ("MlpPolicy", VECTOR, spaces.Box(-2, 1, (2, 2)), {"policy_kwargs": {"log_std_init": 1.0}}),
    "gsde": ("MlpPolicy", VECTOR, spaces.Box(-2, 1, (2,)), {"use_sde": True, "policy_kwargs": SQUASHED}),
    "nature": ("CnnPolicy", IMAGE, BUTTONS, {"policy_kwargs": SMALL | {"share_features_extractor": False}}),
    "impoola": ("ImpoolaCnnPolicy", IMAGE, BUTTONS, {"policy_kwargs": SMALL}),
    "impala": ("ImpalaCnnPolicy", IMAGE, BUTTONS, {"policy_kwargs": SMALL, "predict_with": "ensemble"}),
    "members": (["StridedCnnPolicy", "CnnPolicy"], IMAGE, BUTTONS, {"policy_kwargs": DIFFERENT}),
    "dictionary": ("MultiInputPolicy", MIXED, BUTTONS, {"n_policies": 3, "policy_kwargs": RMSPROP}),
}


def environments(observation_space: spaces.Space, action_space: spaces.Space, n_envs: int = 6) -> DummyVecEnv:
    return DummyVecEnv([maker(observation_space, action_space)] * n_envs)


def trained(kind: str, **kwargs) -> MDPO:
    policy, observation_space, action_space, own = KINDS[kind]
    env = environments(observation_space, action_space)
    return MDPO(policy, env, **(TINY | own | kwargs)).learn(96)


@cache
def shared(kind: str) -> MDPO:
    """The model of several tests: they leave it as it is."""
    return trained(kind)


@pytest.fixture(scope="module")
def model() -> MDPO:
    return shared("vector")


@pytest.fixture
def folder(model, tmp_path) -> Path:
    model.export(tmp_path / "export")
    return tmp_path / "export"


def answers(model: MDPO, observations) -> list[np.ndarray]:
    """Everybody's actions, deterministic and sampled with the same seed."""
    actions = []
    before = model.predict_with
    for who in (*range(model.n_policies), "ensemble"):
        model.predict_with = who
        for deterministic in (True, False):
            seeded(3)
            if model.use_sde:
                model.policy.reset_noise(6 * model.n_policies)
            actions.append(model.predict(observations, deterministic=deterministic)[0])
    model.predict_with = before
    return actions


# The same model


@pytest.mark.parametrize("kind", KINDS)
def test_acts_and_learns_like_the_model_and_like_one_that_was_loaded(kind, tmp_path):
    model = shared(kind)
    model.export(tmp_path / "export", include_optimizer=True)
    model.save(tmp_path / "model")
    envs = [environments(*KINDS[kind][1:3]) for _ in range(2)]
    loaded = MDPO.load(tmp_path / "model", env=envs[0], device="cpu")
    imported = MDPO.from_export(tmp_path / "export", env=envs[1], device="cpu")
    for name in SETTINGS.keys() - {"policy_kwargs"}:
        assert repr(getattr(imported, name)) == repr(getattr(model, name)), name
    assert imported.policy_kwargs == model.policy_kwargs
    assert (imported.observation_space, imported.action_space) == (model.observation_space, model.action_space)
    observations = model.get_env().reset()
    for ours, theirs in zip(answers(imported, observations), answers(model, observations), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for continued in (loaded, imported):
        seeded(1)
        continued.get_env().seed(1)
        continued.learn(192, reset_num_timesteps=False)
    assert imported.num_timesteps == loaded.num_timesteps == 288
    assert not th.equal(*(next(one.policy.parameters()) for one in (imported, model)))
    assert_same_parameters(imported.policy, loaded.policy)


def test_predicts_without_an_environment_and_takes_one_later(folder, model):
    imported = MDPO.from_export(folder, device="cpu")
    observations = np.zeros((5, 3), np.float32)
    np.testing.assert_array_equal(*(one.predict(observations, deterministic=True)[0] for one in (imported, model)))
    assert not imported.policy.optimizer.state  # the export does not include it
    imported.set_env(environments(VECTOR, BUTTONS))
    imported.learn(96)


def test_settings_can_be_changed_but_not_what_the_weights_were_made_for(folder):
    imported = MDPO.from_export(folder, device="cpu", predict_with=1, learning_rate=0.5, verbose=1)
    assert (imported.predict_with, imported.lr_schedule(1), imported.verbose) == (1, 0.5, 1)
    for name in ("n_policies", "policy_kwargs", "polixy"):
        with pytest.raises(TypeError, match=rf"from_export\(\) cannot change '{name}'"):
            MDPO.from_export(folder, **{name: 3})
    with pytest.raises(ValueError, match="Observation spaces do not match"):
        MDPO.from_export(folder, env=environments(spaces.Box(-1, 1, (2,)), BUTTONS))


def test_the_log_folder_stays_out_and_numbers_of_numpy_are_numbers(tmp_path):
    arguments = {"tensorboard_log": str(tmp_path / "secret"), "n_steps": np.int64(16), "gamma": np.float32(0.5)}
    trained("vector", **arguments).export(tmp_path / "export")
    assert b"secret" not in (tmp_path / "export" / CONFIG).read_bytes()
    imported = MDPO.from_export(tmp_path / "export")
    assert imported.tensorboard_log is None
    assert (imported.n_steps, imported.gamma) == (16, 0.5)


numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False)
names = st.text(max_size=5).filter(lambda text: not text.startswith("$"))
schedules = st.one_of(
    st.builds(ConstantSchedule, numbers),
    st.builds(LinearSchedule, numbers, numbers, numbers),
    st.builds(SimpleLinearSchedule, st.floats(allow_nan=False)),
)
values = st.recursive(
    st.none() | st.booleans() | numbers | names | st.sampled_from(sorted(ALLOWED.values(), key=repr)) | schedules,
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(names, inner, max_size=3)
    ),
    max_leaves=10,
)


@example(FloatSchedule(LinearSchedule(1e-3, 0.0, 0.5)))
@given(values)
@settings(max_examples=50, deadline=None)
def test_settings_survive_json(value):
    assert repr(decode(json.loads(json.dumps(encode(value, "value"))), {})) == repr(value)


float_bounds = st.floats(-(2.0**99), 2.0**99, width=32, allow_subnormal=False) | st.sampled_from([np.inf, -np.inf, 0.1])


@st.composite
def boxes(draw) -> spaces.Box:
    shape = tuple(draw(st.lists(st.integers(1, 3), max_size=3)))
    kinds = [(np.float32, float_bounds), (np.uint8, st.integers(0, 255)), (np.int64, st.integers(-9, 9))]
    dtype, bounds = draw(st.sampled_from(kinds))
    limits = [np.array([draw(bounds) for _ in range(int(np.prod(shape)))], dtype).reshape(shape) for _ in range(2)]
    return spaces.Box(np.minimum(*limits), np.maximum(*limits), shape, dtype)


parts = (
    boxes()
    | st.builds(spaces.Discrete, st.integers(1, 9), start=st.integers(-5, 5))
    | st.lists(st.integers(1, 5), min_size=1, max_size=4).map(spaces.MultiDiscrete)
    | st.lists(st.integers(1, 3), min_size=1, max_size=3).map(spaces.MultiBinary)
)


@given(parts | st.dictionaries(names, parts, min_size=1, max_size=3).map(spaces.Dict))
@settings(max_examples=100, deadline=None)
def test_spaces_survive_json(space):
    assert decode_space(json.loads(json.dumps(encode_space(space, "space")))) == space


def test_an_export_is_replaced_only_by_a_complete_one(folder, model, monkeypatch):
    shared("box").export(folder)
    assert MDPO.from_export(folder).action_space == KINDS["box"][2]
    after = (folder / CONFIG).read_bytes()

    def no_room(*args: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(OSError, match="no space left"):
        model.export(folder)
    assert (folder / CONFIG).read_bytes() == after
    assert list(folder.parent.iterdir()) == [folder]


def test_an_interrupt_between_the_renames_leaves_the_old_one(folder, model, monkeypatch):
    before = (folder / CONFIG).read_bytes()
    rename = Path.rename

    def interrupted(path: Path, target: Path) -> Path:
        if path.name.endswith(".tmp"):
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.export(folder)
    assert list(folder.parent.iterdir()) == [folder]
    assert (folder / CONFIG).read_bytes() == before


def test_other_folders_are_not_replaced(model, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("important")
    (tmp_path / "file").write_text("important")
    for name, message in (("mine", "also holds thesis.tex"), ("file", "is not a folder")):
        with pytest.raises(ValueError, match=message):
            model.export(tmp_path / name)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == (tmp_path / "file").read_text() == "important"


# What an export cannot hold


class MyExtractor(StridedCNN):
    """A user's class."""


OWN = f"{MyExtractor.__module__}.MyExtractor"


def test_code_is_refused_on_export(tmp_path):
    with pytest.raises(ValueError, match=r"learning_rate=.* is code, which an export cannot hold"):
        trained("vector", learning_rate=lambda progress: progress).export(tmp_path / "export")
    with pytest.raises(ValueError, match=r"policy_kwargs\['activation_fn'\]=.* is code"):
        trained("vector", policy_kwargs={"activation_fn": lambda: nn.ReLU()}).export(tmp_path / "export")
    assert not list(tmp_path.iterdir())


def test_custom_classes_must_be_passed_by_the_reader(tmp_path):
    model = trained("impala", policy_kwargs=SMALL | {"features_extractor_class": MyExtractor})
    model.export(tmp_path / "export")
    with pytest.raises(ValueError, match=re.escape(f"names the class {OWN!r}, which exports may not use")):
        MDPO.from_export(tmp_path / "export")
    imported = MDPO.from_export(tmp_path / "export", custom_objects={OWN: MyExtractor}, device="cpu")
    assert isinstance(imported.policy.members[0].features_extractor, MyExtractor)
    observations = model.get_env().reset()
    np.testing.assert_array_equal(*(answers(one, observations) for one in (imported, model)))


# Nothing but data


def test_no_pickle_is_involved(model, tmp_path, monkeypatch):
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("pickle")

    for module in (pickle, cloudpickle):
        for name in ("load", "loads", "dump", "dumps", "Unpickler", "Pickler"):
            monkeypatch.setattr(module, name, refuse, raising=module is pickle)
    for module, name in ((th, "load"), (th, "save"), (builtins, "eval")):
        monkeypatch.setattr(module, name, refuse)
    with pytest.raises(AssertionError, match="pickle"):
        model.save(tmp_path / "model")
    model.export(tmp_path / "export", include_optimizer=True)
    MDPO.from_export(tmp_path / "export", env=environments(VECTOR, BUTTONS), device="cpu").learn(96)


def forge(folder: Path, change) -> None:
    content = json.loads((folder / CONFIG).read_text())
    change(content)
    (folder / CONFIG).write_text(json.dumps(content))


def setting(name: str, value):
    return lambda content: content["settings"].update({name: value})


def head(name: str, value):
    return lambda content: content.update({name: value})


def box(**changed):
    return head("observation_space", BOX | changed)


BOX = {"type": "Box", "low": -1.0, "high": 1.0, "shape": [3], "dtype": "float32"}
CHOICE = {"type": "MultiDiscrete", "nvec": [2], "start": [0], "dtype": "int64"}
HOSTILE = {
    "os.system": setting("policy_class", {"$class": "os.system"}),
    "subprocess.Popen": setting("rollout_buffer_class", {"$class": "subprocess.Popen"}),
    "a class of another kind": setting("policy_class", {"$class": "torch.nn.ReLU"}),
    "a pickle in SB3's way": setting("learning_rate", {":type:": "x", ":serialized:": "gASV"}),
    "an unknown tag": setting("learning_rate", {"$eval": "1"}),
    "an unknown schedule": setting("learning_rate", {"$schedule": "exec", "val": 1}),
    "a schedule of texts": setting("learning_rate", {"$schedule": "ConstantSchedule", "val": "1"}),
    "a text as a number": setting("gamma", "0.99"),
    "true as a number": setting("gamma", True),
    "null": setting("n_epochs", None),
    "a wrong member": setting("predict_with", 7),
    "an unknown precision": setting("precision", "fp4"),
    "an unknown setting": setting("exec", 1),
    "an unknown argument of the policy": setting("policy_kwargs", {"exec": 1}),
    "an unknown argument of the optimizer": setting("policy_kwargs", {"net_arch": [8], "optimizer_kwargs": {"x": 1}}),
    "more members than weights": setting("n_policies", 3),
    "layers beyond 64 bits": setting("policy_kwargs", {"net_arch": [10**30]}),
    "negative layers": setting("policy_kwargs", {"net_arch": [-8]}),
    "other layers": setting("policy_kwargs", {"net_arch": [9]}),
    "a space of nothing": box(shape=[0]),
    "a space beyond 64 bits": box(shape=[10**30]),
    "another space": box(shape=[4]),
    "a space upside down": box(low=1.0, high=-1.0),
    "a space of texts": box(low="NaN"),
    "a space of objects": box(dtype="object"),
    "a space of an unknown kind": box(type="Tuple"),
    "no space": head("observation_space", None),
    "very many actions": head("action_space", CHOICE | {"nvec": [2**30] * 9, "start": [0] * 9}),
    "actions that overflow": head("action_space", CHOICE | {"start": [300], "dtype": "int8"}),
    "negative unsigned actions": head("action_space", CHOICE | {"start": [-1], "dtype": "uint8"}),
    "counts that overflow": head("action_space", CHOICE | {"nvec": [258], "dtype": "uint8"}),
    "a last action that overflows": head("action_space", CHOICE | {"start": [127], "dtype": "int8"}),
    "a last action beyond 64 bits": head("action_space", {"type": "Discrete", "n": 2, "start": 2**63 - 1}),
    "uneven actions": head("action_space", CHOICE | {"nvec": [2, [2]]}),
    "a dictionary of actions": head("action_space", {"type": "Dict", "spaces": {"a": CHOICE}}),
    "a dictionary in a dictionary": head("observation_space", {"type": "Dict", "spaces": {"a": {"type": "Dict"}}}),
    "an older format": head("format_version", 0),
    "another algorithm": head("algorithm", "PPO"),
    "another format": head("format", "x"),
    "an unknown key": head("__reduce__", "x"),
    "a promised optimizer": head("includes_optimizer", 1),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_settings_are_refused(folder, what, monkeypatch):
    forge(folder, HOSTILE[what])
    monkeypatch.setattr(os, "system", lambda *args: pytest.fail("executed"))
    with pytest.raises(ValueError, match="export") as refused:
        MDPO.from_export(folder, device="cpu")
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 800


# Weights that would fit, but activations of more than five gibibytes
ACTIVATIONS = {
    "features_extractor_class": {"$class": "sb3_mdpo.StridedCNN"},
    "features_extractor_kwargs": {"channels": [2**22, 1]},
}


def keys_and_policies(keys: int, n_policies: int):
    def change(content) -> None:
        parts = {"type": "Dict", "spaces": {str(key): BOX for key in range(keys)}}
        policy = {"$class": "stable_baselines3.MultiInputActorCriticPolicy"}
        content["observation_space"] = parts
        content["settings"].update(policy_class=policy, n_policies=n_policies)

    return change


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("vector", head("format_version", EXPORT_VERSION + 1), f"version 2, but sb3-mdpo {sb3_mdpo.__version__} reads"),
        ("vector", setting("policy_kwargs", {"net_arch": [2**24, 2**24]}), "it computes a tensor of shape"),
        ("vector", box(shape=[2**25]), "has 33554432 elements, not an integer from 1 to 16777216"),
        (
            "vector",
            setting("n_policies", 10**9),
            "times 1000000000 policies are more than the 4096",
        ),
        ("vector", keys_and_policies(1000, 20), r"1000 part\(s\) of observations times 20 policies are more than the"),
        ("vector", keys_and_policies(20_000, 1), r"20000 part\(s\) of observations times 1 policies are more than"),
        ("vector", setting("policy_kwargs", {"net_arch": [1] * 10**5}), "has more tensors than the file"),
        ("impala", setting("policy_kwargs", ACTIVATIONS), "it computes a tensor of shape"),
    ],
    ids=["newer", "weights", "space", "policies", "parts", "many parts", "layers", "activations"],
)
def test_newer_and_huge_models_are_refused_with_little_memory(tmp_path, kind, change, message):
    folder = tmp_path / "export"
    shared(kind).export(folder)
    forge(folder, change)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message):
            MDPO.from_export(folder)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40e6


def test_the_parts_of_a_space_are_bounded_together():
    half = BOX | {"low": 0, "high": 1, "shape": [MOST_SPACE_ELEMENTS - 2], "dtype": "uint8"}
    assert decode_space({"type": "Dict", "spaces": {"a": half, "b": CHOICE}})
    with pytest.raises(ValueError, match="has 2 elements, not an integer from 1 to 0"):
        decode_space({"type": "Dict", "spaces": {"a": half, "b": CHOICE, "c": CHOICE}})


BIAS, MOMENT = "policy.members.0.action_net.bias", "optimizer.0.exp_avg"


CHANGES = [
    *({BIAS: changed} for changed in (None, th.zeros(4), th.zeros(3, dtype=th.float64))),
    *({MOMENT: changed} for changed in (None, th.zeros(1))),
    *({name: th.zeros(1)} for name in ("x", "policy.x", "optimizer.0.x", "optimizer.99.exp_avg")),
]


@pytest.mark.parametrize("change", CHANGES)
def test_tensors_must_be_the_models(tmp_path, model, change):
    model.export(tmp_path / "export", include_optimizer=True)
    file = tmp_path / "export" / TENSORS
    tensors = safetensors.torch.load(file.read_bytes()) | change
    file.write_bytes(safetensors.torch.save({name: one for name, one in tensors.items() if one is not None}))
    with pytest.raises(ValueError, match=r"the tensor (policy|optimizer)\.[\w.]+ is|holds tensors that are not"):
        MDPO.from_export(tmp_path / "export")


def test_an_optimizer_that_is_not_announced_is_refused(tmp_path, model):
    model.export(tmp_path / "export", include_optimizer=True)
    forge(tmp_path / "export", head("includes_optimizer", False))
    with pytest.raises(ValueError, match="holds tensors that are not the model's"):
        MDPO.from_export(tmp_path / "export")


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("executed",))


def length(n_bytes: int) -> bytes:
    return n_bytes.to_bytes(8, "little")


HUGE_TENSOR = b'{"policy.x":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}'
NO_TENSORS, NO_JSON = r"model\.safetensors is not", r"config\.json is not JSON"
OTHER_FILES = {
    "pickle": (TENSORS, cloudpickle.dumps(Bomb()), NO_TENSORS),
    "no bytes": (TENSORS, b"", NO_TENSORS),
    "ones": (TENSORS, b"\xff" * 64, NO_TENSORS),
    "long header": (TENSORS, length(2**62) + b"{}", NO_TENSORS),
    "many tensors": (TENSORS, length(2**20 + 1) + b"{}".ljust(2**20 + 1), "has 1048577 bytes, more than 1048576"),
    "no tensors": (TENSORS, length(2) + b"{}", "is missing in the file"),
    "huge tensor": (TENSORS, length(99) + HUGE_TENSOR.ljust(99), NO_TENSORS),
    "list": (CONFIG, b"[]", "is not that of an export"),
    "utf-16": (CONFIG, b"\xff\xfe{}", NO_JSON),
    "deep": (CONFIG, b"[" * 10**6, NO_JSON),
    "many digits": (CONFIG, b"1" * 10**5, NO_JSON),
    "blanks": (CONFIG, b" " * (2**24 + 1), "has more than 16777216 bytes"),
}


@pytest.mark.parametrize("what", OTHER_FILES)
def test_other_files_are_no_exports(folder, what):
    name, content, message = OTHER_FILES[what]
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        MDPO.from_export(folder)


def test_no_more_tensors_are_written_than_read():
    few, many = ({f"optimizer.{k}.step": th.zeros(()) for k in range(n)} for n in (5_000, 20_000))
    assert read_tensors(write_tensors(few)).keys() == few.keys()
    with pytest.raises(ValueError, match=r"model.safetensors is not of an export: its header has \d+ bytes"):
        write_tensors(many)


@pytest.mark.parametrize("name", [CONFIG, TENSORS])
def test_missing_and_cut_files_are_refused(folder, name):
    data = (folder / name).read_bytes()
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"{name} is missing"):
        MDPO.from_export(folder)
    for length in (*range(0, len(data) - 2, len(data) // 20), len(data) - 2):
        (folder / name).write_bytes(data[:length])
        with pytest.raises(ValueError, match=f"{name} is not"):
            MDPO.from_export(folder)


leaves = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3)
)
keys = st.sampled_from(["$class", "$tuple", "$schedule", "net_arch", "type", "x"])
anything = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=5
)


@given(st.sampled_from([*SETTINGS, "observation_space", "action_space", "format_version"]), anything)
@settings(max_examples=60, deadline=None)
def test_a_setting_of_any_kind_is_taken_or_refused(tmp_path_factory, model, name, value):
    folder = tmp_path_factory.mktemp("forged") / "export"
    model.export(folder)
    forge(folder, setting(name, value) if name in SETTINGS else head(name, value))
    try:
        MDPO.from_export(folder, device="cpu")
    except ValueError as error:
        refused = str(error)
        event("refused")
    else:
        refused = ""
        event("taken")
    assert "\n" not in refused


# One file that acts


@pytest.mark.parametrize(
    "kind", ["vector", "start", "multi_discrete", "multi_binary", "box", "gsde", "nature", "members"]
)
@pytest.mark.parametrize("who", [1, "ensemble"])
def test_torchscript_acts_like_predict(kind, who, tmp_path, monkeypatch):
    model = shared(kind)
    monkeypatch.setattr(model, "predict_with", who)
    before = {name: tensor.clone() for name, tensor in model.policy.state_dict().items()}
    deploy_policy(model, tmp_path / "policy.pt", "torchscript")
    assert all(th.equal(before[name], tensor) for name, tensor in model.policy.state_dict().items())
    loaded = th.jit.load(tmp_path / "policy.pt")
    observations = model.get_env().reset()
    for batch in (observations, observations[:1]):
        action, value, *probabilities = loaded(th.as_tensor(batch))
        expected, _ = model.predict(batch, deterministic=True)
        np.testing.assert_allclose(action, expected, rtol=1e-4, atol=1e-4)
        assert action.numpy().dtype == expected.dtype
        assert value.shape == (len(batch),)
        assert bool(probabilities) != isinstance(model.action_space, spaces.Box)
    assert [path.name for path in tmp_path.iterdir()] == ["policy.pt"]


def test_values_and_probabilities_are_those_of_the_members(tmp_path, monkeypatch):
    model = shared("vector")
    monkeypatch.setattr(model, "predict_with", "ensemble")
    deploy_policy(model, tmp_path / "policy.pt", "torchscript")
    observations = th.as_tensor(model.get_env().reset())
    _, value, probabilities = th.jit.load(tmp_path / "policy.pt")(observations)
    members = model.policy.members
    expected = sum(member.get_distribution(observations).distribution.probs for member in members) / 2
    th.testing.assert_close(probabilities, expected)
    th.testing.assert_close(value, sum(member.predict_values(observations).flatten() for member in members) / 2)


@pytest.mark.parametrize(("kind", "who"), [("impala", 1), ("start", "ensemble")])
def test_onnx_acts_like_predict(kind, who, tmp_path, monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime")
    model = shared(kind)
    monkeypatch.setattr(model, "predict_with", who)
    deploy_policy(model, tmp_path / "policy.onnx", "onnx")
    session = onnxruntime.InferenceSession(tmp_path / "policy.onnx")
    observations = model.get_env().reset()
    for batch in (observations, observations[:1]):
        action, value, probabilities = session.run(["action", "value", "probabilities"], {"observation": batch})
        np.testing.assert_array_equal(action, model.predict(batch, deterministic=True)[0])
        np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
        assert value.shape == (len(batch),)


def test_normalisation_becomes_part_of_the_file(tmp_path):
    env = VecNormalize(environments(VECTOR, BUTTONS), clip_obs=1.5)
    model = MDPO("MlpPolicy", env, **TINY).learn(96)
    deploy_policy(model, tmp_path / "policy.pt", "torchscript", env)
    raw = np.random.default_rng(0).normal(3, 5, size=(50, 3)).astype(np.float32)
    action, *_ = th.jit.load(tmp_path / "policy.pt")(th.as_tensor(raw))
    np.testing.assert_array_equal(action, model.predict(env.normalize_obs(raw), deterministic=True)[0])
    assert (env.normalize_obs(raw) == 1.5).any()
    stacked = MDPO("MlpPolicy", VecFrameStack(env, 2), **TINY)
    with pytest.raises(ValueError, match="normalizes observations before stacking"):
        deploy_policy(stacked, tmp_path / "stacked.pt", "torchscript", env)


def test_what_one_file_cannot_hold(tmp_path):
    for model, form, message in (
        (shared("dictionary"), "torchscript", "Observations that are dictionaries"),
        (trained("nature", precision="bf16"), "torchscript", "compute in float32: load"),
        (shared("vector"), "pmml", "format='pmml' is unknown: use one of 'onnx', 'torchscript'"),
    ):
        with pytest.raises(ValueError, match=message):
            deploy_policy(model, tmp_path / "policy.pt", form)
    assert not list(tmp_path.iterdir())


class TwiceAsSure(ActorCriticPolicy):
    """Does more than its layers."""

    def _get_action_dist_from_latent(self, latent_pi):
        return self.action_dist.proba_distribution(-self.action_net(latent_pi))


def test_a_file_that_acts_otherwise_is_not_left_behind(tmp_path):
    model = MDPO(TwiceAsSure, environments(VECTOR, BUTTONS), **TINY)
    (tmp_path / "policy.pt").write_text("an older one")
    with pytest.raises(ValueError, match=r"The action of the file differs from predict\(\): nothing was written"):
        deploy_policy(model, tmp_path / "policy.pt", "torchscript")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["an older one"]


# The command


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("zoo")
    command = "rl_zoo3 train --algo mdpo --env CartPole-v1 -n 128 -f logs --seed 0 --device cpu --eval-freq -1 "
    hyperparams = "-params normalize:True \"policy:'MlpPolicy'\" n_envs:4 n_steps:16 batch_size:16 n_epochs:1"
    run(command + hyperparams, cwd=folder, check=True)
    return folder


RUN = "logs/mdpo/CartPole-v1_1"


def test_command_writes_every_format(zoo, monkeypatch, capsys):
    onnxruntime = pytest.importorskip("onnxruntime")
    saved = MDPO.load(zoo / RUN / "CartPole-v1.zip", device="cpu", predict_with="ensemble")
    monkeypatch.chdir(zoo)
    main(["export", RUN, "-o", "safe", "--policy", "ensemble", "--include-optimizer"])
    assert "its vecnormalize.pkl is not part of the export" in capsys.readouterr().out
    imported = MDPO.from_export(zoo / "safe", device="cpu")
    assert imported.predict_with == "ensemble"
    assert_same_parameters(imported.policy, saved.policy)
    main(["export", RUN, "-o", "policy.onnx", "--format", "onnx", "--policy", "ensemble"])
    with (zoo / RUN / "CartPole-v1" / "vecnormalize.pkl").open("rb") as file:
        statistics = pickle.load(file)
    raw = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    session = onnxruntime.InferenceSession(zoo / "policy.onnx")
    (action,) = session.run(["action"], {"observation": raw})
    np.testing.assert_array_equal(action, saved.predict(statistics.normalize_obs(raw), deterministic=True)[0])
    main(["export", f"{RUN}/CartPole-v1.zip", "-o", "policy.pt", "--format", "torchscript", "--policy", "1"])
    saved.predict_with = 1
    action, *_ = th.jit.load(zoo / "policy.pt")(th.as_tensor(raw))
    np.testing.assert_array_equal(action, saved.predict(raw, deterministic=True)[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("nowhere -o x", "There is no folder nowhere"),
        (f"{RUN} -o x --policy 2", "predict_with=2 is unknown"),
        (f"{RUN} -o x --load-best", "train with --eval-freq, or leave out --load-best"),
        (f"{RUN}/CartPole-v1.zip -o x --load-best", "--load-best is for run folders"),
        (f"{RUN} -o x --format onnx --include-optimizer", "--include-optimizer is for"),
        (f"{RUN} -o logs", "logs also holds mdpo, which would be lost"),
        (f"{RUN} -o logs --format torchscript", "logs is a folder: give the name of a file"),
    ],
)
def test_command_refuses_in_one_line(zoo, arguments, message, monkeypatch, capsys):
    monkeypatch.chdir(zoo)
    line = refusal(capsys, main, "export", *arguments.split())
    assert line.startswith("sb3-mdpo export: ")
    assert message in line
    assert not (zoo / "x").exists()
