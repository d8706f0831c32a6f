"""SB3's callbacks find in MDPO what they find in PPO, and stop, save, evaluate and log at the same steps."""

from functools import partialmethod
from typing import Any

import gymnasium as gym
import numpy as np
import pandas as pd
import pytest
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    CheckpointCallback,
    ConvertCallback,
    EvalCallback,
    EveryNTimesteps,
    LogEveryNTimesteps,
    ProgressBarCallback,
    StopTrainingOnMaxEpisodes,
    StopTrainingOnNoModelImprovement,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.utils import FloatSchedule
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_mdpo import MDPO
from tests.support.helpers import assert_same_parameters, both, parameters
from tests.support.training import N_ENVS, ROLLOUT, EachStep, ScriptedEnv, cartpole, small, small_silent


def paying(n_envs: int = N_ENVS, change: float = 0.0) -> VecEnv:
    """Episodes of three steps that pay the same whatever the action; the next episode may pay more or less."""
    reward = {"reward": lambda env, _action: 1.0 + (env.n_episodes - 1) * change}
    return make_vec_env(ScriptedEnv, n_envs=n_envs, env_kwargs=reward)


def evaluation(eval_env: gym.Env | VecEnv, **kwargs: Any) -> EvalCallback:
    return EvalCallback(eval_env, **{"n_eval_episodes": 2, "eval_freq": 8, "verbose": 0, **kwargs})


class Recorder(BaseCallback):
    """Writes down every call that it gets, and what it can see of the model then."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, int, int]] = []
        self.saw_the_model = True

    def _record(self, name: str) -> None:
        self.calls.append((name, self.n_calls, self.num_timesteps))
        self.saw_the_model &= self.training_env is self.model.get_env()
        self.saw_the_model &= self.logger is self.model.logger
        self.saw_the_model &= self.locals["self"] is self.model
        self.saw_the_model &= not self.model.policy.training or name == "training_end"

    def _on_step(self) -> bool:
        self._record("step")
        return True

    _on_training_start = partialmethod(_record, "training_start")
    _on_rollout_start = partialmethod(_record, "rollout_start")
    _on_rollout_end = partialmethod(_record, "rollout_end")
    _on_training_end = partialmethod(_record, "training_end")


def test_events_come_in_ppos_order_with_ppos_counts():
    def calls(algorithm) -> list[tuple[str, int, int]]:
        recorder, model = Recorder(), small(algorithm)
        model.policy.set_training_mode(False)
        model.learn(2 * ROLLOUT, callback=recorder)
        model.learn(ROLLOUT, callback=recorder, reset_num_timesteps=False)
        return recorder.calls

    ppo, mdpo = calls(PPO), calls(MDPO)
    assert mdpo == ppo
    rollout = ["rollout_start", *["step"] * 16, "rollout_end"]
    first, second = ["training_start", *rollout * 2, "training_end"], ["training_start", *rollout, "training_end"]
    assert [name for name, *_ in mdpo] == first + second
    assert mdpo[-1] == ("training_end", 48, 192)


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_local_variables_have_ppos_names_shapes_and_types(env_id):
    seen = {}
    for algorithm in (PPO, MDPO):
        callback = EachStep()
        small(algorithm, make_vec_env(env_id, n_envs=N_ENVS)).learn(2 * ROLLOUT, callback=callback)
        step = callback.steps[-1]
        assert [step["n_steps"] for step in callback.steps] == [*range(16)] * 2
        assert len(step["infos"]) == step["env"].num_envs == N_ENVS
        assert (step["n_rollout_steps"], step["total_timesteps"], step["log_interval"]) == (16, 128, 1)
        seen[algorithm] = {
            name: (type(value), getattr(value, "dtype", None), np.shape(value) if name != "infos" else None)
            for name, value in step.items()
            if name not in ("self", "rollout_buffer", "callback", "env", "idx", "done")  # the latter: PPO's loop
        }
    assert seen[PPO].keys() >= {"rewards", "dones", "new_obs", "actions", "values", "log_probs", "clipped_actions"}
    assert {name: seen[MDPO].get(name) for name in seen[PPO]} == seen[PPO]


def test_local_variables_are_those_of_the_step():
    """Of all members, in the order of the environments."""
    callback = EachStep()
    env = make_vec_env("Pendulum-v1", n_envs=N_ENVS)
    # Wide distributions, so that some actions leave the space
    model, fresh = (small(env=env, policy_kwargs={"net_arch": [8], "log_std_init": 1.0}) for _ in range(2))
    model.learn(ROLLOUT, callback=callback)
    for before, after in zip(callback.steps, callback.steps[1:], strict=False):
        np.testing.assert_array_equal(after["obs_tensor"].numpy(), before["new_obs"])
    for step in callback.steps:
        np.testing.assert_array_equal(step["clipped_actions"], np.clip(step["actions"], -2, 2))
        for k, member in enumerate(fresh.policy.members):
            own = slice(2 * k, 2 * k + 2)
            values, log_probs, _ = member.evaluate_actions(step["obs_tensor"][own], th.as_tensor(step["actions"][own]))
            th.testing.assert_close(step["values"][own], values)
            th.testing.assert_close(step["log_probs"][own], log_probs)
    assert any((step["actions"] != step["clipped_actions"]).any() for step in callback.steps)
    (end,) = callback.rollouts
    assert end["rollout_buffer"] is model.rollout_buffer
    assert end["rollout_buffer"].full
    # Of the observations after the last step
    th.testing.assert_close(end["values"], fresh.policy.predict_values(th.as_tensor(end["new_obs"])))


@both
def test_evaluation_saves_the_best_model_and_the_evaluations(algorithm, tmp_path):
    """The reward falls from one evaluation to the next, so that the first one stays the best."""
    checkpoints = CheckpointCallback(save_freq=8, save_path=str(tmp_path / "checkpoints"))
    evaluating = evaluation(
        paying(1, change=-1.0), best_model_save_path=str(tmp_path / "best"), log_path=str(tmp_path / "log")
    )
    model = small(algorithm, paying()).learn(2 * ROLLOUT, callback=[checkpoints, evaluating])

    with np.load(tmp_path / "log" / "evaluations.npz") as data:
        assert set(data) == {"timesteps", "results", "ep_lengths", "successes"}
        assert data["timesteps"].tolist() == [32, 64, 96, 128]
        assert data["results"].shape == data["ep_lengths"].shape == data["successes"].shape == (4, 2)
        assert data["results"][0].tolist() == [3.0, 0.0]
        assert (np.diff(data["results"].mean(1)) < 0).all()
        assert (data["ep_lengths"] == 3).all()
        assert data["successes"].all()
    assert evaluating.best_mean_reward == 1.5
    assert evaluating.last_mean_reward < 0
    best = algorithm.load(tmp_path / "best" / "best_model")
    assert best.num_timesteps == 32
    assert_same_parameters(best.policy, algorithm.load(tmp_path / "checkpoints" / "rl_model_32_steps").policy)
    with pytest.raises(AssertionError):
        assert_same_parameters(best.policy, model.policy)


@both
@pytest.mark.parametrize(("change", "n_best"), [(1.0, 4), (-1.0, 1)])
def test_children_of_the_evaluation_are_called(algorithm, change, n_best):
    on_best, after = EachStep(), EachStep()
    evaluating = evaluation(
        paying(2, change), callback_on_new_best=CallbackList([on_best]), callback_after_eval=CallbackList([after])
    )
    small(algorithm, paying()).learn(2 * ROLLOUT, callback=evaluating)
    assert (len(on_best.steps), len(after.steps)) == (n_best, 4)
    assert on_best.parent is after.parent is evaluating
    assert after.locals["new_obs"] is evaluating.locals["new_obs"]


@both
def test_evaluation_takes_single_environments_and_logs_at_the_right_step(algorithm, tmp_path):
    model = small(algorithm)
    model.set_logger(configure(str(tmp_path), ["csv"]))
    model.learn(2 * ROLLOUT, callback=evaluation(Monitor(gym.make("CartPole-v1"))), log_interval=None)
    logged = pd.read_csv(tmp_path / "progress.csv")
    assert logged["time/total_timesteps"].tolist() == [32, 64, 96, 128]
    assert (logged["eval/mean_reward"] > 0).all()
    assert "eval/mean_ep_length" in logged


@pytest.mark.parametrize(("who", "mean"), [(0, 0.0), (1, 3.0)])
def test_evaluation_is_of_the_policy_that_predicts(who, mean):
    env, eval_env = (
        make_vec_env(ScriptedEnv, n, env_kwargs={"reward": lambda _, action: float(action)}) for n in (2, 1)
    )
    model, evaluating = small(MDPO, env, learning_rate=1e-9, predict_with=who), evaluation(eval_env)
    for member, bias in zip(model.policy.members, ([9.0, -9.0], [-9.0, 9.0]), strict=True):
        member.action_net.bias.data = th.tensor(bias)
    model.learn(32, callback=evaluating)
    assert evaluating.last_mean_reward == mean


@both
def test_evaluation_does_not_change_what_is_learned(algorithm):
    # Built before the model: new environments draw their seeds from NumPy's global generator
    evaluating = evaluation(cartpole(1))
    with_evaluation = small(algorithm).learn(2 * ROLLOUT, callback=evaluating)
    assert evaluating.last_mean_reward > 0
    assert_same_parameters(with_evaluation.policy, small(algorithm).learn(2 * ROLLOUT).policy)


@both
@pytest.mark.parametrize(("threshold", "steps"), [(3.0, 32), (3.1, 128)])
def test_stop_on_reward_threshold(algorithm, threshold, steps, capsys):
    stop = StopTrainingOnRewardThreshold(threshold, verbose=1)
    model = small(algorithm, paying()).learn(128, callback=evaluation(paying(1), callback_on_new_best=stop))
    assert model.num_timesteps == steps
    assert ("Stopping training because the mean reward 3.00" in capsys.readouterr().out) == (steps == 32)


@both
def test_stop_on_no_model_improvement_and_on_max_episodes(algorithm, capsys):
    """The first evaluation counts as none without improvement, the third one after it is one too many."""
    stop = StopTrainingOnNoModelImprovement(max_no_improvement_evals=2, min_evals=1)
    model = small(algorithm, paying()).learn(1000, callback=evaluation(paying(1), callback_after_eval=stop))
    assert model.num_timesteps == 4 * 32
    # Counted per environment: two times four episodes of three steps
    stop = StopTrainingOnMaxEpisodes(2, verbose=1)
    assert model.learn(1000, callback=stop).num_timesteps == 6 * N_ENVS
    assert stop.n_episodes == 8
    assert f"the {algorithm.__name__} model reached max_episodes=2" in capsys.readouterr().out


@both
@pytest.mark.parametrize("no", [False, np.bool_(0), th.tensor(False)], ids=["bool", "numpy", "torch"])
def test_any_no_stops_the_training_at_once_and_it_can_go_on(algorithm, no):
    callback, others = ConvertCallback(lambda *_: no), Recorder()
    model = small(algorithm)
    before = parameters(model.policy)
    model.policy.set_training_mode(False)
    model.learn(1000, callback=[callback, others])
    assert (callback.n_calls, model.num_timesteps) == (1, N_ENVS)
    assert [name for name, *_ in others.calls] == ["training_start", "rollout_start", "step", "training_end"]
    # An incomplete rollout is not learned from
    assert all(th.equal(before[name], tensor) for name, tensor in model.policy.state_dict().items())
    assert model.learn(ROLLOUT, reset_num_timesteps=False).num_timesteps == N_ENVS + ROLLOUT


@both
def test_checkpoints_count_calls_not_steps(algorithm, tmp_path):
    """``save_freq`` counts steps of the vectorised environment, the names count those of all environments."""
    callback = CheckpointCallback(save_freq=12, save_path=str(tmp_path), name_prefix="mine")
    small(algorithm).learn(2 * ROLLOUT, callback=callback)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine_48_steps.zip", "mine_96_steps.zip"]
    assert [algorithm.load(tmp_path / f"mine_{n}_steps").num_timesteps for n in (48, 96)] == [48, 96]


@both
def test_checkpoints_with_statistics_load(algorithm, tmp_path):
    env = VecNormalize(cartpole())
    saving = {"save_vecnormalize": True, "save_replay_buffer": True}
    callback = CheckpointCallback(save_freq=16, save_path=str(tmp_path), **saving)
    model = small(algorithm, env).learn(2 * ROLLOUT, callback=callback)
    # No replay buffer, which on-policy algorithms do not have
    assert len(list(tmp_path.iterdir())) == 4
    statistics = VecNormalize.load(str(tmp_path / "rl_model_vecnormalize_128_steps.pkl"), cartpole())
    np.testing.assert_array_equal(statistics.obs_rms.mean, env.obs_rms.mean)
    loaded = algorithm.load(tmp_path / "rl_model_128_steps", env=statistics)
    # Of the second rollout's end, before the second update
    assert (loaded._n_updates, model._n_updates) == (1, 2)
    assert loaded.predict(statistics.reset())[0].shape == (N_ENVS,)
    assert loaded.learn(ROLLOUT, reset_num_timesteps=False).num_timesteps == 192


@both
def test_every_n_timesteps_and_log_every_n_timesteps(algorithm, tmp_path):
    model = small(algorithm, paying())
    model.set_logger(configure(str(tmp_path), ["csv"]))
    seen: list[int] = []
    event = EveryNTimesteps(30, ConvertCallback(lambda *_: seen.append(model.num_timesteps) or True))
    model.learn(2 * ROLLOUT, callback=[event, LogEveryNTimesteps(32)], log_interval=None)
    logged = pd.read_csv(tmp_path / "progress.csv")
    # The first multiple of four at least 30 steps after the last one
    assert logged["time/total_timesteps"].tolist() == seen == [32, 64, 96, 128]
    assert (event.callback.n_calls, event.n_calls) == (4, 32)
    for group in ("rollout", *(("policy_0", "policy_1") if algorithm is MDPO else ())):
        assert logged[f"{group}/ep_rew_mean"].tolist() == [3.0] * 4


class Watched(ProgressBarCallback):
    """Reads the bar before it is closed."""

    seen: tuple[int, int]

    def _on_training_end(self) -> None:
        self.seen = (self.pbar.n, self.pbar.total)
        super()._on_training_end()


@both
@pytest.mark.filterwarnings("ignore:rich is experimental")
def test_progress_bar_counts_steps_of_all_environments_and_is_shown_on_request(algorithm, capfd):
    bar, model = Watched(), small(algorithm)
    model.learn(2 * ROLLOUT, callback=bar)
    assert bar.seen == (128, 128)
    # The last rollout is always completed
    model.learn(100, callback=bar, reset_num_timesteps=False)
    assert bar.seen == (128, 100)
    for progress_bar in (True, False):
        capfd.readouterr()
        model.learn(2 * ROLLOUT, progress_bar=progress_bar)
        assert ("128/128" in "".join(capfd.readouterr())) == progress_bar


@both
def test_lists_objects_and_functions_are_called_alike(algorithm):
    recorders = [Recorder(), Recorder(), Recorder()]
    calls: list[int] = []

    def count(local_variables: dict[str, Any], global_variables: dict[str, Any]) -> bool:
        calls.append(local_variables["self"].num_timesteps)
        return "np" in global_variables

    model = small(algorithm)
    model.policy.set_training_mode(False)
    nested = CallbackList([recorders[1], EveryNTimesteps(1, recorders[2])])
    model.learn(ROLLOUT, callback=[recorders[0], nested, ConvertCallback(count)])
    assert calls == [*range(N_ENVS, ROLLOUT + 1, N_ENVS)]
    assert recorders[0].calls == recorders[1].calls
    steps = [[call for call in recorder.calls if call[0] == "step"] for recorder in recorders]
    assert steps[1] == steps[2]
    assert all(recorder.saw_the_model for recorder in recorders)
    calls.clear()
    model.learn(ROLLOUT, callback=lambda local_variables, _globals: calls.append(local_variables["n_steps"]) or True)
    assert calls == [*range(16)]


@both
def test_settings_that_a_callback_assigns_count_in_the_next_update(algorithm):
    settings = {"clip_range": FloatSchedule(0.05), "clip_range_vf": FloatSchedule(0.5), "ent_coef": 3.0, "vf_coef": 0.0}
    if algorithm is MDPO:
        settings["distill_coef"] = 0.25

    def assign(local_variables: dict[str, Any], _globals: dict[str, Any]) -> bool:
        for name, value in settings.items():
            setattr(local_variables["self"], name, value)
        return True

    model = small_silent(algorithm)
    model.learn(ROLLOUT, callback=assign, log_interval=None)
    logged = model.logger.name_to_value
    assert (logged["train/clip_range"], logged["train/clip_range_vf"]) == (0.05, 0.5)
    assert logged.get("train/distill_coef") == settings.get("distill_coef")
    entropy, loss = logged["train/entropy_loss"], logged["train/loss"]
    assert entropy < 0
    assert loss < 2 * entropy  # 3 * entropy and little else
