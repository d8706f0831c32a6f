"""The textured grid: levels, rules, the native environment, the single one, and the zoo."""

import argparse

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st
from rl_zoo3.exp_manager import ExperimentManager
from stable_baselines3.common.env_checker import check_env as check_env_sb3
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecMonitor

from sb3_mdpo import MDPO, StridedCnnPolicy
from sb3_mdpo.callbacks import GeneralizationEvalCallback
from sb3_mdpo.envs import TexturedGridVecEnv, has_levels, make_levels, native_vec_env
from sb3_mdpo.envs.grid_levels import LAYOUTS, levels_of, random_below, random_word
from sb3_mdpo.lab.generalization.trained import open_trained
from tests.support.commands import run

UP, DOWN, LEFT, RIGHT = range(4)
AGENT, GOAL = 255, 0


def cells_of(image: np.ndarray, colour: int) -> list[tuple[int, int]]:
    """The cells that are of this colour all over, as (row, column), found in the picture alone."""
    cells = image.reshape(8, 2, 8, 2, 3).transpose(0, 2, 1, 3, 4)
    return [tuple(cell) for cell in np.argwhere((cells == colour).all(axis=(2, 3, 4))).tolist()]


def towards_goal(image: np.ndarray) -> int:
    """The way that the picture shows."""
    ((row, column),), ((goal_row, goal_column),) = cells_of(image, AGENT), cells_of(image, GOAL)
    if row != goal_row:
        return DOWN if row < goal_row else UP
    return RIGHT if column < goal_column else LEFT


def rollout(env, n_steps: int, seed: int = 0) -> list:
    rng = np.random.default_rng(seed)
    return [env.step(rng.integers(0, 4, env.num_envs)) for _ in range(n_steps)]


def test_random_words_are_splitmix64s():
    # First outputs for the seed 1234567, as in Rosetta Code's test of the generator
    words = random_word(np.array([1234567], np.uint64), np.arange(3, dtype=np.uint64))
    assert words.tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize("limit", [1, 7, 2**31])
def test_random_integers_fill_their_range(limit):
    words = np.array([0, 2**64 - 1], np.uint64)
    assert random_below(words, limit).tolist() == [0, limit - 1]


def test_layouts_are_all_pairs_at_least_four_apart():
    distances = np.abs(LAYOUTS[:, 0] - LAYOUTS[:, 1]).sum(axis=1)
    assert distances.min() == 4
    # Of 64 * 64 ordered pairs, those at distance 0, 1, 2 and 3 are missing
    assert len(LAYOUTS) == 4096 - 64 - 2 * 112 - 2 * (96 + 98) - 2 * (80 + 2 * 84)
    assert len(np.unique(LAYOUTS.reshape(-1, 4), axis=0)) == len(LAYOUTS)


@given(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=20))
def test_a_level_is_a_function_of_its_seed_alone(seeds):
    together = levels_of(np.array(seeds))
    for k, seed in enumerate(seeds):
        for all_, alone in zip(together, levels_of(np.array([seed])), strict=True):
            np.testing.assert_array_equal(all_[k], alone[0])


def test_levels_are_those_of_every_machine_and_version():
    levels = levels_of(np.array([0, 2**31 - 1]))
    assert levels.starts.tolist() == [[5, 2], [0, 2]]
    assert levels.goals.tolist() == [[1, 4], [4, 1]]
    assert levels.scenes[:, 7, 7].tolist() == [[134, 112, 73], [112, 147, 194]]


def test_pictures_show_agent_and_goal_and_nothing_else_in_their_colours():
    levels = levels_of(np.arange(5000))
    shape = (-1, 8, 2, 8, 2, 3)
    goal_pixels = (levels.scenes == GOAL).all(axis=-1)
    assert (goal_pixels.sum(axis=(1, 2)) == 4).all()
    rows, columns = levels.goals.T
    assert (levels.scenes.reshape(shape)[np.arange(5000), rows, :, columns] == GOAL).all()
    background = levels.scenes[~goal_pixels]
    # The full range is used, and stays clear of black and white
    assert (background.min(), background.max()) == (32, 222)


def test_backgrounds_are_tiled_textures_that_differ_between_levels():
    scenes = levels_of(np.arange(1000)).scenes
    tiles = scenes.reshape(1000, 4, 4, 4, 4, 3).transpose(0, 1, 3, 2, 4, 5).reshape(1000, 16, 4, 4, 3)
    # The goal lies in one of the sixteen tiles; the others are the same
    same = (tiles == np.median(tiles, axis=1, keepdims=True)).all(axis=(2, 3, 4))
    assert (same.sum(axis=1) == 15).all()
    assert len(np.unique(np.median(tiles, axis=1).reshape(1000, -1), axis=0)) == 1000


def test_look_and_layout_can_come_from_different_levels():
    looks, layouts = np.array([3, 3, 8]), np.array([3, 8, 3])
    crossed, tied = levels_of(looks, layouts), levels_of(np.array([3, 8, 3]))
    assert crossed.starts.tolist() == tied.starts.tolist()
    assert crossed.goals.tolist() == tied.goals.tolist()
    background = (crossed.scenes != GOAL).any(axis=-1)
    own_looks = levels_of(looks)
    both = background & (own_looks.scenes != GOAL).any(axis=-1)
    np.testing.assert_array_equal(crossed.scenes[both], own_looks.scenes[both])
    assert not np.array_equal(crossed.scenes[0], crossed.scenes[1])


def test_contrast_is_of_the_texture_and_leaves_agent_and_goal_unmistakable():
    def colours(contrast: int) -> np.ndarray:
        scenes = levels_of(np.arange(500), contrast=contrast).scenes
        return scenes[(scenes != GOAL).any(axis=-1)]

    plain, usual, strong = (colours(contrast).astype(int) for contrast in (0, 1, 4))
    assert (plain.min(), plain.max()) == (64, 191)
    np.testing.assert_array_equal(strong, np.clip(plain + 4 * (usual - plain), 1, 254))
    assert (strong.min(), strong.max()) == (1, 254)


def level_seeds(env) -> list[int]:
    """Of a reset."""
    env.reset()
    return [info["level_seed"] for info in env.reset_infos]


def test_moves_and_walls():
    env = TexturedGridVecEnv(1, num_levels=1, start_level=3, seed=0)
    (image,) = env.reset()
    ((row, column),) = cells_of(image, AGENT)
    goal_row, goal_column = levels_of(np.array([3])).goals[0]
    assert cells_of(image, GOAL) == [(goal_row, goal_column)]
    for action, move in ((UP, (-1, 0)), (LEFT, (0, -1)), (DOWN, (1, 0)), (RIGHT, (0, 1))):
        for _ in range(3):
            row, column = min(max(row + move[0], 0), 7), min(max(column + move[1], 0), 7)
            (image,), _, (done,), _ = env.step(np.array([action]))
            assert not done, "choose a level where this way does not cross the goal"
            assert cells_of(image, AGENT) == [(row, column)]


def test_the_goal_ends_the_episode_with_reward_1():
    env = TexturedGridVecEnv(16, seed=0)
    images = env.reset()
    distance = np.abs(env._agents - env._goals).sum(axis=1)
    ended = np.zeros(16, dtype=bool)
    levels = [info["level_seed"] for info in env.reset_infos]
    for step in range(1, 15):
        playing, before = levels, images
        images, rewards, dones, infos = env.step(np.array([towards_goal(image) for image in images]))
        levels = [info["level_seed"] for info in infos]
        for k in np.flatnonzero(~ended):
            assert (rewards[k], bool(dones[k])) == ((1.0, True) if step == distance[k] else (0.0, False))
            assert (infos[k]["is_success"], infos[k]["TimeLimit.truncated"]) == (dones[k], False)
            assert infos[k]["prev_level_seed"] == playing[k]
            assert (levels[k] != playing[k]) == dones[k]
            if dones[k]:
                # The agent stands on what was the goal, and the next level is shown
                assert cells_of(infos[k]["terminal_observation"], AGENT) == cells_of(before[k], GOAL)
                scene, start, _ = (part[0] for part in levels_of(np.array([levels[k]])))
                assert cells_of(images[k], AGENT) == [tuple(start)]
                assert cells_of(images[k], GOAL) == cells_of(scene, GOAL)
        ended |= dones
    assert ended.all()
    assert rewards.dtype == np.float32


def away_from_goal(image: np.ndarray) -> int:
    """A way that never leads to the goal."""
    ((row, column),), ((goal_row, goal_column),) = cells_of(image, AGENT), cells_of(image, GOAL)
    if row != goal_row:
        return UP if row < goal_row else DOWN
    return LEFT if column < goal_column else RIGHT


def test_the_time_limit_is_a_truncation():
    env = TexturedGridVecEnv(16, seed=1)
    images = env.reset()
    for step in range(1, 25):
        images, rewards, dones, infos = env.step(np.array([away_from_goal(image) for image in images]))
        assert not rewards.any()
        assert (dones == (step == 24)).all()
    for image, info in zip(images, infos, strict=True):
        assert info["TimeLimit.truncated"] is True
        assert info["is_success"] is False
        assert info["terminal_observation"].shape == (16, 16, 3)
        assert not np.array_equal(info["terminal_observation"], image)
        assert len(cells_of(info["terminal_observation"], AGENT)) == 1
    # All start anew: nobody is cut off for another 24 steps
    for _ in range(23):
        images, _, dones, _ = env.step(np.array([away_from_goal(image) for image in images]))
        assert not dones.any()


def test_the_goal_at_the_last_step_is_no_truncation():
    env = TexturedGridVecEnv(1, seed=2)
    (image,) = env.reset()
    distance = np.abs(env._agents - env._goals).sum()
    # To and fro on the way until just enough steps are left; 24 - distance must be even
    while distance % 2:
        (image,) = env.reset()
        distance = np.abs(env._agents - env._goals).sum()
    back = {UP: DOWN, DOWN: UP, LEFT: RIGHT, RIGHT: LEFT}
    for _ in range((24 - distance) // 2):
        action = towards_goal(image)
        env.step(np.array([action]))
        (image,), _, (done,), _ = env.step(np.array([back[action]]))
        assert not done
    for _ in range(distance):
        (image,), (reward,), (done,), (info,) = env.step(np.array([towards_goal(image)]))
    assert (reward, done, info["is_success"], info["TimeLimit.truncated"]) == (1.0, True, True, False)


def test_observations_are_not_changed_afterwards():
    env, again = (TexturedGridVecEnv(8, seed=0) for _ in range(2))
    observations = [env.reset(), *(step[0] for step in rollout(env, 30))]
    expected = [again.reset().copy(), *(step[0].copy() for step in rollout(again, 30))]
    np.testing.assert_array_equal(observations, expected)


def test_levels_come_from_the_asked_range_and_all_of_them():
    env = TexturedGridVecEnv(32, num_levels=5, start_level=2**31 - 2, seed=0)
    env.reset()
    counts = np.zeros(5)
    for _, _, dones, infos in rollout(env, 300):
        for idx in np.flatnonzero(dones):
            counts[(infos[idx]["level_seed"] + 2) % 2**31] += 1
    # About 400 episodes, each level as often as another: 3 standard errors
    assert (np.abs(counts / counts.sum() - 0.2) < 3 * np.sqrt(0.2 * 0.8 / counts.sum())).all()
    levels = level_seeds(TexturedGridVecEnv(4096, seed=0))
    assert len(set(levels)) == 4096
    assert max(levels) > 0.99 * 2**31


def layouts_played(env: TexturedGridVecEnv) -> list[tuple[int, ...]]:
    """Start and goal of each environment."""
    return [(*agent, *goal) for agent, goal in zip(env._agents.tolist(), env._goals.tolist(), strict=True)]


def layouts_of(levels: np.ndarray) -> set[tuple[int, ...]]:
    _, starts, goals = levels_of(levels)
    return set(map(tuple, np.hstack([starts, goals]).tolist()))


def test_few_looks_with_all_layouts():
    tied, crossed = (TexturedGridVecEnv(4096, num_levels=3, seed=0, num_layouts=n) for n in (None, 0))
    assert level_seeds(tied) == level_seeds(crossed)
    assert len(set(layouts_played(tied))) == 3
    # The fraction of layouts that 4096 draws are expected to miss is exp(-4096 / number of layouts)
    assert abs(len(set(layouts_played(crossed))) / len(LAYOUTS) - (1 - np.exp(-4096 / len(LAYOUTS)))) < 0.03


def test_layouts_are_drawn_independently_of_looks():
    env = TexturedGridVecEnv(4096, num_levels=3, seed=0, num_layouts=3)
    played = list(zip(level_seeds(env), layouts_played(env), strict=True))
    counts = np.array([played.count(pair) for pair in dict.fromkeys(played)])
    # Each look with each layout equally often: 4 standard errors
    assert len(counts) == 9
    assert (np.abs(counts / 4096 - 1 / 9) < 4 * np.sqrt(1 / 9 * 8 / 9 / 4096)).all()


def test_few_layouts_with_all_looks():
    env = TexturedGridVecEnv(512, seed=0, num_layouts=5)
    assert len(set(level_seeds(env))) == 512
    assert set(layouts_played(env)) == layouts_of(np.arange(5))


def test_layouts_are_those_of_the_first_levels_whichever_looks_are_played():
    env = TexturedGridVecEnv(512, num_levels=2, start_level=1000, seed=0, num_layouts=5)
    assert set(level_seeds(env)) == {1000, 1001}
    assert set(layouts_played(env)) == layouts_of(np.arange(5))


def trajectory(env, seed: int | None) -> np.ndarray:
    if seed is not None:
        env.seed(seed)
    return np.stack([env.reset(), *(step[0] for step in rollout(env, 60))])


def test_seeding():
    env = TexturedGridVecEnv(4, seed=3)
    from_constructor = trajectory(env, None)
    np.testing.assert_array_equal(from_constructor, trajectory(env, 3))
    for other in (4, 2**32 - 1, 2**63 + 1, -1):
        assert not np.array_equal(from_constructor, trajectory(env, other))


def test_which_levels_an_environment_plays_depends_neither_on_the_others_nor_on_how_it_plays():
    def levels(num_envs: int, seed: int) -> list[int]:
        env = TexturedGridVecEnv(num_envs, seed=9)
        played = level_seeds(env)[:1]
        for _, _, dones, infos in rollout(env, 200, seed):
            played += [infos[0]["level_seed"]] if dones[0] else []
        return played[:8]

    first = levels(2, seed=0)
    assert len(set(first)) == 8
    assert first == levels(7, seed=1)


def test_reset_without_a_seed_goes_on_to_new_levels():
    env = TexturedGridVecEnv(8, seed=3)
    first = level_seeds(env)
    rollout(env, 3)
    assert not set(first) & set(level_seeds(env))
    assert [info["prev_level_seed"] for info in env.reset_infos] == first


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_levels": -1}, "num_levels=-1 must be an integer from 0 to 2147483647"),
        ({"num_levels": 2.0}, "num_levels=2.0 must be an integer"),
        ({"start_level": 2**31}, "start_level=2147483648 must be an integer"),
        ({"num_layouts": -1}, "num_layouts=-1 must be an integer from 0 to 2147483647"),
        ({"num_layouts": 0.0}, "num_layouts=0.0 must be an integer"),
        ({"contrast": 9}, "contrast=9 must be an integer from 0 to 8"),
        ({"num_envs": 0}, "num_envs=0 must be at least 1"),
        ({"render_mode": "ascii"}, "render_mode='ascii' is unknown"),
    ],
)
def test_wrong_options_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        TexturedGridVecEnv(**{"num_envs": 1} | kwargs)


@pytest.mark.parametrize("actions", [[0, 4], [-1, 0], [0], [[0, 1]]])
def test_wrong_actions_are_refused(actions):
    env = TexturedGridVecEnv(2, seed=0)
    with pytest.raises(RuntimeError, match=r"call reset\(\) before step\(\)"):
        env.step(np.array([0, 0]))
    env.reset()
    with pytest.raises(ValueError, match=r"(?s)Invalid actions .*: pass 2 integers from 0 to 3"):
        env.step(np.array(actions))


def test_what_it_cannot_do_is_refused():
    env = TexturedGridVecEnv(3)
    assert env.get_attr("num_levels", [0, 2]) == [0, 0]
    assert env.env_is_wrapped(gym.Wrapper) == [False] * 3
    with pytest.raises(AttributeError, match="Cannot set 'num_levels'"):
        env.set_attr("num_levels", 3)
    with pytest.raises(AttributeError, match="Cannot call 'jump'"):
        env.env_method("jump")
    env.close()


def test_pictures_are_enlarged_observations():
    assert TexturedGridVecEnv(2).get_images() == [None, None]
    env = TexturedGridVecEnv(2, seed=0, render_mode="rgb_array")
    enlarged = env.reset().repeat(16, axis=1).repeat(16, axis=2)
    np.testing.assert_array_equal(env.get_images(), enlarged)


@pytest.mark.filterwarnings("error::UserWarning", "ignore:The minimal resolution for an image is 36x36")
def test_single_environments_pass_the_checkers():
    check_env(gym.make("TexturedGrid-v0", num_levels=5, render_mode="rgb_array").unwrapped)
    check_env_sb3(gym.make("TexturedGrid-v0"))


@pytest.mark.parametrize("kwargs", [{}, {"num_layouts": 0, "contrast": 4}])
def test_single_environment_is_the_same_game_as_the_native_one(kwargs):
    single = gym.make("TexturedGrid-v0", num_levels=50, start_level=7, render_mode="rgb_array", **kwargs)
    native = TexturedGridVecEnv(1, num_levels=50, start_level=7, seed=11, **kwargs)
    observation, info = single.reset(seed=11)
    np.testing.assert_array_equal(observation, native.reset()[0])
    assert info == native.reset_infos[0]
    endings = set()
    for _ in range(40):
        done = False
        while not done:
            # A policy that sometimes succeeds
            action = towards_goal(observation) if single.np_random.random() < 0.5 else single.np_random.integers(4)
            observation, reward, terminated, truncated, info = single.step(action)
            (following,), (expected,), (done,), (native_info,) = native.step(np.array([action]))
            assert (reward, terminated or truncated) == (expected, done)
            assert (truncated, info["is_success"]) == (native_info["TimeLimit.truncated"], native_info["is_success"])
            assert info["level_seed"] == native_info["prev_level_seed"]
            np.testing.assert_array_equal(observation, native_info["terminal_observation"] if done else following)
            np.testing.assert_array_equal(single.render()[::16, ::16], observation)
        endings.add((terminated, truncated))
        with pytest.raises(RuntimeError, match="The episode is over"):
            single.step(0)
        observation, info = single.reset()
        np.testing.assert_array_equal(observation, following)
        assert info["level_seed"] == native_info["level_seed"]
    assert endings == {(True, False), (False, True)}


def test_unseeded_single_environments_differ_and_can_be_reset_early():
    first, second = gym.make("TexturedGrid-v0"), gym.make("TexturedGrid-v0")
    levels = [env.reset()[1]["level_seed"] for env in (first, second, first)]
    assert len(set(levels)) == 3


def test_it_has_levels_and_an_engine():
    assert has_levels("TexturedGrid-v0")
    env = make_levels("TexturedGrid-v0", 3, seed=0, num_levels=9, start_level=2)
    assert isinstance(env, VecMonitor)
    assert isinstance(env.unwrapped, TexturedGridVecEnv)
    assert (env.num_envs, env.unwrapped.num_levels, env.unwrapped.start_level) == (3, 9, 2)


def test_single_environments_are_swapped_for_a_native_one():
    kwargs = {"num_levels": 7, "start_level": 2, "num_layouts": 5, "contrast": 2}
    env = native_vec_env(make_vec_env("TexturedGrid-v0", n_envs=3, seed=5, env_kwargs=kwargs))
    assert isinstance(env.unwrapped, TexturedGridVecEnv)
    assert (env.num_envs, env.unwrapped.env_kwargs, env.unwrapped.render_mode) == (3, kwargs, "rgb_array")
    np.testing.assert_array_equal(env.reset(), TexturedGridVecEnv(3, seed=5, **kwargs).reset())


def test_the_zoo_trains_it_natively_and_evaluates_on_unseen_levels(tmp_path):
    result = run(
        "rl_zoo3 train --algo mdpo --env TexturedGrid-v0 -n 2048 -params n_steps:16 batch_size:256 n_epochs:1 "
        "--eval-freq 1024 --eval-episodes 10 --n-eval-envs 4 --vec-env subproc --seed 3 --num-threads 1 --device cpu",
        cwd=tmp_path,
        env={"COLUMNS": "200"},
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert "--vec-env subproc has no effect" in result.stdout
    folder = tmp_path / "logs" / "mdpo" / "TexturedGrid-v0_1"
    trained = open_trained(folder)
    assert isinstance(trained.model, MDPO)
    assert isinstance(trained.model.policy.members[1], StridedCnnPolicy)
    assert (trained.env_id, trained.env_kwargs) == ("TexturedGrid-v0", {"num_levels": 400, "start_level": 0})
    assert trained.model.num_timesteps == 2048
    # One file of episodes for all 64 environments: they ran natively
    assert [path.name for path in folder.glob("*monitor.csv")] == ["monitor.csv"]
    with np.load(folder / "evaluations.npz") as data:
        assert data["timesteps"].tolist() == [1024, 2048]
        assert set(data["results"].ravel()) <= {0.0, 1.0}
        assert data["successes"].shape == (2, 10)


def test_the_zoos_two_sets_of_levels(tmp_path):
    manager = ExperimentManager(
        argparse.Namespace(), "mdpo", "TexturedGrid-v0", str(tmp_path), device="cpu", verbose=0, n_eval_envs=3
    )
    model, _ = manager.setup_experiment()
    envs = [model.get_env().unwrapped, manager.callbacks[-1].eval_env.unwrapped]
    assert [type(env) for env in envs] == [TexturedGridVecEnv] * 2
    assert [(env.num_envs, env.num_levels, env.start_level) for env in envs] == [(64, 400, 0), (3, 0, 0)]
    assert manager.deterministic_eval is False


def test_the_evaluation_during_training_is_on_new_looks_with_the_layouts_of_the_training(tmp_path):
    made = []

    def make_env(n_envs: int, seed: int, **kwargs):
        made.append(kwargs)
        return make_levels("TexturedGrid-v0", n_envs, seed, **kwargs)

    env = make_levels("TexturedGrid-v0", 4, seed=0, num_levels=3, num_layouts=0, contrast=4)
    callback = GeneralizationEvalCallback(10**6, 4, 4, make_env=make_env, log_path=tmp_path, verbose=0)
    MDPO("StridedCnnPolicy", env, n_steps=8, batch_size=16, n_epochs=1, device="cpu").learn(32, callback=callback)
    looks = [kwargs["num_levels"] for kwargs in made]
    assert looks == [3, 0] * 3 * 2  # two policies and their ensemble, before and after training
    assert all((kwargs["num_layouts"], kwargs["contrast"]) == (0, 4) for kwargs in made)


def test_the_zoos_other_arguments_are_those_of_both_sets_of_levels(tmp_path):
    kwargs = {"num_levels": 5, "num_layouts": 0, "contrast": 4}
    manager = ExperimentManager(
        argparse.Namespace(), "mdpo", "TexturedGrid-v0", str(tmp_path), device="cpu", verbose=0, env_kwargs=kwargs
    )
    model, _ = manager.setup_experiment()
    envs = [model.get_env().unwrapped, manager.callbacks[-1].eval_env.unwrapped]
    expected = kwargs | {"start_level": 0}
    assert [env.env_kwargs for env in envs] == [expected, expected | {"num_levels": 0}]
