"""Interrupted trainings resume bit for bit, or warn why they do not."""

import itertools
import os
import resource
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ale_py
import gymnasium as gym
import numpy as np
import pytest
import rl_zoo3.train
import torch as th
from gymnasium import spaces
from sb3_contrib.common.envs import InvalidActionEnvDiscrete
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecEnv,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
    is_vecenv_wrapped,
)

from sb3_mdpo import MDPO, MaskableMDPO, RecurrentMDPO
from sb3_mdpo.callbacks import BudgetCallback, HParamCallback, ResumableCheckpointCallback
from sb3_mdpo.envs import ProcgenVecEnv, TexturedGridVecEnv
from sb3_mdpo.persistence.checkpoints import callback
from sb3_mdpo.persistence.checkpoints.archive import DamagedError, Snapshot, checkpoints, read, write
from sb3_mdpo.persistence.checkpoints.state_pickle import dumps, loads, restore, state_of
from sb3_mdpo.persistence.checkpoints.training import Training
from sb3_mdpo.zoo.resume import command_line
from tests.support.envs import BrightSideEnv, maker
from tests.support.faults import events, tables
from tests.support.helpers import TINY, assert_same_parameters

MakeEnv = Callable[[Path], VecEnv]
pytestmark = pytest.mark.filterwarnings("error:.*not identically")


@pytest.fixture(autouse=True)
def copies_at_every_rollout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings of a second would have one at their start and one at their end."""
    monkeypatch.setattr(callback, "SHARE", np.inf)


class Crash(Exception):
    """Instead of the end of a process; tests/persistence/test_faults.py ends real ones."""


class Crashing(BaseCallback):
    """Crashes at a step, which is no attribute: those are part of a checkpoint."""

    at: float = np.inf

    def _on_step(self) -> bool:
        if self.num_timesteps >= Crashing.at:
            raise Crash
        return True


def registered(env_id: str, n_envs: int, seed: int) -> MakeEnv:
    return lambda folder: make_vec_env(env_id, n_envs, seed=seed, monitor_dir=str(folder))


def monitored(env: VecEnv, folder: Path) -> VecEnv:
    return VecMonitor(env, str(folder / "all"))


def cartpoles(folder: Path, n_envs: int = 4) -> VecEnv:
    return VecNormalize(registered("CartPole-v1", n_envs, 3)(folder))


def masked(folder: Path) -> VecEnv:
    make = partial(InvalidActionEnvDiscrete, dim=5, n_invalid_actions=2, ep_length=7)
    return make_vec_env(make, 4, seed=4, monitor_dir=str(folder))


def images(folder: Path) -> VecEnv:
    env = DummyVecEnv([BrightSideEnv] * 4)
    env.seed(1)
    return VecFrameStack(monitored(env, folder), 2, channels_order="first")


def dicts(folder: Path) -> VecEnv:
    picture, vector = spaces.Box(0, 255, (36, 36, 3), np.uint8), spaces.Box(-1, 1, (2,), np.float32)
    space = spaces.Dict({"picture": picture, "vector": vector})
    env = DummyVecEnv([maker(space, spaces.MultiDiscrete([2, 3]))] * 4)
    env.seed(2)
    return VecTransposeImage(monitored(env, folder))


def procgen(folder: Path) -> VecEnv:
    return monitored(ProcgenVecEnv(4, "starpilot", num_levels=5, distribution_mode="easy", seed=6), folder)


def grids(folder: Path) -> VecEnv:
    return VecNormalize(monitored(TexturedGridVecEnv(4, num_levels=10, seed=8), folder), norm_obs=False)


def train(
    folder: Path,
    make_env: MakeEnv,
    crash_at: float = np.inf,
    timesteps: int = 384,
    algorithm: type[MDPO | PPO] = MDPO,
    log_interval: int = 1,
    checkpoint: dict[str, Any] | None = None,
    eval_freq: int = 20,
    **kwargs: Any,
) -> Any:
    """The program that somebody runs, and after a crash runs again."""
    folder.mkdir(exist_ok=True)
    env = make_env(folder)
    model = algorithm(kwargs.pop("policy", "MlpPolicy"), env, **TINY | kwargs)
    model.set_logger(configure(str(folder), ["csv", "json", "log", "tensorboard"]))
    settings = {"save_path": folder / "checkpoints", "resume": True, "verbose": 0} | (checkpoint or {})
    callbacks = [ResumableCheckpointCallback(**settings), Crashing(), BudgetCallback(), HParamCallback()]
    if eval_freq:
        norm_obs = isinstance(env, VecNormalize) and env.norm_obs
        eval_env = VecNormalize(make_env(folder.parent), norm_reward=False, norm_obs=norm_obs)
        if not is_vecenv_wrapped(env, VecTransposeImage) and is_vecenv_wrapped(model.env, VecTransposeImage):
            eval_env = VecTransposeImage(eval_env)
        options = {"log_path": str(folder), "deterministic": False, "verbose": 0, "warn": False}
        callbacks.append(EvalCallback(eval_env, eval_freq=eval_freq, n_eval_episodes=2, **options))
    Crashing.at = crash_at
    try:
        model.learn(timesteps, callbacks, log_interval=log_interval)
    except Crash:
        return None
    finally:
        env.close()
        model.logger.close()
    return model


def assert_same_models(one: Any, other: Any) -> None:
    assert_same_parameters(one.policy, other.policy)
    optimizers = (model.policy.optimizer.state_dict() for model in (one, other))
    th.testing.assert_close(*optimizers, rtol=0, atol=0)
    assert one.num_timesteps == other.num_timesteps


def assert_same_trainings(one: Any, other: Any) -> None:
    assert_same_models(one, other)
    folder, other_folder = (Path(model.logger.get_dir()) for model in (one, other))
    assert tables(folder)
    assert tables(folder) == tables(other_folder)
    assert events(folder) == events(other_folder)
    logs = [(folder / "log.txt").read_text().splitlines() for folder in (folder, other_folder)]
    assert len(logs[0]) == len(logs[1])


STRIDED: dict[str, Any] = {"policy": "StridedCnnPolicy", "policy_kwargs": {}}
IMPALA = {"policy": "ImpalaCnnPolicy", "policy_kwargs": {"features_extractor_kwargs": {"channels": (4,)}}}
DROPOUT = {"activation_fn": partial(th.nn.Dropout, 0.2), "net_arch": [8]}
TRAININGS: dict[str, tuple[MakeEnv, dict[str, Any]]] = {
    "vectors": (cartpoles, {}),
    "three policies, dropout, random peers": (
        partial(cartpoles, n_envs=6),
        {"n_policies": 3, "distill_mode": "random", "policy_kwargs": DROPOUT},
    ),
    "gSDE": (registered("Pendulum-v1", 6, 10), {"use_sde": True, "sde_sample_freq": 5}),
    "images": (images, {"policy": "CnnPolicy", "policy_kwargs": {}}),
    "dicts": (dicts, {"policy": "MultiInputPolicy", "policy_kwargs": {}}),
    "Procgen": (procgen, IMPALA | {"eval_freq": 48}),
    "single Procgens": (registered("procgen-starpilot-easy-v0", 4, 7), STRIDED | {"eval_freq": 0}),
    "grids": (grids, STRIDED),
    "single grids": (registered("TexturedGrid-v0", 4, 9), STRIDED),
    "schedules": (cartpoles, {"learning_rate": lambda progress: 1e-3 * progress, "target_kl": 1e-4}),
    "masks": (masked, {"algorithm": MaskableMDPO, "eval_freq": 0}),
    "memory": (
        cartpoles,
        {"algorithm": RecurrentMDPO, "policy": "MlpLstmPolicy", "policy_kwargs": {"lstm_hidden_size": 4}},
    ),
    "PPO": (cartpoles, {"algorithm": PPO}),
}


@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_that_crashed_twice_ends_like_one_that_did_not(name: str, tmp_path: Path) -> None:
    make_env, kwargs = TRAININGS[name]
    run = partial(train, make_env=make_env, **kwargs)
    alone, resumed = run(tmp_path / "alone"), interrupted(run, tmp_path / "again", 150, 290)
    if name == "PPO":  # its log counts iterations since learn() was called
        for folder in ("alone", "again"):
            (tmp_path / folder / "progress.csv").unlink()
    assert_same_trainings(alone, resumed)


def interrupted(run: Callable[..., Any], folder: Path, *steps: int) -> Any:
    for step in steps:
        assert run(folder, crash_at=step) is None
    return run(folder)


small = partial(train, make_env=cartpoles, eval_freq=0)


def test_logs_at_longer_intervals_stay_in_step(tmp_path: Path) -> None:
    run = partial(small, log_interval=3, timesteps=700)
    assert_same_trainings(run(tmp_path / "alone"), interrupted(run, tmp_path / "again", 330))
    logged = tables(tmp_path / "again")["progress.csv"]
    assert [row["time/iterations"] for row in logged] == ["3", "6", "9", ""]


@pytest.mark.parametrize("name", ["vectors", "gSDE"])
def test_a_complete_training_is_left_as_it_is_and_can_be_continued(name: str, tmp_path: Path) -> None:
    make_env, kwargs = TRAININGS[name]
    run = partial(train, make_env=make_env, eval_freq=0, **kwargs)
    first, again = (run(tmp_path / "one", timesteps=256) for _ in range(2))
    assert_same_models(first, again)
    assert_same_models(run(tmp_path / "one", timesteps=384), run(tmp_path / "alone", timesteps=384))


def test_a_training_resumes_from_snapshots_that_are_taken_now_and_then(tmp_path: Path, monkeypatch) -> None:
    alone = small(tmp_path / "alone", timesteps=700)
    monkeypatch.setattr(callback, "SHARE", 0.1)  # ten seconds apart, of which a rollout takes two
    monkeypatch.setattr(callback, "time", SimpleNamespace(monotonic=itertools.count().__next__))
    assert small(tmp_path / "again", timesteps=700, crash_at=550) is None
    (newest, _) = checkpoints(tmp_path / "again" / "checkpoints")
    assert read(newest).snapshot.num_timesteps == 256
    assert_same_trainings(alone, small(tmp_path / "again", timesteps=700))


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_copied_run_leaves_the_one_that_it_was_copied_from_alone(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    assert train(one, cartpoles, 200, checkpoint={"save_freq": 1}) is None
    shutil.copytree(one, other)
    first = train(one, cartpoles)
    before = contents(one)
    with pytest.warns(UserWarning, match=f"{other}/checkpoints was copied from {one}/checkpoints, which still exists"):
        second = train(other, cartpoles)
    assert contents(one) == before
    assert_same_models(first, second)
    for name in ("progress.csv", "evaluations.npz", "0.monitor.csv"):
        assert (other / name).is_file(), name
    assert tables(one)["evaluations.npz"] == tables(other)["evaluations.npz"]
    assert len(list(other.glob("events.*"))) == len(list(one.glob("events.*")))


class Shrinking(BaseCallback):
    """Holds on to parameters of the model, and changes them."""

    def _on_training_start(self) -> None:
        self.parameters = list(self.model.policy.members[0].parameters())  # type: ignore[union-attr, operator]

    def _on_step(self) -> bool:
        return True

    @th.no_grad()
    def _on_rollout_end(self) -> None:
        for parameter in self.parameters:
            parameter.mul_(0.99)


def test_callbacks_hold_the_models_parameters_after_a_crash(tmp_path: Path) -> None:
    def run(folder: Path, crash_at: float = np.inf) -> MDPO | None:
        Crashing.at = crash_at
        with suppress(Crash):
            return learn(folder, Shrinking(), Crashing(), env=make_vec_env("CartPole-v1", 2, seed=0), resume=True)
        return None

    assert_same_models(interrupted(run, tmp_path / "again", 100), run(tmp_path / "alone"))


@pytest.mark.parametrize(
    ("checkpoint", "expected"),
    [
        ({"save_freq": 128, "keep": 10}, [384, 256, 128, 0]),
        ({"save_freq": 1}, [384, 320]),
        ({"keep": 10}, [384, 0]),  # over in less than a minute
    ],
)
def test_checkpoints_are_as_many_and_as_frequent_as_asked_for(checkpoint, expected, tmp_path: Path) -> None:
    half_written = tmp_path / "run" / "checkpoints" / ".checkpoint_000000000064.zip.123.tmp"
    half_written.parent.mkdir(parents=True)
    half_written.write_bytes(b"PK")  # by a killed process
    small(tmp_path / "run", checkpoint={"save_path": None, **checkpoint})  # by default beside the monitor files
    found = checkpoints(half_written.parent)
    assert [read(path).snapshot.num_timesteps for path in found] == expected
    assert not half_written.exists()


def test_only_files_are_checkpoints(tmp_path: Path) -> None:
    model = small(tmp_path / "run", timesteps=128)
    folder = tmp_path / "run" / "checkpoints"
    found = checkpoints(folder)
    (folder / "checkpoint_000000000999.zip").mkdir()
    (folder / "checkpoint_000000001000.zip").symlink_to("nowhere")
    assert checkpoints(folder) == found
    assert_same_models(small(tmp_path / "run", timesteps=128), model)


def test_a_damaged_checkpoint_is_put_aside_and_the_one_before_it_used(tmp_path: Path) -> None:
    alone, run = small(tmp_path / "alone"), tmp_path / "run"
    assert small(run, crash_at=150, checkpoint={"save_freq": 1}) is None
    newest, _ = checkpoints(run / "checkpoints")
    newest.write_bytes(newest.read_bytes()[:-1000])
    with pytest.warns(UserWarning, match=r"checkpoint_000000000128.zip is damaged.*the one before it is used"):
        resumed = small(run)
    assert newest.with_name(f"{newest.name}.damaged").is_file()
    assert_same_trainings(alone, resumed)
    paths = checkpoints(run / "checkpoints")
    for path in paths:
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"All checkpoints in .* are damaged"):  # and does not start anew in silence
        small(run)
    assert checkpoints(run / "checkpoints") == paths


def test_no_damage_to_the_content_is_overlooked(tmp_path: Path) -> None:
    snapshot = Snapshot(5, 1, 0.5, {"n_steps": 16}, [], os.urandom(60), {}, {"log": b"a,b\n1,2\n"}, {})
    path = write(tmp_path, snapshot)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(DamagedError, match="is damaged"):
            read(path)
    damaged = 0
    for at, bit in itertools.product(range(len(content)), range(0, 8, 3)):
        path.write_bytes(content[:at] + bytes([content[at] ^ (1 << bit)]) + content[at + 1 :])
        try:
            assert read(path).snapshot == snapshot  # a bit that does not matter, such as one of zip's dates
        except DamagedError:
            damaged += 1
    assert damaged > len(content)


class AtStep(BaseCallback):
    """Calls a function at a step."""

    def __init__(self, step: int, function: Callable[[], Any]) -> None:
        super().__init__()
        self.step = step
        self.function = function

    def _on_step(self) -> bool:
        if self.num_timesteps == self.step:
            self.function()
        return True


def learn(folder: Path, *others: BaseCallback, timesteps: int = 384, env: Any = "CartPole-v1", **kwargs: Any) -> MDPO:
    checkpoint = ResumableCheckpointCallback(folder, verbose=kwargs.pop("verbose", 0), **kwargs)
    return MDPO("MlpPolicy", env, **TINY).learn(timesteps, [checkpoint, *others])


@pytest.fixture
def usual_handlers() -> Iterator[None]:
    """Those of the tests' parent process or of a library may differ."""
    usual = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, signal.SIG_DFL if handler is None else handler)


@pytest.mark.usefixtures("usual_handlers")
@pytest.mark.parametrize(
    ("number", "end", "code"), [(signal.SIGTERM, SystemExit, 143), (signal.SIGINT, KeyboardInterrupt, None)]
)
def test_signals_write_a_checkpoint_and_end_the_training(number, end, code, tmp_path: Path, capsys) -> None:
    before = signal.getsignal(number)
    with pytest.raises(end) as raised:
        learn(tmp_path, AtStep(100, lambda: signal.raise_signal(number)), verbose=1)
    assert getattr(raised.value, "code", None) == code
    assert signal.getsignal(number) is before
    assert read(checkpoints(tmp_path)[0]).snapshot.num_timesteps == 96  # that of the last rollout
    how = "To resume from step 96: the same program with resume=True"
    assert f"{number.name} at step 100. {how}" in capsys.readouterr().err


@pytest.mark.usefixtures("usual_handlers")
def test_a_signal_during_a_write_that_fails_ends_the_training(tmp_path: Path, monkeypatch) -> None:
    signals = [signal.SIGTERM]

    def fail(*_: Any) -> None:
        while signals:
            signal.raise_signal(signals.pop())
        raise OSError("no space")

    full = AtStep(40, lambda: monkeypatch.setattr(callback, "write", fail))
    checkpoint = ResumableCheckpointCallback(tmp_path, save_freq=1, verbose=0, resume=True)
    model = MDPO("MlpPolicy", "CartPole-v1", **TINY)
    with pytest.raises(SystemExit), pytest.warns(UserWarning, match="could not be written"):
        model.learn(384, [checkpoint, full])
    assert model.num_timesteps == 64
    monkeypatch.undo()
    MDPO("MlpPolicy", "CartPole-v1", **TINY).learn(384, checkpoint)  # without a signal


def test_a_second_signal_meets_what_handled_it_before(tmp_path: Path) -> None:
    def handle(*_: Any) -> None:
        raise Crash

    def twice() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, handle)
    try:
        with pytest.raises(Crash):
            learn(tmp_path, AtStep(100, twice))
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("usual_handlers")
def test_signals_can_be_left_alone_and_are_free_again_after_the_training(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen = []
    look = AtStep(100, lambda: seen.append(signal.getsignal(signal.SIGTERM)))
    learn(tmp_path / "off", look, handle_signals=False)
    learn(tmp_path / "on", look)
    assert seen[0] is before
    assert seen[1] is not before
    assert signal.getsignal(signal.SIGTERM) is before


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def taking(self, seconds: float, function: Callable[..., Any], starts: list[float]) -> Callable[..., Any]:
        """The same function, with a note of when it begins."""

        def slow(*args: Any) -> Any:
            starts.append(self.now)
            self.now += seconds
            return function(*args)

        return slow


@pytest.mark.parametrize(
    ("save_freq", "copying", "when_copied", "when_written"),
    [
        # Copying takes 3 s, so 300 s must pass before the next rollout that may; writing 5 s, so 500 s. At the end both
        (None, 3, [0, 308, 616, 919, 1227], [3, 511, 1022, 1230]),
        # Every fifth rollout is written, and was copied for that
        (160, 3, [0, 308, 511, 819, 1022, 1230], [3, 514, 1025, 1233]),
        # No more than 600 s
        (None, 30, [0, 635, 1270], [30, 665, 1300]),
    ],
)
def test_copying_and_writing_take_a_hundredth_of_the_time_each(
    save_freq, copying, when_copied, when_written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve rollouts of 32 steps and 100 s."""
    clock, copied, written = Clock(), [], []
    monkeypatch.setattr(callback, "SHARE", 0.01)
    monkeypatch.setattr(callback, "time", clock)
    monkeypatch.setattr(Training, "snapshot", clock.taking(copying, Training.snapshot, copied))
    monkeypatch.setattr(callback, "write", clock.taking(5, callback.write, written))
    rollout = AtStep(0, lambda: None)
    monkeypatch.setattr(rollout, "_on_rollout_end", clock.taking(100, lambda: None, []))
    learn(tmp_path, rollout, save_freq=save_freq)
    assert copied == when_copied
    assert written == when_written


def limited_files(n_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def test_a_full_disk_ends_no_training_and_no_earlier_checkpoint(tmp_path: Path) -> None:
    unlimited, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    full = AtStep(30, lambda: limited_files(2000))
    try:
        with pytest.warns(UserWarning, match=r"of step \d+ could not be written .* That of step 0 is still there"):
            model = learn(tmp_path, full, save_freq=1)
    finally:
        limited_files(unlimited)
    assert model.num_timesteps == 384
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "checkpoint_000000000000.zip"}
    assert_same_models(learn(tmp_path, resume=True), model)


def test_misuse_and_other_settings_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        learn(tmp_path / "file" / "checkpoints")
    for name in ("save_freq", "keep"):
        with pytest.raises(ValueError, match=f"{name}=0 must be at least 1"):
            ResumableCheckpointCallback(**{name: 0})
    model = MDPO("MlpPolicy", "CartPole-v1", **TINY)
    with pytest.raises(ValueError, match="must be the first callback"):
        model.learn(64, CallbackList([BudgetCallback(), ResumableCheckpointCallback(tmp_path)]))
    with pytest.raises(ValueError, match="no monitor files beside which to put checkpoints: pass save_path"):
        model.learn(64, ResumableCheckpointCallback())
    learn(tmp_path, timesteps=64)
    kept = contents(tmp_path)
    with pytest.raises(ValueError, match="has checkpoints of an earlier training: pass resume=True to resume it"):
        learn(tmp_path, timesteps=64)
    changes = (("batch_size", 16, 8), ("normalize_advantage", True, False), ("stats_window_size", 100, 5))
    for name, before, now in changes:
        other = MDPO("MlpPolicy", "CartPole-v1", **TINY | {name: now})
        with pytest.raises(ValueError, match=f"is from a training with {name}={before}, this one has {name}={now}"):
            other.learn(64, ResumableCheckpointCallback(tmp_path, resume=True))
    wrapped = VecFrameStack(make_vec_env("CartPole-v1", 2), 2)
    with pytest.raises(ValueError, match=r"from a training with env 0:DummyVecEnv, which this one does not have"):
        learn(tmp_path, env=wrapped, resume=True)
    assert contents(tmp_path) == kept
    # What changes no result may be different
    model = MDPO("MlpPolicy", "CartPole-v1", check_finite=False, chunk_size=4, **TINY)
    model.learn(128, ResumableCheckpointCallback(tmp_path, resume=True, verbose=0))
    assert (model.check_finite, model.chunk_size) == (False, 4)


class WithLock(gym.Wrapper):
    """Something that cannot be copied."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.lock = threading.Lock()


def test_environments_that_cannot_be_copied_are_named_and_begin_new_episodes(tmp_path: Path) -> None:
    def run(timesteps: int, **kwargs: Any) -> tuple[MDPO, Any]:
        env = VecNormalize(make_vec_env("CartPole-v1", 2, seed=0, wrapper_class=WithLock))
        with pytest.warns(UserWarning, match=r"not identically: WithLock.lock \(lock\) cannot be copied"):
            return learn(tmp_path, env=env, timesteps=timesteps, **kwargs), env.obs_rms.mean

    _, mean = run(96)
    th.testing.assert_close(run(96, resume=True)[1], mean)
    assert run(160, resume=True)[0].num_timesteps == 160


def test_environments_in_other_processes_begin_new_episodes(tmp_path: Path) -> None:
    for timesteps in (64, 128):
        env = make_vec_env("CartPole-v1", 2, seed=0, vec_env_cls=SubprocVecEnv, vec_env_kwargs={"start_method": "fork"})
        with pytest.warns(UserWarning, match=r"not identically: env are in other processes \(SubprocVecEnv\)"):
            assert learn(tmp_path, env=env, timesteps=timesteps, resume=True).num_timesteps == timesteps
        env.close()


def test_box2d_and_atari_are_named_as_what_cannot_be_copied(tmp_path: Path) -> None:
    gym.register_envs(ale_py)
    with pytest.warns(UserWarning, match=r"not identically: .*LunarLander\.\w+ \(b2World\) cannot be copied"):
        learn(tmp_path / "box2d", env="LunarLander-v3", timesteps=32)
    with pytest.warns(UserWarning, match=r"not identically: .*AtariEnv.ale \(ALEInterface\) cannot be copied"):
        learn(tmp_path / "atari", env=make_vec_env("ALE/Pong-v5", 2, env_kwargs={"obs_type": "ram"}), timesteps=32)


def test_copies_keep_the_layout_in_memory_and_refer_to_objects_by_name() -> None:
    images = np.arange(24).reshape(1, 2, 3, 4).transpose(0, 3, 1, 2)
    live = gym.make("CartPole-v1")
    copy = loads(dumps({"images": images, "env": live, "again": images}, {"the env": live}), {"the env": "found"})
    assert copy["env"] == "found"
    np.testing.assert_array_equal(copy["images"], images)
    assert copy["images"].strides == images.strides
    assert copy["images"] is copy["again"]


VIEWS: list[Callable[[Any], Any]] = [
    lambda base: base[1:3],
    lambda base: base[::-2],
    lambda base: base.reshape(2, 3).T,
    lambda base: base.view(np.uint8)[3:],
    lambda base: base[1:3][1:].reshape(1, 1),
    lambda base: base[:0],
]


@pytest.mark.parametrize("see", VIEWS)
def test_copies_of_views_show_what_is_written_to_their_base(see: Callable[[Any], Any]) -> None:
    base = np.arange(6)
    view = see(base)
    copy = loads(dumps({"view": view, "base": base}, {}), {})
    np.testing.assert_array_equal(copy["view"], view)
    assert (copy["view"].strides, copy["view"].dtype) == (view.strides, view.dtype)
    base += 7
    copy["base"] += 7
    np.testing.assert_array_equal(copy["view"], view)
    repeated = np.broadcast_to(base, (2, 6))
    assert not loads(dumps(repeated, {}), {}).flags.writeable


@pytest.mark.parametrize(
    "make", [lambda: ProcgenVecEnv(3, "starpilot", 4, seed=1), lambda: TexturedGridVecEnv(3, 4, seed=1)]
)
def test_native_environments_go_on_where_others_were(make: Callable[[], VecEnv]) -> None:
    rng = np.random.default_rng(0)
    one, other = make(), make()
    one.reset()
    for _ in range(50):
        one.step(rng.integers(4, size=3))
    restore(other, loads(dumps(state_of(one, frozenset({"metadata"})), {}), {}))
    for _ in range(300):  # long enough for new levels
        actions = rng.integers(4, size=3)
        for mine, theirs in zip(one.step(actions), other.step(actions), strict=True):
            np.testing.assert_equal(mine, theirs)
    one.close()
    other.close()


def test_the_zoos_arguments_survive_being_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = (
        "--algo mdpo --env CartPole-v1 -n 64 -f some/logs --seed 3 --device cpu -P -tags a b -params n_envs:4 "
        "policy_kwargs:dict(net_arch=[8]) --env-kwargs render_mode:'rgb_array' --eval-freq -1 -tb tb"
    )
    seen = []

    def look(args: Any, *_: Any, **__: Any) -> None:
        seen.append(vars(args))
        raise Crash

    monkeypatch.setattr(rl_zoo3.train, "ExperimentManager", look)
    for line in (lambda: typed.split(), lambda: command_line(seen[0])):
        monkeypatch.setattr("sys.argv", ["rl_zoo3 train", *line()])
        with pytest.raises(Crash):
            rl_zoo3.train.train()
    assert seen[0] == seen[1]
    assert seen[0]["hyperparams"] == {"n_envs": 4, "policy_kwargs": {"net_arch": [8]}}
