"""Evaluation on training and unseen levels: numbers, isolation, accounting, the callback, the zoo, the command."""

import csv
import json
import random
import shutil
from pathlib import Path

import numpy as np
import procgen
import pytest
import torch as th
import yaml
from hypothesis import given
from hypothesis import strategies as st
from sb3_contrib import TRPO, RecurrentPPO
from scipy import stats
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, EvalCallback, StopTrainingOnRewardThreshold
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecFrameStack, VecMonitor, VecNormalize

from sb3_mdpo import MDPO, MaskableMDPO, RecurrentMDPO, StridedCNN
from sb3_mdpo.callbacks import BudgetCallback, GeneralizationEvalCallback
from sb3_mdpo.cli.main import main
from sb3_mdpo.envs import make_levels
from sb3_mdpo.lab import evaluate_generalization, normalized_score, open_trained
from sb3_mdpo.lab.generalization.evaluation import ObservationSample, kl_from_peers, members_of
from sb3_mdpo.lab.generalization.results import COLUMNS, LevelsResult, PolicyResult, read_table
from sb3_mdpo.lab.generalization.scores import score_range
from sb3_mdpo.lab.generalization.trained import TrainedModel
from sb3_mdpo.lab.state_sampling import check_can_be_perturbed
from sb3_mdpo.utils.random_state import undisturbed
from tests.support.commands import run as run_command
from tests.support.helpers import TINY, assert_same_parameters, both

ENV_ID = "procgen-starpilot-easy-v0"  # whose episodes are short, whatever a policy does


def levels(n_envs: int = 4, **env_kwargs) -> VecMonitor:
    return make_levels(ENV_ID, n_envs, 0, **{"num_levels": 20, "start_level": 3, "num_threads": 0} | env_kwargs)


def small(algorithm=MDPO, env=None, **kwargs):
    return algorithm("MlpPolicy", levels() if env is None else env, **TINY | kwargs)


def in_this_thread(n_envs: int, seed: int, **env_kwargs) -> VecMonitor:
    """The environments that are evaluated in by default, without threads that would wait for busy processors."""
    return make_levels(ENV_ID, n_envs, seed, num_threads=0, **env_kwargs)


def evaluated(model, episodes: int = 2, **kwargs):
    settings = {"train_levels": 20, "start_level": 3, "make_env": in_this_thread} | kwargs
    return evaluate_generalization(model, ENV_ID, episodes=episodes, **settings)


def callback(folder: Path | None, eval_freq: int = 64, **kwargs) -> GeneralizationEvalCallback:
    settings = {"episodes": 2, "log_path": folder, "make_env": in_this_thread, "verbose": 0} | kwargs
    return GeneralizationEvalCallback(eval_freq, **settings)


@pytest.fixture(scope="module")
def model() -> MDPO:
    return small(env=levels(6), n_policies=3)


class LevelsSeen(VecEnvWrapper):
    """Records the level of every finished episode per environment, and the arguments."""

    asked: list = []  # noqa: RUF012

    def __init__(self, n_envs: int, seed: int, **env_kwargs) -> None:
        super().__init__(levels(n_envs, **env_kwargs))
        self.venv.seed(seed)
        self.played: list[list[int]] = [[] for _ in range(n_envs)]
        LevelsSeen.asked.append((n_envs, seed, env_kwargs, self.played))

    def reset(self):
        return self.venv.reset()

    def step_wait(self):
        observations, rewards, dones, infos = self.venv.step_wait()
        for played, info, done in zip(self.played, infos, dones, strict=True):
            if done:
                played.append(info["prev_level_seed"])
        return observations, rewards, dones, infos


def test_scores_by_hand():
    assert score_range("procgen-bigfish-easy-v0") == (1, 40)
    assert normalized_score(14.0, "procgen-bigfish-easy-v0") == pytest.approx(1 / 3)
    assert normalized_score(10.0, "procgen-bigfish-v0") == 0.25  # hard, 0 to 40
    assert normalized_score(-0.5, "procgen-fruitbot-hard-v0") == 0
    assert normalized_score(4.0, "procgen-coinrun-easy-v0") == pytest.approx(-0.2)
    assert normalized_score(0.7, "TexturedGrid-v0") == 0.7
    for env_id in ("procgen-maze-exploration-v0", "procgen-maze-memory-v0", "CartPole-v1", "nothing-v0"):
        assert normalized_score(1.0, env_id) is None


def test_statistics_by_hand():
    result = LevelsResult((1.0, 2.0, 3.0, 6.0), 0.25, None)
    assert result.mean == 3
    assert result.stderr == pytest.approx(np.sqrt(14 / 3) / 2)
    half = stats.t.ppf(0.975, 3) * np.sqrt(14 / 3) / 2
    assert result.interval == pytest.approx((3 - half, 3 + half))
    policy = PolicyResult("policy 0", result, LevelsResult((0.0, 1.0), None, 0.5), 0.1)
    assert policy.gap == 2.5
    row = policy.row()
    assert (row["training_success"], row["unseen_success"], row["unseen_normalized"]) == (0.25, None, 0.5)
    assert set(row) == set(COLUMNS[4:])


def test_kl_between_members_by_hand(model):
    observations = np.random.default_rng(0).integers(0, 256, (5, 3, 64, 64), dtype=np.uint8)
    members = members_of(model)
    with th.no_grad():
        logs = [one.get_distribution(th.as_tensor(observations)).distribution.logits for one in members.values()]
    kls = kl_from_peers(members, dict.fromkeys(members, observations))
    for own, name in zip(logs, members, strict=True):
        divergences = [(peer.exp() * (peer - own)).sum(1).mean().item() for peer in logs if peer is not own]
        assert kls[name] == pytest.approx(np.mean(divergences), rel=1e-3)
        assert kls[name] > 0
    assert kl_from_peers({"policy 0": members["policy 0"]}, {}) == {"policy 0": None}


def sample_of(size: int, length: int, seed: int) -> list[int]:
    """Sample of the stream 0, 1, 2, ..."""
    sample = ObservationSample(size, seed)
    for k in range(length):
        sample.add(np.array([k]))
    return [int(observation[0]) for observation in sample.kept]


@given(st.integers(1, 30), st.integers(1, 60))
def test_sample_of_a_stream_has_no_observation_twice(size, length):
    kept = sample_of(size, length, seed=0)
    assert len(kept) == len(set(kept)) == min(size, length)
    assert set(kept) <= set(range(length))


def test_sample_of_a_stream_is_uniform():
    kept = [sample_of(3, 10, seed) for seed in range(2000)]
    assert stats.chisquare(np.bincount(np.ravel(kept), minlength=10)).pvalue > 1e-3


def test_members_and_ensemble_meet_the_same_levels(model):
    LevelsSeen.asked = []
    drawing = {"use_backgrounds": False}
    result = evaluated(model, 5, n_envs=2, seed=5, make_env=LevelsSeen, env_kwargs=drawing)
    assert [policy.policy for policy in result.policies] == ["policy 0", "policy 1", "policy 2", "ensemble"]
    assert [member.policy for member in result.members] == ["policy 0", "policy 1", "policy 2"]
    on_training, on_unseen = LevelsSeen.asked[0::2], LevelsSeen.asked[1::2]
    assert all(asked[:3] == (2, 5, drawing | {"num_levels": 20, "start_level": 3}) for asked in on_training)
    assert all(asked[2] == drawing | {"num_levels": 0, "start_level": 0} for asked in on_unseen)
    for asked in (on_training, on_unseen):
        played = [[levels_of_one[:2] for levels_of_one in per_env] for *_, per_env in asked]
        assert played == [played[0]] * 4
    seen, unseen = (
        {level for *_, per_env in asked for played in per_env for level in played} for asked in (on_training, on_unseen)
    )
    assert seen <= set(range(3, 23))
    assert not unseen & seen
    for policy in result.policies:
        assert len(policy.training.returns) == len(policy.unseen.returns) == 5
        assert policy.unseen.normalized == pytest.approx((policy.unseen.mean - 2.5) / 61.5)
        assert policy.unseen.success_rate is not None
        assert (policy.kl is None) == (policy.policy == "ensemble")


def test_every_episode_names_its_level(model):
    for protocol, episodes in (("fixed", 5), ("authors", None)):
        LevelsSeen.asked = []
        n_envs = 2 if protocol == "fixed" else None
        result = evaluated(model, episodes, n_envs=n_envs, seed=5, make_env=LevelsSeen, protocol=protocol)
        played = iter(LevelsSeen.asked)
        for policy in result.policies:
            for levels_result in (policy.training, policy.unseen):
                *_, per_env = next(played)
                assert len(levels_result.levels) == len(levels_result.returns)
                # An environment may have gone on while others played their last episodes
                seen = [level for of_env in per_env for level in of_env]
                assert all(seen.count(level) >= levels_result.levels.count(level) for level in levels_result.levels)
                assert all(level in levels_result.levels for of_env in per_env for level in of_env[:1])


def test_returns_are_paired_by_level():
    first = LevelsResult((1.0, 2.0, 5.0, 9.0), None, None, (7, 8, 8, 9))
    second = LevelsResult((4.0, 0.5, 1.0), None, None, (10, 7, 8))
    assert first.by_level().to_dict() == {7: 1.0, 8: 3.5, 9: 9.0}
    assert (first.by_level() - second.by_level()).dropna().to_dict() == {7: 0.5, 8: 2.5}
    with pytest.raises(ValueError, match="environments do not report the level of an episode"):
        LevelsResult((1.0, 2.0), None, None).by_level()


class Clockwork(VecEnv):
    """Environment k ends its episodes after ``lengths[k]`` steps with the return k."""

    lengths = (1, 25, 25, 25)

    def __init__(self, n_envs: int, seed: int, **env_kwargs) -> None:
        like = levels(n_envs)
        super().__init__(n_envs, like.observation_space, like.action_space)
        like.close()

    def reset(self):
        self.ages = np.zeros(self.num_envs, dtype=int)
        return self._observe()

    def _observe(self):
        return np.zeros((self.num_envs, 64, 64, 3), dtype=np.uint8)

    def step_async(self, actions):
        self.ages += 1

    def step_wait(self):
        dones = self.ages == self.lengths
        self.ages[dones] = 0
        infos = [{"episode": {"r": float(k), "l": length}} for k, length in enumerate(self.lengths)]
        return self._observe(), np.zeros(self.num_envs), dones, infos

    def close(self):
        pass

    def get_attr(self, attr_name, indices=None):
        raise AttributeError(attr_name)

    def set_attr(self, attr_name, value, indices=None):
        raise AttributeError(attr_name)

    def env_method(self, method_name, *args, indices=None, **kwargs):
        raise AttributeError(method_name)

    def env_is_wrapped(self, wrapper_class, indices=None):
        return [wrapper_class is Monitor] * self.num_envs


def test_the_authors_protocol_favours_short_episodes(model):
    authors = evaluated(model, None, make_env=Clockwork, protocol="authors")
    assert (authors.protocol, authors.episodes, authors.n_envs) == ("authors", 10, 4)
    for policy in authors.policies:
        assert policy.training.returns == policy.unseen.returns == (0.0,) * 10
        assert (policy.kl is None) == (policy.policy == "ensemble")
    (fixed, *_) = evaluated(model, 12, n_envs=4, make_env=Clockwork).policies
    assert fixed.unseen.levels is None  # which these environments do not report
    assert sorted(fixed.unseen.returns) == [0.0] * 3 + [1.0] * 3 + [2.0] * 3 + [3.0] * 3
    assert authors.to_text().splitlines()[1] == (
        "the authors' protocol: the first 10 episodes in 4 environments, sampled actions"
    )


def test_the_authors_protocol_counts_all_episodes_that_end_with_the_tenth(model):
    class Together(Clockwork):
        lengths = (2, 2, 2, 2)

    policy = evaluated(model, None, make_env=Together, protocol="authors").policies[0]
    assert policy.unseen.returns == (0.0, 1.0, 2.0, 3.0) * 3


def test_the_authors_protocol_plays_the_levels_of_their_code(model):
    LevelsSeen.asked = []
    evaluated(model, None, seed=5, make_env=LevelsSeen, protocol="authors")
    assert [asked[:2] for asked in LevelsSeen.asked] == [(4, 42)] * 8  # made anew for each policy and set of levels
    theirs = procgen.ProcgenGym3Env(num=4, env_name="starpilot", rand_seed=42, distribution_mode="easy")
    first = [info["level_seed"] for info in theirs.get_info()]
    theirs.close()
    for *_, played in LevelsSeen.asked[1::2]:
        assert any(played)
        assert all(one[0] == level for one, level in zip(played, first, strict=True) if one)


def test_evaluation_repeats_itself_and_disturbs_nothing():
    model = small()
    model.policy.set_training_mode(True)
    model.policy.members[1].set_training_mode(False)
    modes = [module.training for module in model.policy.modules()]

    def drawn() -> list[float]:
        return [th.rand(1).item(), np.random.random(), random.random()]

    th.manual_seed(1), np.random.seed(1), random.seed(1)
    expected = drawn()
    th.manual_seed(1), np.random.seed(1), random.seed(1)
    first = evaluated(model, seed=2)
    assert drawn() == expected
    assert [module.training for module in model.policy.modules()] == modes
    assert evaluated(model, seed=2) == first
    assert evaluated(model, seed=3) != first


def test_undisturbed_also_where_the_evaluation_fails(model):
    th.manual_seed(1)
    state, training = th.get_rng_state(), model.policy.training

    def fail() -> None:
        with undisturbed(model.policy, 7):
            th.rand(1)
            model.policy.train(not training)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert model.policy.training == training
    assert th.equal(th.get_rng_state(), state)


def test_a_single_policy_has_neither_peers_nor_ensemble():
    for single in (small(PPO), small(n_policies=1)):
        (policy,) = evaluated(single).policies
        assert (policy.policy, policy.kl) == ("policy 0", None)


def test_models_that_see_more_than_the_bare_environments(tmp_path):
    stacked = small(env=VecFrameStack(levels(), 2))
    with pytest.raises(ValueError, match=r"differ from those that the model was trained in.*make_env"):
        evaluate_generalization(stacked, ENV_ID, 20, episodes=2)
    result = evaluated(stacked, make_env=lambda n_envs, seed, **kw: VecFrameStack(levels(n_envs, **kw), 2))
    assert len(result.policies) == 3
    normalized = small(env=VecNormalize(levels(), norm_obs=True), policy_kwargs={"net_arch": [2]})
    with pytest.raises(ValueError, match="Observation spaces do not match"):
        normalized.learn(1, callback=callback(tmp_path))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"env_id": "CartPole-v1"}, "no levels to choose from"),
        ({"env_id": "procgen-maze-exploration-v0"}, "no levels to choose from"),
        ({"env_id": "nothing-v0"}, "no levels to choose from"),
        ({"train_levels": None}, "train_levels=None"),
        ({"train_levels": 0}, "none are unseen"),
        ({"train_levels": 2.5}, "train_levels=2.5"),
        ({"episodes": 1}, "evaluate at least 2"),
        ({"episodes": 4, "n_envs": 5}, "use 1 to 4 environments"),
        ({"n_envs": 0}, "0 environments"),
        ({"seed": -1}, "seed=-1"),
        ({"protocol": "paper"}, "protocol='paper' is unknown: use 'fixed' or 'authors'"),
        ({"protocol": "authors"}, "leave out episodes, n_envs and deterministic"),
        ({"protocol": "authors", "episodes": 10, "n_envs": 8}, "10 episodes in 4 environments"),
        ({"protocol": "authors", "episodes": None, "deterministic": True}, "with sampled actions"),
        ({"protocol": "authors", "episodes": None, "seed": -1}, "seed=-1"),
        ({"start_level": -1}, "start_level=-1"),
    ],
)
def test_bad_input(model, wrong, message):
    with pytest.raises(ValueError, match=message):
        evaluate_generalization(model, **{"env_id": ENV_ID, "train_levels": 20, "episodes": 2} | wrong)


class Counting(BaseCallback):
    """Counts samples at the action heads, one per network: if a gradient arrives, a sample has gone both ways."""

    def _on_training_start(self) -> None:
        self.count = 0
        members = self.model.policy.members if isinstance(self.model, MDPO) else [self.model.policy]
        for member in members:
            member.action_net.register_forward_hook(self._forward)
        if isinstance(self.model, MDPO):
            self.model.policy.stack_if_possible()  # no longer: hooks are of single members

    def _forward(self, _module, _inputs, output):
        if output.requires_grad:
            output.register_hook(self._backward)

    def _backward(self, gradient):
        self.count += len(gradient)

    def _on_step(self) -> bool:
        return True


def logged(folder: Path, column: str) -> list[dict[str, str]]:
    """The rows of progress.csv that have something in a column."""
    with (folder / "progress.csv").open() as file:
        return [row for row in csv.DictReader(file) if row[column]]


@pytest.mark.parametrize(
    ("settings", "per_sample"),
    [
        ({"n_policies": 1}, 1),
        ({"n_policies": 2}, 2),
        ({"n_policies": 3}, 3),
        ({"n_policies": 3, "distill_mode": "random"}, 2),
        ({"n_policies": 3, "detach_peers": True}, 1),
        ({"n_policies": 2, "distill_coef": 0.0}, 1),
    ],
)
def test_images_that_went_forward_and_backward(settings, per_sample):
    counting = Counting()
    model = small(env=make_vec_env("CartPole-v1", 6), n_epochs=3, **settings).learn(96, callback=counting)
    assert model.trained_samples == counting.count == 96 * 3 * per_sample


@both
@pytest.mark.parametrize("target_kl", [None, 1e-3, 1e-9])
def test_images_are_counted_where_updates_end_early(algorithm, target_kl, tmp_path):
    """Minibatches of 20, 20 and 8 (or 20 and 4) samples, and members that stop after some of them."""
    env = make_vec_env("CartPole-v1", 3 if algorithm is PPO else 6, seed=0)
    model = small(algorithm, env, batch_size=20, n_epochs=4, target_kl=target_kl, learning_rate=3e-2)
    model.set_logger(configure(str(tmp_path), ["csv"]))
    counting = Counting()
    model.learn(192, callback=[counting, BudgetCallback()])
    (*_, last) = logged(tmp_path, "budget/trained_images")
    assert int(float(last["budget/trained_images"])) == counting.count
    full = 192 * 4 * (1 if algorithm is PPO else 2)
    assert counting.count == full if target_kl is None else counting.count < full


@both
def test_budget_of_a_continued_training(algorithm, tmp_path):
    model = small(algorithm, make_vec_env("CartPole-v1", 4), n_epochs=2)
    model.set_logger(configure(str(tmp_path), ["csv"]))
    budget = BudgetCallback()
    callback = CallbackList([budget])
    model.learn(64, callback=callback)
    model.learn(64, callback=callback, reset_num_timesteps=False)
    budget.on_training_end()  # as the zoo does once more
    columns = ("budget/timesteps", "budget/timesteps_per_policy", "budget/trained_images")
    rows, members = logged(tmp_path, "budget/timesteps"), 2 if algorithm is MDPO else 1
    assert [[float(row[column]) for column in columns] for row in rows] == [
        [steps, steps / members, images * 128 * members] for steps, images in ((64, 0), (64, 1), (128, 1), (128, 2))
    ]
    assert all(float(row["budget/seconds"]) > 0 for row in rows)
    assert not algorithm("MlpPolicy", model.env, **TINY).policy.optimizer._optimizer_step_post_hooks
    assert not model.policy.optimizer._optimizer_step_post_hooks


def test_trained_samples_are_saved_and_counted_anew(tmp_path):
    model = small(env=make_vec_env("CartPole-v1", 4)).learn(64)
    model.save(tmp_path / "model")
    assert MDPO.load(tmp_path / "model").trained_samples == model.trained_samples == 128
    assert model.learn(64).trained_samples == 128


@pytest.mark.parametrize(
    ("algorithm", "settings", "per_sample"),
    [
        (A2C, {}, 1),
        (RecurrentPPO, {"policy": "MlpLstmPolicy", "batch_size": 20, "n_epochs": 3}, 3),
        (TRPO, {"batch_size": 20, "n_critic_updates": 2}, 2),
    ],
)
def test_images_of_other_algorithms_are_those_of_the_optimizers_steps(algorithm, settings, per_sample, tmp_path):
    """Minibatches of 20, 20 and 8 samples, but for A2C."""
    model = algorithm(env=make_vec_env("CartPole-v1", 6), **{"policy": "MlpPolicy", "n_steps": 8} | settings)
    model.set_logger(configure(str(tmp_path), ["csv"]))
    model.learn(96, callback=BudgetCallback())
    (*_, last) = logged(tmp_path, "budget/trained_images")
    assert float(last["budget/trained_images"]) == 96 * per_sample
    assert float(last["budget/timesteps_per_policy"]) == 96


@pytest.mark.parametrize(("algorithm", "policy"), [(A2C, "MlpPolicy"), (RecurrentPPO, "MlpLstmPolicy")])
def test_other_algorithms_are_evaluated_during_training(algorithm, policy, tmp_path):
    model = algorithm(policy, make_levels("TexturedGrid-v0", 2, seed=0, num_levels=3), n_steps=8, seed=0)
    evaluating = GeneralizationEvalCallback(32, episodes=2, n_envs=2, log_path=tmp_path, verbose=0)
    model.learn(32, evaluating)
    rows = read_table(tmp_path / "generalization.csv")
    assert [(row["timesteps"], row["timesteps_per_policy"], row["policy"]) for row in rows] == [
        (0, 0, "policy 0"),
        (32, 32, "policy 0"),
    ]
    alone = algorithm(policy, make_levels("TexturedGrid-v0", 2, seed=0, num_levels=3), n_steps=8, seed=0).learn(32)
    assert_same_parameters(alone.policy, model.policy)


def test_the_budget_of_algorithms_that_are_not_on_policy_is_unknown():
    with pytest.raises(TypeError, match="budget of DQN is not known: use an on-policy algorithm like MDPO"):
        DQN("MlpPolicy", "CartPole-v1", buffer_size=10).learn(4, callback=BudgetCallback())


@both
def test_training_is_the_same_with_and_without_evaluation(algorithm, tmp_path):
    observed = small(algorithm).learn(128, callback=callback(tmp_path))
    alone = small(algorithm).learn(128)
    assert_same_parameters(observed.policy, alone.policy)
    assert np.array_equal(observed._last_obs, alone._last_obs)
    assert len(read_table(tmp_path / "generalization.csv")) == 3 * (3 if algorithm is MDPO else 1)


LOGGED = {
    "eval_train/{}mean_return": "training_return",
    "eval_unseen/{}mean_return": "unseen_return",
    "eval_unseen/{}normalized_score": "unseen_normalized",
    "eval_unseen/{}success_rate": "unseen_success",
    "eval/{}gap": "gap",
    "eval/{}kl": "kl",
}


def test_table_logs_and_best_model_tell_the_same(tmp_path, capsys):
    """In the folder of the monitor, with the levels and the drawing of the training environments."""
    (tmp_path / "run").mkdir()
    env = VecMonitor(levels(use_backgrounds=False).venv, str(tmp_path / "run" / "monitor.csv"))
    model = small(env=env)
    model.set_logger(configure(str(tmp_path / "log"), ["csv"]))
    saved: list[tuple[float, int]] = []

    class OnNewBest(BaseCallback):
        def _on_step(self) -> bool:
            saved.append((self.parent.best_mean_reward, self.model.num_timesteps))
            return True

    evaluation = callback(None, 100, callback_on_new_best=OnNewBest(), verbose=1)
    model.learn(256, callback=evaluation)
    evaluation.on_training_end()  # as the zoo does once more
    assert (evaluation.last_result.train_levels, evaluation.last_result.start_level) == (20, 3)

    rows = read_table(tmp_path / "run" / "generalization.csv")
    assert list(rows[0]) == list(COLUMNS)
    # Rollouts of 64 steps: due at 100 and 200, evaluated at the end of the updates
    assert [row["timesteps"] for row in rows] == [t for t in (0, 128, 256) for _ in range(3)]
    assert [row["trained_images"] for row in rows[::3]] == [0, 2 * 128, 2 * 256]
    assert [row["timesteps_per_policy"] for row in rows[::3]] == [0, 64, 128]
    assert rows[0]["seconds"] < rows[3]["seconds"] < rows[6]["seconds"]
    last = evaluated(model, env_kwargs={"use_backgrounds": False})
    assert [{key: row[key] for key in COLUMNS[4:]} for row in rows[6:]] == [policy.row() for policy in last.policies]

    logs = logged(tmp_path / "log", "eval_unseen/mean_return")
    for log, (zero, one, ensemble) in zip(logs, (rows[:3], rows[3:6], rows[6:]), strict=True):
        assert float(log["time/total_timesteps"]) == zero["timesteps"]
        for key, column in LOGGED.items():
            assert float(log[key.format("")]) == pytest.approx((zero[column] + one[column]) / 2)
            assert float(log[key.format("policy_1_")]) == pytest.approx(one[column])
        assert float(log["eval/ensemble_gap"]) == pytest.approx(ensemble["gap"])
        assert "eval/ensemble_kl" not in log

    unseen = [(rows[i]["unseen_return"] + rows[i + 1]["unseen_return"]) / 2 for i in (0, 3, 6)]
    records = [(max(unseen[: i + 1]), t) for i, t in enumerate((0, 128, 256)) if i == 0 or unseen[i] > max(unseen[:i])]
    assert saved == records
    assert MDPO.load(tmp_path / "run" / "best_model.zip").num_timesteps == records[-1][1]
    assert capsys.readouterr().out.count("Eval num_timesteps=128, policy 1: training levels") == 1


def test_continued_training_keeps_its_table(tmp_path):
    model = small(PPO).learn(64, callback=callback(tmp_path))
    first = read_table(tmp_path / "generalization.csv")
    model.learn(64, callback=(again := callback(tmp_path)), reset_num_timesteps=False)
    rows = read_table(tmp_path / "generalization.csv")
    assert rows[:2] == first
    assert [row["timesteps"] for row in rows] == [0, 64, 128]
    assert again.best_mean_reward == max(row["unseen_return"] for row in rows)
    # The budget continues as well: every epoch trains on every sample
    assert [row["trained_images"] for row in rows] == [0, 64 * model.n_epochs, 128 * model.n_epochs]
    assert rows[2]["seconds"] > rows[1]["seconds"]
    model.learn(64, callback=callback(tmp_path))
    assert [row["timesteps"] for row in read_table(tmp_path / "generalization.csv")] == [0, 64]


def test_rendering_is_that_of_the_training_also_under_another_id(tmp_path):
    model = small(PPO, env=make_levels("procgen-bigfish-hard-v0", 2, 0, num_levels=9, use_backgrounds=False))
    same, other = (callback(tmp_path, env_id=f"procgen-bigfish-{v}", train_levels=9) for v in ("v0", "easy-v0"))
    same.init_callback(model)
    other.init_callback(model)
    assert same._env_kwargs["use_backgrounds"] is False
    assert other._env_kwargs == {}


def test_models_of_other_algorithms_are_refused(tmp_path):
    DQN("MlpPolicy", "CartPole-v1", buffer_size=10).save(tmp_path / "dqn.zip")
    with pytest.raises(ValueError, match=r"dqn.zip was not saved by MDPO or PPO"):
        open_trained(tmp_path / "dqn.zip", ENV_ID)


def test_callbacks_of_evaluations_can_stop_the_training(tmp_path):
    model = small(PPO)
    model.learn(640, callback=callback(tmp_path, callback_on_new_best=StopTrainingOnRewardThreshold(-1.0)))
    assert model.num_timesteps == 4  # by the evaluation before the first step


@pytest.mark.parametrize("protocol", ["fixed", "authors"])
def test_recurrent_policies(protocol):
    """Their states are carried; there is no KL in single observations."""
    encoder = {"features_extractor_kwargs": {"channels": (2,), "features_dim": 8}, "lstm_hidden_size": 8}
    env = make_levels("TexturedGrid-v0", 2, 0, num_levels=5)
    model = RecurrentMDPO("ImpalaCnnLstmPolicy", env, n_steps=16, batch_size=16, policy_kwargs=encoder, device="cpu")
    episodes = 2 if protocol == "fixed" else None
    result = evaluate_generalization(model, "TexturedGrid-v0", 5, episodes, protocol=protocol)
    assert [policy.policy for policy in result.policies] == ["policy 0", "policy 1", "ensemble"]
    assert {policy.kl for policy in result.policies} == {None}
    trained = TrainedModel(model, "TexturedGrid-v0", Path("run"))
    with pytest.raises(ValueError, match="The policies of run are recurrent"):
        check_can_be_perturbed(trained)


class MaskedLevels(VecEnvWrapper):
    """Levels in which only one action is allowed, and an error is raised at the others."""

    def reset(self):
        return self.venv.reset()

    def step_wait(self):
        return self.venv.step_wait()

    def step_async(self, actions):
        assert (actions == 2).all()
        self.venv.step_async(actions)

    def has_attr(self, name):
        return name == "action_masks" or super().has_attr(name)

    def env_method(self, name, *args, indices=None, **kwargs):
        if name == "action_masks":
            return [np.arange(4) == 2] * self.num_envs
        return super().env_method(name, *args, indices=indices, **kwargs)


def test_masks_of_the_environments_are_respected():
    def masked(n_envs: int, seed: int | None = None, **kwargs) -> VecEnv:
        return MaskedLevels(make_levels("TexturedGrid-v0", n_envs, seed, **kwargs))

    extractor = {"features_extractor_class": StridedCNN, "net_arch": [8]}
    model = MaskableMDPO(
        "MlpPolicy", masked(2, num_levels=5), n_steps=16, batch_size=16, policy_kwargs=extractor, device="cpu"
    ).learn(32)
    result = evaluate_generalization(model, "TexturedGrid-v0", 5, episodes=2, make_env=masked)
    assert len(result.policies) == 3


def test_last_evaluation_with_more_episodes(tmp_path):
    model = small(PPO).learn(128, callback=callback(tmp_path, final_episodes=4))
    rows = read_table(tmp_path / "generalization.csv")
    assert [row["episodes"] for row in rows] == [2, 2, 4]
    assert rows[-1]["timesteps"] == model.num_timesteps
    with pytest.raises(ValueError, match="evaluate at least 2"):
        GeneralizationEvalCallback(64, episodes=2, final_episodes=1)


def test_callback_without_what_it_needs(tmp_path):
    def learn(env, *others: BaseCallback, log_path=tmp_path, **kwargs) -> None:
        small(env=env).learn(1, callback=[callback(log_path, **kwargs), *others])

    cart_poles = make_vec_env("CartPole-v1", 4)
    with pytest.raises(ValueError, match="do not report their id and levels: pass env_id and train_levels"):
        learn(cart_poles)
    with pytest.raises(ValueError, match="CartPole-v1 has no levels"):
        learn(cart_poles, env_id="CartPole-v1", train_levels=5)
    with pytest.raises(ValueError, match="trained on all levels"):
        learn(levels(num_levels=0, start_level=0))
    with pytest.raises(ValueError, match="pass log_path"):
        learn(levels(), log_path=None)
    with pytest.raises(ValueError, match="eval_freq=0"):
        GeneralizationEvalCallback(0)
    with pytest.raises(ValueError, match="evaluate at least 2"):
        GeneralizationEvalCallback(64, episodes=1)
    with pytest.raises(ValueError, match="--eval-freq -1"):
        learn(levels(), EvalCallback(levels(), best_model_save_path=str(tmp_path)))
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run of the zoo with the callback in its YAML, rewards normalized."""
    workdir = tmp_path_factory.mktemp("generalization")
    callbacks = [
        {"sb3_mdpo.callbacks.GeneralizationEvalCallback": {"eval_freq": 64, "episodes": 2}},
        "sb3_mdpo.callbacks.BudgetCallback",
    ]
    settings = {"policy": "MlpPolicy", "env_kwargs": {"num_levels": 20, "start_level": 3}, "callback": callbacks}
    settings |= {"normalize": "dict(norm_obs=False, norm_reward=True)", "policy_kwargs": "dict(net_arch=[8])"}
    settings |= {"n_timesteps": 96, "n_envs": 4, "n_steps": 16, "batch_size": 32, "n_epochs": 1}
    (workdir / "mine.yml").write_text(yaml.dump({ENV_ID: settings}))
    command = f"rl_zoo3 train --algo mdpo --env {ENV_ID} -conf mine.yml --eval-freq -1 --seed 1 --num-threads 1"
    result = run_command(f"{command} --device cpu", workdir, {"COLUMNS": "200"})
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    assert result.stdout.count("Eval num_timesteps=128, policy 0") == 1
    assert {"budget/", "eval_unseen/"} <= set(result.stdout.split())
    return workdir / "logs" / "mdpo" / f"{ENV_ID}_1"


def test_callback_in_the_file_of_the_zoo(run):
    rows = read_table(run / "generalization.csv")
    assert [row["timesteps"] for row in rows] == [t for t in (0, 64, 128) for _ in range(3)]
    assert [row["policy"] for row in rows[:3]] == ["policy 0", "policy 1", "ensemble"]
    assert (run / "best_model.zip").is_file()
    # The last rows are of the model that was saved
    trained = open_trained(run, device="cpu")
    result = evaluate_generalization(trained.model, ENV_ID, 20, episodes=2, start_level=3, make_env=trained.make_env)
    assert [policy.row() for policy in result.policies] == [{key: row[key] for key in COLUMNS[4:]} for row in rows[6:]]


def evaluate(*arguments: object) -> None:
    main(["evaluate", *map(str, arguments), "--device", "cpu"])


def test_command_evaluates_a_run(run, tmp_path, capsys):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    evaluate(run, "--episodes", 2, "--seed", 4, "-o", tmp_path / "out" / "r.json")
    printed = capsys.readouterr().out
    written = json.loads((tmp_path / "out" / "r.json").read_text())
    assert written["settings"] == {
        "model": str(run), "env_id": ENV_ID, "train_levels": 20, "start_level": 3,
        "episodes": 2, "n_envs": 2, "seed": 4, "deterministic": False, "protocol": "fixed",
    }  # fmt: skip
    assert printed.startswith(f"{ENV_ID}: training levels 3 to 22,")
    assert max(map(len, printed.splitlines())) <= 80
    for policy in written["policies"]:
        unseen = " ".join(f"{policy[f'unseen_{key}']:.2f}" for key in ("return", "low", "high"))
        assert f"unseen {unseen}" in " ".join(printed.replace(" to ", " ").split())
        assert np.mean(policy["unseen_returns"]) == policy["unseen_return"]
        assert set(policy["training_levels"]) <= set(range(3, 23))
        assert len(policy["unseen_levels"]) == len(policy["unseen_returns"]) == 2
        assert policy["unseen_levels"] == written["policies"][0]["unseen_levels"]
        assert policy["gap"] == policy["training_return"] - policy["unseen_return"]
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_command_follows_the_authors_protocol(run, tmp_path, capsys):
    evaluate(run, "--protocol", "authors", "-o", tmp_path / "r.json")
    assert "the first 10 episodes in 4 environments" in capsys.readouterr().out
    written = json.loads((tmp_path / "r.json").read_text())
    assert (written["settings"]["protocol"], written["settings"]["episodes"]) == ("authors", 10)
    assert all(10 <= len(policy["unseen_returns"]) < 14 for policy in written["policies"])


@pytest.mark.parametrize(("chosen_with", "expected"), [(None, 1), (0, 1), (1, 0), (7, 0)])
def test_best_model_is_evaluated_on_other_levels_than_those_that_chose_it(run, tmp_path, capsys, chosen_with, expected):
    shutil.copytree(run, folder := tmp_path / run.name)
    if chosen_with is not None:
        config = folder / ENV_ID / "config.yml"
        settings = yaml.unsafe_load(config.read_text())
        (evaluation,) = (dict(settings)["callback"][0]).values()
        evaluation["seed"] = chosen_with
        config.write_text(yaml.dump(settings))
    assert open_trained(folder, load_best=True, device="cpu").selection_seed == (chosen_with or 0)
    assert open_trained(folder, device="cpu").selection_seed is None
    evaluate(folder, "--load-best", "--episodes", 2, "-o", tmp_path / "r.json")
    assert json.loads((tmp_path / "r.json").read_text())["settings"]["seed"] == expected
    with pytest.raises(SystemExit) as error:
        evaluate(folder, "--load-best", "--episodes", 2, "--seed", chosen_with or 0, "-o", tmp_path / "again.json")
    assert error.value.code == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert f"was chosen by its return on the levels of seed {chosen_with or 0}" in message
    assert message.endswith("leave --seed out, or use another.")
    assert not (tmp_path / "again.json").exists()


def test_command_evaluates_the_best_model_and_saved_files(run, tmp_path, capsys):
    evaluate(run, "--load-best", "--seed", 5, "--episodes", 2, "--deterministic", "-o", tmp_path / "best.csv")
    file = ["--env", ENV_ID, "--levels", 20, "--start-level", 3, "--episodes", 2, "--deterministic", "--seed", 5]
    evaluate(run / "best_model.zip", *file, "-o", tmp_path / "file.csv")
    of_run, of_file = (list(csv.DictReader((tmp_path / name).open())) for name in ("best.csv", "file.csv"))
    assert {row.pop("model") for row in of_run} == {str(run)}
    assert {row.pop("model") for row in of_file} == {str(run / "best_model.zip")}
    assert of_run == of_file
    assert {row["deterministic"] for row in of_run} == {"True"}
    assert "most probable actions" in capsys.readouterr().out
