"""NaN and infinity end a training with an error naming the quantity, the member, the environment and the step."""

import argparse
import pickle
from itertools import count
from typing import Any

import gymnasium as gym
import numpy as np
import optuna
import pytest
import torch as th
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from rl_zoo3.exp_manager import ExperimentManager
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_mdpo import MDPO, NonFiniteError
from sb3_mdpo.common.nonfinite import ADVICE, BLAMED
from sb3_mdpo.mdpo.metrics import FetchedUpdate, check_update
from sb3_mdpo.mdpo.update import METRICS
from tests.support.helpers import collect
from tests.support.training import N_ENVS, small, small_silent

BAD = [np.nan, np.inf, -np.inf]
BOX = spaces.Box(-np.inf, np.inf, (2,))
DICT = spaces.Dict({"image": spaces.Box(0, 255, (4,), np.uint8), "speed": BOX})
RELU = {"net_arch": [8], "activation_fn": th.nn.ReLU}


class Breaking(gym.Env):
    """Sound but for one thing, which is broken from one step on; a time limit ends episodes after six steps."""

    action_space = spaces.Discrete(2)

    def __init__(
        self, what: str = "", bad: float = 0.0, at_step: int = 0, space: spaces.Space = BOX, actions: Any = None
    ) -> None:
        self.what, self.bad, self.at_step = what, bad, at_step
        self.observation_space = space
        self.action_space = actions or self.action_space
        self.n_steps = self.n_total = 0

    def _observe(self, what: str) -> Any:
        broken = self.what == what and self.n_total >= self.at_step
        speed = np.array([0.5, self.bad if broken else 0.5], np.float32)
        return {"image": np.zeros(4, np.uint8), "speed": speed} if self.observation_space is DICT else speed

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.n_steps = 0
        return self._observe("observations"), {}

    def step(self, action):
        self.n_steps += 1
        self.n_total += 1
        end = self.n_steps == 6
        reward = self.bad if self.what == "rewards" and self.n_total >= self.at_step else 1.0
        return self._observe("terminal" if end else "observations"), reward, False, end, {}


def vec_env(*broken: Breaking, space: spaces.Space = BOX, actions: Any = None) -> DummyVecEnv:
    """Sound environments, and the broken ones at the end; 2 and 3 are member 1's."""
    sound = [Breaking(space=space, actions=actions) for _ in range(N_ENVS - len(broken))]
    return DummyVecEnv([lambda env=env: env for env in (*sound, *broken)])


def error_of(model: MDPO, timesteps: int = 256) -> NonFiniteError:
    with pytest.raises(NonFiniteError) as caught:
        model.learn(timesteps)
    return caught.value


def assert_about(error: NonFiniteError, quantity: str, members: tuple[int, ...], *environments: int) -> None:
    assert (error.quantity, error.members, error.environments) == (quantity, members, environments)


def break_weights(model: MDPO, member: int, module: str, bad: float = np.nan) -> None:
    next(getattr(model.policy.members[member], module).parameters()).data.flatten()[0] = bad


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize(
    ("what", "at_step", "normalize", "quantity", "found_at"),
    [
        ("observations", 3, False, "observations", 3),
        ("rewards", 3, False, "rewards", 3),
        ("observations", 0, False, "observations", 0),  # before anybody acts
        # The statistics take the NaN of one environment to all others
        ("observations", 4, True, "observations", 4),
        ("rewards", 4, True, "rewards", 4),
        # At a time limit, in the reward that the value is added to
        ("terminal", 0, False, "bootstrapped rewards", 6),
    ],
)
def test_what_an_environment_returns_is_checked_after_each_step(what, at_step, normalize, quantity, found_at, bad):
    env = vec_env(Breaking(what, bad, at_step))
    error = error_of(small(MDPO, VecNormalize(env) if normalize else env, policy_kwargs=RELU))
    assert_about(error, quantity, (1,), 3)
    assert (error.member, error.num_timesteps) == (1, found_at * N_ENVS)
    start = f"NaN or infinity in {quantity} of environment 3, member 1; num_timesteps={found_at * N_ENVS}. "
    assert str(error).startswith(start)


def test_environments_of_several_members_are_all_named():
    error = error_of(small(MDPO, vec_env(*(Breaking("rewards", np.nan, at_step=2) for _ in range(3)))))
    assert_about(error, "rewards", (0, 1), 1, 2, 3)
    assert error.member == 0
    assert "environment 1, 2, 3, member 0 and 1" in str(error)


def test_the_key_of_a_dictionary_is_named():
    env = vec_env(Breaking("observations", np.nan, 2, DICT), space=DICT)
    error = error_of(small(MDPO, env, "MultiInputPolicy"))
    assert_about(error, "observations['speed']", (1,), 3)
    assert ADVICE["observations"] in str(error)


def test_rewards_that_add_up_to_infinity():
    error = error_of(small(MDPO, vec_env(Breaking("rewards", 3e38, at_step=1)), gae_lambda=1.0, gamma=1.0))
    assert_about(error, "returns", (1,), 3)


@pytest.mark.parametrize("actions", [spaces.Discrete(2), spaces.Box(-1, 1, (2,)), spaces.MultiBinary(2)])
def test_weights_that_are_broken_before_the_training(actions):
    model = small(MDPO, vec_env(actions=actions))
    break_weights(model, 1, "action_net")
    error = error_of(model)
    assert (error.quantity, error.members, error.num_timesteps) == ("weights", (1,), 0)
    assert isinstance(error.__cause__, ValueError)  # torch's


def test_weights_of_the_value_function_are_found_at_the_end_of_the_rollout():
    model = small(MDPO, vec_env())
    break_weights(model, 0, "value_net", np.inf)
    before = model.policy.members[1].value_net.weight.clone()
    error = error_of(model)
    assert (error.quantity, error.members, error.num_timesteps) == ("weights", (0,), 0)
    assert th.equal(model.policy.members[1].value_net.weight, before)  # nothing was learned from it


def test_weights_of_gsde():
    model = small(MDPO, vec_env(actions=spaces.Box(-1, 1, (2,))), use_sde=True)
    model.policy.members[1].log_std.data[0, 0] = np.nan
    assert_about(error_of(model), "weights", (1,))


@pytest.mark.parametrize("checks", [True, False])  # torch.compile switches them off for the whole process
def test_distributions_of_finite_weights_that_overflow(checks, monkeypatch):
    monkeypatch.setattr(th.distributions.Distribution, "_validate_args", checks)
    model = small(MDPO, vec_env(), policy_kwargs=RELU)
    for parameter in model.policy.members[1].parameters():
        parameter.data.fill_(3e38)
    error = error_of(model)
    assert_about(error, "action distribution", (1,), 2, 3)
    assert th.distributions.Distribution._validate_args is checks


@pytest.mark.parametrize("space", [BOX, DICT], ids=["box", "dict"])
def test_a_value_whose_square_overflows_is_found_in_the_statistics_of_vec_normalize(space):
    """Its float32 variance is infinite, so the feature would be 0 for ever."""
    sound = [Breaking(space=space) for _ in range(N_ENVS - 1)]
    env = vec_env(*sound, Breaking("observations", 1e20, at_step=3, space=space))
    keys = {"norm_obs_keys": ["speed"]} if space is DICT else {}
    policy = "MultiInputPolicy" if space is DICT else "MlpPolicy"
    with pytest.warns(RuntimeWarning, match="overflow"):
        error = error_of(small(MDPO, VecNormalize(env, **keys), policy))
    assert (error.quantity, error.members, error.num_timesteps) == ("statistics of VecNormalize", (0, 1), 64)
    assert "limit such values in a wrapper below VecNormalize" in str(error)


@pytest.mark.parametrize(("index", "quantity"), [(1, "values"), (2, "log_probs")])
def test_values_and_log_probabilities_are_found_at_their_step(index, quantity, monkeypatch):
    model = small(MDPO, vec_env())
    forward, steps = model.policy.forward, count(1)

    def breaking(obs, **_):
        outputs = forward(obs)
        if next(steps) == 5:
            outputs[index][2] = np.inf
        return outputs

    monkeypatch.setattr(model.policy, "forward", breaking)
    error = error_of(model)
    assert_about(error, quantity, (1,), 2)
    assert error.num_timesteps == 4 * N_ENVS


def test_another_error_of_the_policy_stays_what_it_is(monkeypatch):
    model = small(MDPO, vec_env())
    monkeypatch.setattr(model.policy, "forward", lambda obs, **_: int("no number"))
    with pytest.raises(ValueError, match="invalid literal") as caught:
        model.learn(64)
    assert not isinstance(caught.value, NonFiniteError)


@pytest.mark.parametrize(("module", "quantity"), [("action_net", "policy_gradient_loss"), ("value_net", "value_loss")])
def test_a_loss_is_blamed_on_the_member_whose_it_is(module, quantity):
    """The peer's loss is NaN as well, through the KL."""
    model = small_silent(MDPO, vec_env(), n_epochs=2)
    collect(model)
    break_weights(model, 1, module)
    with pytest.raises(NonFiniteError) as caught:
        model.train()
    error = caught.value
    assert (error.quantity, error.members, error.num_timesteps) == (quantity, (1,), 64)
    assert (error.epoch, error.minibatch) == (0, 0)
    assert "epoch 0, minibatch 0 of the update at num_timesteps=64. Mostly learning_rate" in str(error)


@pytest.mark.parametrize("bad", BAD)
def test_a_gradient_is_found_where_the_losses_are_finite(bad):
    model = small(MDPO, vec_env(), n_epochs=2)
    minibatches = count(1)
    model.policy.members[1].value_net.bias.register_hook(lambda grad: grad * bad if next(minibatches) == 4 else None)
    error = error_of(model)
    assert (error.quantity, error.members) == ("grad_norm", (1,))
    assert (error.epoch, error.minibatch, error.num_timesteps) == (1, 1, 64)  # two minibatches an epoch


@pytest.mark.parametrize("actions", [spaces.Discrete(2), spaces.Box(-1, 1, (2,))])
@pytest.mark.parametrize("activation", [th.nn.Tanh, th.nn.ReLU])
def test_a_learning_rate_that_is_too_large(actions, activation):
    kwargs = {"net_arch": [8, 8], "activation_fn": activation}
    error = error_of(small(MDPO, vec_env(actions=actions), learning_rate=1e30, policy_kwargs=kwargs), 1024)
    assert error.quantity in {*BLAMED, "action distribution", "values", "weights"}
    assert error.num_timesteps <= 128


POLICY = MDPO("MlpPolicy", "CartPole-v1").policy  # its weights are finite


def record(**bad: tuple[int, int, float]) -> FetchedUpdate:
    """Six minibatches of two epochs, two members; the second one reaches the limit in minibatch 3."""
    steps = np.ones((6, 2, len(METRICS)), np.float32)
    took_part = np.array([[True, step <= 3] for step in range(6)])
    stepped = np.array([[True, step < 3] for step in range(6)])
    steps[~took_part] = 0
    for name, (step, member, value) in bad.items():
        steps[step, member, METRICS.index(name)] = value
    return FetchedUpdate(np.repeat([0, 1], 3), steps, took_part, stepped, {"explained_variance": np.full(2, np.nan)})


@pytest.mark.parametrize(
    "harmless",
    [
        {},
        {"loss": (3, 1, np.inf)},  # it did not step
        {"grad_norm": (3, 1, np.nan)},
        {"approx_kl": (2, 0, np.inf)},  # nothing is learned from these
        {"clip_fraction": (2, 0, np.nan)},
        {"distill_kl": (2, 0, np.inf)},  # as without distillation, when it is not in the loss
    ],
)
def test_what_nothing_was_learned_from_is_no_error(harmless):
    check_update(record(**harmless), POLICY, 64)


def test_what_is_harmless_does_not_hide_what_comes_after_it():
    with pytest.raises(NonFiniteError) as caught:
        check_update(record(loss=(3, 1, np.inf), grad_norm=(5, 0, np.nan)), POLICY, 64)
    assert_about(caught.value, "grad_norm", (0,))
    assert (caught.value.epoch, caught.value.minibatch) == (1, 2)


@given(*map(st.sampled_from, (BLAMED, ("loss", "grad_norm"), range(6), range(2), BAD)))
def test_the_first_damage_is_found_wherever_it_is(name, damage, step, member, bad):
    update = record(**{damage: (step, member, bad), name: (step, member, bad)})
    if member == 1 and step >= 3:
        return check_update(update, POLICY, 64)
    with pytest.raises(NonFiniteError) as caught:
        check_update(update, POLICY, 64)
    error = caught.value
    assert error.quantity == min(name, damage, key=BLAMED.index)
    assert (error.members, error.epoch, error.minibatch) == ((member,), step // 3, step % 3)
    return None


def test_switched_off_it_says_nothing_but_the_logs_do(monkeypatch):
    monkeypatch.setattr(th.distributions.Distribution, "_validate_args", True)  # torch.compile switches it off for good
    env = vec_env(Breaking("rewards", np.nan, at_step=3))
    model = small_silent(MDPO, env, check_finite=False, n_steps=4, batch_size=8)
    model.learn(16, log_interval=None)
    logged = model.logger.name_to_value
    diverged = {name for name in ("policy_0/value_loss", "policy_1/value_loss", "train/loss") if np.isnan(logged[name])}
    assert diverged == {"policy_1/value_loss", "train/loss"}
    assert model.policy.members[1].value_net.weight.isnan().any()
    with pytest.raises(RuntimeError, match="probability tensor contains either `inf`, `nan`"):  # torch's sampler
        model.learn(16)


def test_it_changes_nothing_where_all_is_finite():
    weights = []
    kwargs = {"use_sde": True, "sde_sample_freq": 4, "target_kl": 0.01, "n_epochs": 3}
    for check_finite in (True, False):
        model = small(MDPO, make_vec_env("Pendulum-v1", n_envs=N_ENVS), check_finite=check_finite, **kwargs)
        weights.append(th.nn.utils.parameters_to_vector(model.learn(192).policy.parameters()))
    assert th.equal(*weights)


def test_it_is_saved_and_loaded_and_on_in_files_that_do_not_know_it(tmp_path):
    env = vec_env(Breaking("rewards", np.nan, at_step=3))
    model = small(MDPO, env, check_finite=False)
    model.save(tmp_path / "off")
    model.save(tmp_path / "older", exclude=["check_finite"])
    assert MDPO.load(tmp_path / "off").check_finite is False
    loaded = MDPO.load(tmp_path / "older", env=env)
    assert loaded.check_finite is True
    assert error_of(loaded).quantity == "rewards"


@pytest.mark.parametrize("given", [1, None, "yes"])
def test_other_settings_are_refused(given):
    with pytest.raises(TypeError, match=f"check_finite={given!r} must be True or False"):
        small(MDPO, vec_env(), check_finite=given)


def test_the_error_travels_between_processes():
    error = NonFiniteError("loss", [0, 1], 64, (), 2, 3)
    again = pickle.loads(pickle.dumps(error))
    assert (vars(again), str(again)) == (vars(error), str(error))
    assert isinstance(error, FloatingPointError)


def test_the_zoos_search_prunes_trials_that_diverge(tmp_path, monkeypatch):
    def breaking(**_):
        return Breaking("rewards", np.nan, at_step=20)

    monkeypatch.setitem(gym.registry, "Breaking-v0", gym.envs.registration.EnvSpec("Breaking-v0", breaking))
    (tmp_path / "mdpo.yml").write_text("Breaking-v0:\n  policy: MlpPolicy\n  n_envs: 2\n  n_timesteps: 100\n")
    search = ExperimentManager(
        argparse.Namespace(), "mdpo", "Breaking-v0", str(tmp_path / "logs"), optimize_hyperparameters=True,
        n_evaluations=1, n_eval_episodes=1, device="cpu", verbose=0, config=str(tmp_path / "mdpo.yml"),
    )  # fmt: skip
    search.setup_experiment()
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=6)).ask()
    with pytest.raises(optuna.TrialPruned) as caught:
        search.objective(trial)
    assert isinstance(caught.value.__cause__, NonFiniteError)
