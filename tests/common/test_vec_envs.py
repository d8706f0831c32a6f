"""SB3's vectorised environments and their wrappers do around MDPO what they do around PPO."""

import warnings
from functools import partial
from itertools import count
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor, load_results
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecCheckNan,
    VecEnv,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
    VecVideoRecorder,
    is_vecenv_wrapped,
    sync_envs_normalization,
)

from sb3_mdpo import MDPO
from tests.support.envs import maker
from tests.support.helpers import assert_same_parameters, both, collect
from tests.support.training import N_ENVS, ROLLOUT, EachStep, cartpole, remember_steps, small, small_silent

VECTOR = spaces.Box(-1, 1, (2,))
BUTTONS = spaces.Discrete(2)
CHANNELS_LAST = spaces.Box(0, 255, (36, 36, 3), np.uint8)
CHANNELS_FIRST = spaces.Box(0, 255, (3, 36, 36), np.uint8)


def random_env(observation_space: spaces.Space, action_space: spaces.Space = BUTTONS, n_envs: int = N_ENVS) -> VecEnv:
    return DummyVecEnv([maker(observation_space, action_space)] * n_envs)


def unwrapped_cartpoles() -> VecEnv:
    return DummyVecEnv([partial(gym.make, "CartPole-v1")] * N_ENVS)


def same_statistics(one: VecNormalize, other: VecNormalize) -> bool:
    pairs = [(one.obs_rms, other.obs_rms), (one.ret_rms, other.ret_rms)]
    return all(
        np.array_equal(getattr(a, name), getattr(b, name)) for a, b in pairs for name in ("mean", "var", "count")
    )


@both
def test_normalize_gives_normalised_observations_and_rewards(algorithm):
    env = VecNormalize(cartpole())

    def look(local_variables: dict[str, Any]) -> None:
        original = env.get_original_obs()
        np.testing.assert_allclose(local_variables["new_obs"], env.normalize_obs(original), rtol=1e-5)
        assert not np.allclose(local_variables["new_obs"], original)
        assert (env.get_original_reward() == 1).all()
        np.testing.assert_allclose(local_variables["rewards"], env.normalize_reward(np.ones(N_ENVS)), rtol=1e-5)
        assert not (local_variables["rewards"] == 1).any()

    callback = EachStep(look)
    model = small(algorithm, env).learn(2 * ROLLOUT, callback=callback)
    assert len(callback.steps) == 32
    assert env.obs_rms.count == pytest.approx(33 * N_ENVS, abs=0.01)  # every step and the first reset
    # Monitor is inside: returns are logged as they are
    assert [episode["r"] for episode in model.ep_info_buffer] == [episode["l"] for episode in model.ep_info_buffer]
    # No episode reaches its time limit, at which a value would be added
    if algorithm is MDPO:  # PPO's buffer is in another order by now
        last = {name: np.stack([step[name] for step in callback.steps[16:]]) for name in ("new_obs", "rewards")}
        np.testing.assert_allclose(model.rollout_buffer.observations[1:], last["new_obs"][:-1])
        np.testing.assert_allclose(model.rollout_buffer.rewards, last["rewards"], rtol=1e-6)


@both
def test_normalize_is_found_and_follows_the_environment(algorithm):
    outer = VecFrameStack(VecNormalize(VecMonitor(unwrapped_cartpoles())), 2)
    model = small(algorithm, outer)
    assert model.get_vec_normalize_env() is outer.venv
    assert small(algorithm).get_vec_normalize_env() is None
    other = VecFrameStack(VecNormalize(cartpole(), training=False), 2)
    model.set_env(other)
    assert model.get_vec_normalize_env() is other.venv
    model.learn(ROLLOUT)
    assert other.venv.obs_rms.count == pytest.approx(0, abs=0.01)


@both
def test_statistics_are_saved_and_loaded_with_the_model(algorithm, tmp_path):
    env = VecNormalize(cartpole(), clip_obs=5.0)
    model = small(algorithm, env).learn(4 * ROLLOUT)
    model.save(tmp_path / "model")
    env.save(str(tmp_path / "statistics.pkl"))

    statistics = VecNormalize.load(str(tmp_path / "statistics.pkl"), cartpole())
    assert same_statistics(statistics, env)
    assert statistics.clip_obs == 5.0
    loaded = algorithm.load(tmp_path / "model", env=statistics)
    assert loaded.get_vec_normalize_env() is statistics
    # Both play the same episodes
    for environment in (env, statistics):
        environment.training = False
        environment.seed(3)
    expected, actual = (
        evaluate_policy(one, one.get_env(), n_eval_episodes=4, return_episode_rewards=True) for one in (model, loaded)
    )
    assert actual == expected
    # Without the statistics the observations would be others
    raw = cartpole().reset()
    assert not np.allclose(statistics.normalize_obs(raw), VecNormalize(cartpole()).normalize_obs(raw))
    statistics.training = True
    count = statistics.obs_rms.count
    loaded.learn(ROLLOUT, reset_num_timesteps=False)
    assert statistics.obs_rms.count > count


@both
def test_evaluation_gets_the_statistics_of_training_and_needs_a_wrapper_for_them(algorithm):
    env = VecNormalize(cartpole())
    eval_env = VecNormalize(cartpole(2), training=False, norm_reward=False)
    # After the last step of training
    evaluation = EvalCallback(eval_env, eval_freq=32, n_eval_episodes=2, verbose=0)
    model = small(algorithm, env).learn(2 * ROLLOUT, callback=evaluation)
    assert same_statistics(env, eval_env)
    # The rewards of the evaluation are not normalised
    assert evaluation.last_mean_reward >= 8
    model.learn(ROLLOUT)
    assert not same_statistics(env, eval_env)
    sync_envs_normalization(model.get_env(), eval_env)
    assert same_statistics(env, eval_env)
    with (
        pytest.warns(UserWarning, match="not of the same type"),
        pytest.raises(AssertionError, match="not being wrapped the same way"),
    ):
        model.learn(ROLLOUT, callback=EvalCallback(cartpole(1), eval_freq=4, verbose=0))


@both
def test_monitor_around_all_environments(algorithm, tmp_path):
    env = VecMonitor(unwrapped_cartpoles(), str(tmp_path / "monitor"))
    callback = EachStep()
    model = small_silent(algorithm, env, stats_window_size=1000)
    model.learn(8 * ROLLOUT, callback=callback, log_interval=1000)
    episodes = [info["episode"] for step in callback.steps for info in step["infos"] if "episode" in info]
    assert list(model.ep_info_buffer) == episodes
    table = load_results(str(tmp_path))
    assert sorted(table["r"]) == sorted(episode["r"].item() for episode in episodes)
    assert sorted(table["l"]) == sorted(episode["l"] for episode in episodes)
    # What evaluate_policy() wants to see
    assert is_vecenv_wrapped(model.get_env(), VecMonitor)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert evaluate_policy(model, env, n_eval_episodes=2, warn=True)[0] > 0


@both
@pytest.mark.parametrize(
    ("policy", "space", "order", "stacked", "seen_by_the_model"),
    [
        ("MlpPolicy", spaces.Box(-1, 1, (3,)), None, (9,), (9,)),
        ("CnnPolicy", CHANNELS_FIRST, "first", (9, 36, 36), (9, 36, 36)),
        # SB3 puts a VecTransposeImage around it
        ("CnnPolicy", CHANNELS_LAST, "last", (36, 36, 9), (9, 36, 36)),
    ],
    ids=["vectors", "channels-first", "channels-last"],
)
def test_stacked_frames(algorithm, policy, space, order, stacked, seen_by_the_model):
    env = VecFrameStack(random_env(space), 3, channels_order=order)
    assert env.observation_space.shape == stacked
    policy_kwargs = {"features_extractor_kwargs": {"features_dim": 8}} if policy == "CnnPolicy" else {}
    model, callback = small(algorithm, env, policy, policy_kwargs=policy_kwargs), EachStep()
    model.learn(ROLLOUT, callback=callback)
    assert model.observation_space.shape == seen_by_the_model
    observations = np.stack([step["obs_tensor"].numpy() for step in callback.steps])
    assert observations.shape == (16, N_ENVS, *seen_by_the_model)
    if algorithm is MDPO:
        np.testing.assert_array_equal(model.rollout_buffer.observations, observations)
    # Channels are the first axis for the model; a new frame moves the others on, an episode begins with empty ones
    oldest, middle, newest = np.split(observations, 3, axis=2)
    begins = np.stack([step["dones"] for step in callback.steps[:-1]])
    assert begins.any()
    np.testing.assert_array_equal(middle[1:][~begins], newest[:-1][~begins])
    np.testing.assert_array_equal(oldest[1:][~begins], middle[:-1][~begins])
    assert not middle[1:][begins].any()
    assert not oldest[0].any()
    assert model.predict(env.reset())[0].shape == (N_ENVS,)


@both
@pytest.mark.parametrize(
    ("policy", "space"),
    [
        ("CnnPolicy", CHANNELS_LAST),
        ("MultiInputPolicy", spaces.Dict({"image": CHANNELS_LAST, "vector": VECTOR})),
    ],
)
def test_images_with_channels_last_are_transposed(algorithm, policy, space):
    inner, callback = random_env(space), EachStep()
    given = remember_steps(inner)
    model = small(algorithm, inner, policy, policy_kwargs={})
    env = model.get_env()
    assert isinstance(env, VecTransposeImage)
    is_dict = isinstance(space, spaces.Dict)
    expected = CHANNELS_FIRST if not is_dict else spaces.Dict({"image": CHANNELS_FIRST, "vector": VECTOR})
    assert model.observation_space == env.observation_space == expected
    model.learn(ROLLOUT, callback=callback)

    def images(observations: list[Any]) -> np.ndarray:
        return np.stack([observation["image"] if is_dict else observation for observation in observations])

    seen = images([step["new_obs"] for step in callback.steps])
    np.testing.assert_array_equal(seen, images([step[0] for step in given]).transpose(0, 1, 4, 2, 3))
    if algorithm is MDPO:
        stored = model.rollout_buffer.observations
        np.testing.assert_array_equal((stored["image"] if is_dict else stored)[1:], seen[:-1])


@both
def test_images_with_channels_first_are_left_alone(algorithm):
    model = small(algorithm, random_env(CHANNELS_FIRST), "CnnPolicy", policy_kwargs={})
    assert not is_vecenv_wrapped(model.get_env(), VecTransposeImage)
    # Ten channels look like a height; SB3's way out is a wrapper that does nothing
    tall = spaces.Box(0, 255, (40, 36, 36), np.uint8)
    skipping = VecTransposeImage(random_env(tall), skip=True)
    assert small(algorithm, skipping, "CnnPolicy", policy_kwargs={}).learn(ROLLOUT).observation_space == tall


def turns_nan() -> gym.Env:
    """A NaN is in the fifth observation after the first one."""
    seen = count()
    env = gym.make("CartPole-v1")
    return gym.wrappers.TransformObservation(env, lambda obs: obs if next(seen) < 5 else obs * np.nan, None)


@both
def test_check_nan_stops_training_where_the_nan_is(algorithm):
    sound = VecCheckNan(make_vec_env("Pendulum-v1", n_envs=2), raise_exception=True)
    assert small(algorithm, sound).learn(32).num_timesteps == 32
    model = small(algorithm, VecCheckNan(DummyVecEnv([turns_nan] * 2), raise_exception=True))
    with pytest.raises(ValueError, match=r"found nan in observations"):
        model.learn(32)
    assert model.num_timesteps == 4 * 2


@both
@pytest.mark.filterwarnings("ignore:pkg_resources is deprecated")
def test_videos_are_recorded_while_learning(algorithm, tmp_path):
    env = VecNormalize(cartpole(2, env_kwargs={"render_mode": "rgb_array"}))
    recorder = VecVideoRecorder(
        env, str(tmp_path), record_video_trigger=lambda step: step % 20 == 0, video_length=5, name_prefix="agent"
    )
    model = small(algorithm, recorder).learn(64)
    recorder.close()
    assert model.get_vec_normalize_env() is env
    names = ["agent-step-0-to-step-5.mp4", "agent-step-20-to-step-25.mp4"]
    assert sorted(path.name for path in tmp_path.glob("*.mp4")) == names
    assert all((tmp_path / name).stat().st_size > 500 for name in names)


@both
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_subprocesses_give_the_same_weights(algorithm, env_id):
    models = []
    for vec_env_cls in (DummyVecEnv, SubprocVecEnv):
        env = make_vec_env(env_id, n_envs=2, vec_env_cls=vec_env_cls)
        models.append(small(algorithm, env).learn(128))
        env.close()
    assert_same_parameters(models[1].policy, models[0].policy)
    first, second = ([(episode["r"], episode["l"]) for episode in model.ep_info_buffer] for model in models)
    assert first == second


class Counting(gym.Wrapper):
    """Has something to ask for, to set and to call."""

    level = 0

    def harder(self, by: int) -> int:
        self.level += by
        return self.level


@both
@pytest.mark.parametrize("vec_env_cls", [DummyVecEnv, SubprocVecEnv])
def test_environments_can_be_asked_and_changed_through_the_model(algorithm, vec_env_cls):
    model = small(algorithm, VecNormalize(cartpole(wrapper_class=Counting, vec_env_cls=vec_env_cls))).learn(ROLLOUT)
    env = model.get_env()
    assert env.env_method("harder", 2, indices=[1, 3]) == [2, 2]
    assert env.get_attr("level") == [0, 2, 0, 2]
    env.set_attr("level", 7, indices=0)
    assert env.get_attr("level", indices=[0, 1]) == [7, 2]
    assert env.env_is_wrapped(Monitor) == [True] * N_ENVS
    model.learn(ROLLOUT, reset_num_timesteps=False)
    assert env.get_attr("level") == [7, 2, 0, 2]
    env.close()


def test_the_copies_made_of_an_id_can_be_asked_as_well():
    env = small(env="CartPole-v1", n_policies=3).get_env()
    assert [spec.id for spec in env.get_attr("spec")] == ["CartPole-v1"] * 3
    assert env.env_is_wrapped(Monitor) == [True] * 3
    env.env_method("set_wrapper_attr", "gravity", 1.0, indices=1)
    assert [inner.unwrapped.gravity for inner in env.envs] == [9.8, 1.0, 9.8]


@both
@pytest.mark.parametrize(
    ("observation_space", "action_space", "message"),
    [
        (spaces.Box(-1, 1, (3,)), BUTTONS, "Observation spaces do not match"),
        (spaces.Box(-2, 1, (2,)), BUTTONS, "Observation spaces do not match"),
        (VECTOR, spaces.Discrete(3), "Action spaces do not match"),
        (VECTOR, spaces.Box(-1, 1, (1,)), "Action spaces do not match"),
    ],
)
def test_other_spaces_are_refused(algorithm, observation_space, action_space, message, tmp_path):
    model = small(algorithm, random_env(VECTOR))
    env, wrong = model.get_env(), random_env(observation_space, action_space)
    model.save(tmp_path / "model")
    with pytest.raises(ValueError, match=message):
        algorithm.load(tmp_path / "model", env=wrong)
    with pytest.raises(ValueError, match=message):
        model.set_env(wrong)
    # Left as it was
    assert model.get_env() is env
    assert model.learn(ROLLOUT).num_timesteps == ROLLOUT


@both
def test_another_number_of_environments_is_for_load_not_for_set_env(algorithm, tmp_path):
    model = small(algorithm, random_env(VECTOR)).learn(64)
    model.save(tmp_path / "model")
    with pytest.raises(AssertionError, match=rf"\(2 != 4\).*you must use `{algorithm.__name__}.load\(path, env\)`"):
        model.set_env(random_env(VECTOR, n_envs=2))
    loaded = algorithm.load(tmp_path / "model", env=random_env(VECTOR, n_envs=2))
    loaded.learn(32, reset_num_timesteps=False)
    assert (loaded.n_envs, loaded.num_timesteps) == (2, 96)


@both
@pytest.mark.parametrize("force_reset", [True, False])
def test_a_new_environment_is_reset_unless_told_otherwise(algorithm, force_reset):
    class Resets(gym.Wrapper):
        count = 0

        def reset(self, **kwargs):
            Resets.count += 1
            return super().reset(**kwargs)

    env = DummyVecEnv([lambda: Monitor(Resets(maker(VECTOR, BUTTONS)()), allow_early_resets=True)] * 2)
    model, callback = small(algorithm, env).learn(32), EachStep()
    before = model._last_obs
    model.set_env(model.get_env(), force_reset=force_reset)
    assert (model._last_obs is before) == (not force_reset)
    Resets.count = 0
    model.learn(32, reset_num_timesteps=False, callback=callback)
    assert Resets.count == sum(step["dones"].sum() for step in callback.steps) + (2 if force_reset else 0)


@pytest.mark.parametrize("kind", ["stacked", "dictionary"])
def test_members_collect_in_their_own_environments_whatever_the_wrapper(kind):
    """Each member's values in the buffer are its own, of the observations that the wrappers made."""
    if kind == "stacked":
        model = small(MDPO, VecFrameStack(VecNormalize(VecMonitor(random_env(VECTOR))), 2))
    else:
        space = spaces.Dict({"first": VECTOR, "second": spaces.Box(-1, 1, (3,))})
        env = VecNormalize(VecMonitor(random_env(space)), norm_obs_keys=["second"])
        model = small(MDPO, env, "MultiInputPolicy")
    buffer = collect(model)

    def observations(member: int) -> Any:
        if kind == "stacked":
            return buffer.by_member(buffer.observations)[member]
        return {key: buffer.by_member(memory)[member] for key, memory in buffer.observations.items()}

    for k, member in enumerate(model.policy.members):
        with th.no_grad():
            values = member.predict_values(observations(k)).flatten()
        th.testing.assert_close(buffer.by_member(buffer.values)[k], values)
