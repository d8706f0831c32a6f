"""Real Procgen: the native vectorised environment, the single one, their ids and options."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_sb3
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecMonitor

import sb3_mdpo.envs  # noqa: F401  (registers the ids)
from sb3_mdpo import MDPO
from sb3_mdpo.envs import ProcgenVecEnv, native_vec_env
from sb3_mdpo.envs.procgen_options import GAMES, GAMES_OF_MODE, ProcgenOptions
from tests.support.commands import run
from tests.support.helpers import assert_same_parameters
from tests.support.training import small

SMALL = {"features_extractor_kwargs": {"channels": (4, 4), "features_dim": 8}}

MODES_OF_GAMES = """
from sb3_mdpo.envs import ProcgenVecEnv
from sb3_mdpo.envs.procgen_options import GAMES_OF_MODE
for mode, games in GAMES_OF_MODE.items():
    for game in games:
        env = ProcgenVecEnv(2, game, distribution_mode=mode, num_threads=0, seed=0)
        assert env.reset().shape == (2, 64, 64, 3)
        env.close()
print("all started")
"""


@pytest.fixture
def procgen() -> Iterator[Callable[..., ProcgenVecEnv]]:
    """Makes environments that are closed after the test."""
    envs = []
    yield lambda *args, **kwargs: envs.append(ProcgenVecEnv(*args, **kwargs)) or envs[-1]
    for env in envs:
        env.close()


def walk_right(env, n_steps: int) -> Iterator[tuple]:
    """Reward, done and info of every environment at every step of a run to the right that sometimes jumps."""
    right = np.random.default_rng(0)
    env.reset()
    for _ in range(n_steps):
        _, rewards, dones, infos = env.step(np.where(right.random(env.num_envs) < 0.5, 7, 8))
        yield from zip(rewards, dones, infos, strict=True)


def rollout(env, n_steps: int, seed: int = 0) -> list:
    rng = np.random.default_rng(seed)
    return [env.step(rng.integers(0, 15, env.num_envs)) for _ in range(n_steps)]


def test_all_games_start_in_all_of_their_modes(tmp_path):
    """In a process of their own: the engine ends the process at a mode that a game does not have."""
    assert [len(games) for games in GAMES_OF_MODE.values()] == [16, 16, 4, 6, 8]
    (tmp_path / "start.py").write_text(MODES_OF_GAMES)
    result = run("python start.py", cwd=tmp_path)
    assert result.stdout == "all started\n", result.stderr


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"env_name": "pong"}, "Procgen has no game 'pong': use one of bigfish"),
        ({"distribution_mode": "medium"}, "Procgen has no distribution_mode 'medium': use one of easy, hard"),
        ({"env_name": "bigfish", "distribution_mode": "extreme"}, "bigfish has no distribution_mode 'extreme'"),
        ({"distribution_mode": "memory"}, "coinrun has no distribution_mode 'memory' .* easy, hard, exploration"),
        ({"num_levels": -1}, "num_levels=-1 must be an integer from 0 to 2147483647"),
        ({"start_level": 2**31}, "start_level=2147483648 must be an integer"),
        ({"num_envs": 0}, "num_envs=0 must be at least 1"),
        ({"num_threads": -1}, "num_threads=-1 must not be negative"),
        ({"render_mode": "ascii"}, "render_mode='ascii' is unknown"),
        ({"distribution_mode": "exploration", "num_levels": 3}, "one level that Procgen chooses"),
    ],
)
def test_wrong_options_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ProcgenVecEnv(**{"num_envs": 1, "env_name": "coinrun"} | kwargs)


def test_unknown_options_are_refused():
    with pytest.raises(TypeError, match="use_background"):
        ProcgenVecEnv(1, "coinrun", use_background=False)


@pytest.mark.parametrize(
    "option",
    [
        *("use_sequential_levels", "center_agent", "use_backgrounds", "use_monochrome_assets", "restrict_themes"),
        *("use_generated_assets", "paint_vel_info"),
    ],
)
def test_every_drawing_option_reaches_the_engine(option, procgen):
    def images(**options) -> np.ndarray:
        env = procgen(8, "coinrun", seed=0, num_threads=0, **options)
        first = env.reset()
        return np.concatenate([first, *(step[0] for step in rollout(env, 60))])

    changed = not getattr(ProcgenOptions("coinrun"), option)
    same = np.array_equal(images(), images(**{option: changed}))
    # Sixty random steps reach no coin, which is where this one makes a difference: see the next test
    assert same == (option == "use_sequential_levels")


def test_sequential_levels_follow_each_other_within_an_episode(procgen):
    def ends_at_coins(**options) -> list[bool]:
        env = procgen(64, "coinrun", distribution_mode="easy", num_levels=50, seed=0, **options)
        return [bool(done) for reward, done, _ in walk_right(env, 200) if reward]

    sequential, usual = ends_at_coins(use_sequential_levels=True), ends_at_coins()
    assert sequential
    assert usual
    assert not all(sequential)
    assert all(usual)


def test_levels_come_from_the_asked_range(procgen):
    env = procgen(32, "starpilot", num_levels=5, start_level=100, distribution_mode="easy", seed=0)
    env.reset()
    infos = [info for _, _, _, infos in rollout(env, 200) for info in infos]
    assert {info["level_seed"] for info in infos} == set(range(100, 105))
    unlimited = procgen(32, "starpilot", seed=0)
    unlimited.reset()
    assert len({info["level_seed"] for info in unlimited.reset_infos}) == 32


def test_vec_env_interface():
    env = VecMonitor(ProcgenVecEnv(4, "fruitbot", distribution_mode="easy", num_levels=10, seed=0))
    assert env.observation_space == gym.spaces.Box(0, 255, (64, 64, 3), np.uint8)
    assert env.action_space == gym.spaces.Discrete(15)
    first = env.reset()
    episodes = []
    for obs, rewards, dones, infos in rollout(env, 400):
        assert obs.shape == first.shape == (4, 64, 64, 3)
        assert (obs.dtype, first.dtype, rewards.dtype, dones.dtype) == (np.uint8, np.uint8, np.float32, bool)
        assert [("episode" in info, "terminal_observation" in info) for info in infos] == [
            (done, False) for done in dones
        ]
        episodes += [info["episode"]["l"] for info in infos if "episode" in info]
    assert len(episodes) >= 4
    assert min(episodes) > 0
    assert env.env_is_wrapped(gym.Wrapper) == [False] * 4
    assert env.get_attr("num_threads", [0, 2]) == [4, 4]
    with pytest.raises(AttributeError, match="Cannot set 'gravity'"):
        env.set_attr("gravity", 1)
    env.close()
    env.close()  # twice does no harm
    with pytest.raises(RuntimeError, match=r"call reset\(\) before step\(\)"):
        env.step(np.zeros(4, dtype=int))
    with pytest.raises(RuntimeError, match=r"call seed\(\) before reset\(\)"):
        env.reset()


def test_is_success_marks_completed_levels(procgen):
    outcomes = set()
    for reward, done, info in walk_right(procgen(64, "coinrun", distribution_mode="easy", seed=0), 300):
        assert done or not info["is_success"]
        if done:
            outcomes.add((bool(reward > 0), info["is_success"]))
    assert outcomes == {(True, True), (False, False)}


def trajectory(env, seed: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Observations and rewards."""
    if seed is not None:
        env.seed(seed)
    first, steps = env.reset(), rollout(env, 80)
    return np.stack([first, *(step[0] for step in steps)]), np.stack([step[1] for step in steps])


def test_seeding(procgen):
    env = procgen(4, "bigfish", seed=3, num_threads=2)
    from_constructor = trajectory(env)
    np.testing.assert_equal(trajectory(env, 3), from_constructor)
    for other in (4, 2**32 - 1):
        assert not np.array_equal(trajectory(env, other)[0][0], from_constructor[0][0])


def test_reset_without_a_seed_goes_on_to_new_levels(procgen):
    env = procgen(8, "bigfish", seed=3)
    env.reset()
    first = {info["level_seed"] for info in env.reset_infos}
    rollout(env, 3)
    env.reset()
    assert not first & {info["level_seed"] for info in env.reset_infos}
    _, _, dones, _ = env.step(np.full(8, 4))
    assert not dones.any()


@pytest.mark.parametrize("game", ["coinrun", "starpilot", "miner"])
def test_pictures_are_the_engines_own_pixel_by_pixel(game, procgen):
    env = procgen(2, game, seed=5, num_threads=0, render_mode="rgb_array")
    env.reset()
    drawing = ProcgenOptions(game).engine(2, seed=5, num_threads=0, render=True)
    rng = np.random.default_rng(0)
    for _ in range(40):
        actions = rng.integers(0, 15, 2).astype(np.int32)
        observations = env.step(actions)[0]
        drawing.act(actions)
        np.testing.assert_array_equal(observations, drawing.observe()[1]["rgb"])
        for ours, info in zip(env.get_images(), drawing.get_info(), strict=True):
            np.testing.assert_array_equal(ours, info["rgb"])
    # SB3 tiles the pictures of all environments
    assert env.render("rgb_array").shape == (1024, 512, 3)


def test_pictures_of_generated_assets_are_enlarged_observations(procgen):
    env = procgen(1, "coinrun", use_generated_assets=True, seed=0, render_mode="rgb_array")
    observation = env.reset()[0]
    (picture,) = env.get_images()
    assert picture.shape == (512, 512, 3)
    np.testing.assert_array_equal(picture[::8, ::8], observation)


@pytest.mark.parametrize("env_id", ["procgen-coinrun-easy-v0", "procgen-starpilot-extreme-v0"])
@pytest.mark.filterwarnings("error::UserWarning")
def test_single_environments_pass_the_checkers(env_id):
    check_env(gym.make(env_id, render_mode="rgb_array").unwrapped)
    check_env_sb3(gym.make(env_id))


def test_single_environment_is_the_same_game_as_the_native_one(procgen):
    single = gym.make("procgen-bigfish-hard-v0", num_levels=50)
    native = procgen(1, "bigfish", num_levels=50, seed=11, num_threads=0)
    observation, _ = single.reset(seed=11)
    np.testing.assert_array_equal(observation, native.reset()[0])
    for action in np.random.default_rng(0).integers(0, 15, 100):
        observation, reward, terminated, truncated, info = single.step(action)
        expected = native.step(np.array([action]))
        assert (reward, terminated, truncated) == (expected[1][0], expected[2][0], False)
        assert info == expected[3][0]
        if terminated:
            observation, _ = single.reset()
        np.testing.assert_array_equal(observation, expected[0][0])


def test_ids():
    registered = {env_id for env_id in gym.registry if env_id.startswith("procgen-")}
    with_mode = {f"procgen-{game}-{mode}-v0" for mode, games in GAMES_OF_MODE.items() for game in games}
    assert registered == with_mode | {f"procgen-{game}-v0" for game in GAMES}
    assert gym.spec("procgen-maze-v0").kwargs["distribution_mode"] == "hard"
    env = gym.make("procgen-maze-v0")
    assert env.unwrapped.gym_env.options == ProcgenOptions("maze", num_levels=0, distribution_mode="hard")


def test_imports_print_nothing_and_procgen_is_optional():
    """In a new interpreter: first without Procgen, then with it. Only the two errors are printed."""
    code = """
import sys
sys.modules["procgen"] = None  # what an import of a missing package looks like
from sb3_mdpo import MDPO
import gymnasium as gym
MDPO("MlpPolicy", "CartPole-v1", n_steps=16, batch_size=16).learn(32)
from sb3_mdpo.envs import ProcgenVecEnv
for make in (lambda: ProcgenVecEnv(2, "coinrun"), lambda: gym.make("procgen-coinrun-hard-v0")):
    try:
        make()
    except ImportError as error:
        print(error)
del sys.modules["procgen"]
env = gym.make("procgen-coinrun-v0")
env.reset(seed=0)
env.step(0)
"""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, "SB3_MDPO_NO_ZOO_HOOK": "1"}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    message = (
        "Procgen is not installed: run pip install 'sb3-mdpo[procgen]'. There are wheels for "
        "Python 3.10 (procgen), 3.11 and 3.12 (procgen-mirror), and none for later versions."
    )
    assert (result.stdout.splitlines(), result.stderr, result.returncode) == ([message] * 2, "", 0)


def test_single_environments_are_swapped_for_a_native_one(procgen, tmp_path):
    options = {"num_levels": 7, "use_backgrounds": False}
    singles = make_vec_env("procgen-chaser-easy-v0", n_envs=3, seed=5, env_kwargs=options, monitor_dir=str(tmp_path))
    assert len(list(tmp_path.iterdir())) == 3
    env = native_vec_env(singles, num_threads=1)
    native = env.unwrapped
    assert isinstance(env, VecMonitor)
    assert isinstance(native, ProcgenVecEnv)
    assert (native.num_envs, native.num_threads, native.render_mode) == (3, 1, "rgb_array")
    assert native.options == ProcgenOptions("chaser", distribution_mode="easy", **options)
    expected = procgen(3, "chaser", distribution_mode="easy", seed=5, **options)
    np.testing.assert_array_equal(env.reset(), expected.reset())
    assert [path.name for path in tmp_path.iterdir()] == ["monitor.csv"]
    env.close()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"wrapper_class": lambda env: gym.wrappers.TransformReward(env, abs)}, "wrappers .'TransformReward'"),
        ({"env_kwargs": {"max_episode_steps": 7}}, "max_episode_steps=7"),
    ],
)
def test_what_the_native_environment_cannot_have_is_refused_rather_than_dropped(kwargs, message):
    singles = make_vec_env("procgen-chaser-easy-v0", n_envs=2, **kwargs)
    with pytest.raises(ValueError, match=f"The native engine of procgen-chaser-easy-v0 does not support the {message}"):
        native_vec_env(singles)


def test_an_engine_can_be_collected_while_another_one_is_made():
    env = ProcgenVecEnv(1, "bigfish", seed=0, num_threads=0)
    env.reset()
    with env._engine._ffi._lock:  # as the other one holds it
        closing = threading.Thread(target=env.close, daemon=True)
        closing.start()
        closing.join(20)
        assert not closing.is_alive()


def test_engines_share_the_library_that_they_are_in():
    _, second, third = (ProcgenOptions("coinrun").engine(1, seed=0, num_threads=0) for _ in range(3))
    assert second._c_lib is third._c_lib


def test_other_environments_are_not_swapped():
    env = make_vec_env("CartPole-v1", n_envs=2)
    assert native_vec_env(env) is env


def train(env: Any, **kwargs: Any) -> MDPO:
    return small(MDPO, env, "ImpalaCnnPolicy", policy_kwargs=SMALL, **kwargs).learn(128)


def test_mdpo_trains_on_copies_of_a_single_environment():
    assert train("procgen-coinrun-easy-v0").n_envs == 2


def test_two_runs_on_procgen_with_one_seed_are_identical(procgen):
    first, second = (train(VecMonitor(procgen(4, "starpilot", num_levels=10, num_threads=2)), seed=4) for _ in range(2))
    assert_same_parameters(first.policy, second.policy)
