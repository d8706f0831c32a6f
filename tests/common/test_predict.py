"""``predict()`` and ``evaluate_policy()``: of the model, of each member and of the ensemble, as with PPO."""

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.distributions import CategoricalDistribution, DiagGaussianDistribution
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_mdpo import MDPO
from tests.support.envs import maker
from tests.support.helpers import both, seeded
from tests.support.training import ScriptedEnv, small

SMALL = {"net_arch": [8]}
SMALL_CNN = {"features_extractor_kwargs": {"features_dim": 8}}
VECTOR = spaces.Box(-1, 1, (2,))
CHANNELS_LAST = spaces.Box(0, 255, (36, 40, 3), np.uint8)
CHANNELS_FIRST = spaces.Box(0, 255, (3, 36, 40), np.uint8)
WHO = (0, 1, "ensemble")


def build(
    observation_space: spaces.Space,
    action_space: spaces.Space,
    policy: str = "MlpPolicy",
    algorithm: type[PPO] | type[MDPO] = MDPO,
    **kwargs: Any,
) -> PPO | MDPO:
    env = DummyVecEnv([maker(observation_space, action_space)] * 2)
    default = {"CnnPolicy": SMALL_CNN, "MultiInputPolicy": {}, "MlpPolicy": SMALL}[policy]
    return small(algorithm, env, policy, **{"policy_kwargs": default, **kwargs})


def predictors(model: MDPO) -> Iterator[tuple[str, Any]]:
    """Everything that predicts, by name."""
    for who in WHO:
        model.predict_with = who
        yield f"model with {who}", model
        yield f"policy with {who}", model.policy
    for k, member in enumerate(model.policy.members):
        yield f"member {k}", member


def vectors(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (*shape, 2)).astype(np.float32)


def sampled(space: spaces.Space, n: int) -> np.ndarray:
    space.seed(0)
    return np.stack([space.sample() for _ in range(n)])


ACTION_SPACES = [
    spaces.Discrete(3),
    spaces.MultiDiscrete([2, 3]),
    spaces.MultiBinary(3),
    spaces.Box(-2, 1, (2,)),
    spaces.Box(-2, 1, (2,), dtype=np.float64),
    spaces.Box(-1, 1, (2, 2)),
]


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("action_space", ACTION_SPACES, ids=str)
def test_actions_have_ppos_shapes_and_types_and_are_in_the_space(action_space, deterministic):
    ppo, model = (build(VECTOR, action_space, algorithm=algorithm) for algorithm in (PPO, MDPO))
    # Any batch can be predicted, whatever the number of environments and of members
    for name, predictor in predictors(model):
        for obs in (vectors(), vectors(5), vectors(1)):
            action, state = predictor.predict(obs, deterministic=deterministic)
            expected, _ = ppo.predict(obs, deterministic=deterministic)
            assert type(action) is type(expected), name
            assert (np.shape(action), action.dtype) == (np.shape(expected), expected.dtype), name
            assert state is None
            actions = action[np.newaxis] if obs.ndim == 1 else action
            assert all(action_space.contains(one) for one in actions), name


@pytest.mark.parametrize(
    "observation_space", [spaces.Discrete(5), spaces.MultiDiscrete([3, 4]), spaces.MultiBinary(4)], ids=str
)
def test_discrete_observations(observation_space):
    model, batch = build(observation_space, spaces.Discrete(3)), sampled(observation_space, 5)
    for _, predictor in predictors(model):
        actions, _ = predictor.predict(batch, deterministic=True)
        assert actions.shape == (5,)
        one, _ = predictor.predict(batch[2], deterministic=True)
        assert one.shape == ()
        assert one == actions[2]


def test_dictionaries():
    space = spaces.Dict({"image": CHANNELS_LAST, "vector": VECTOR})
    model = build(space, spaces.Discrete(3), "MultiInputPolicy")
    batch = {key: sampled(part, 5) for key, part in space.spaces.items()}
    # As the environments give them, channels last, and as the model's own give them, channels first
    transposed = batch | {"image": batch["image"].transpose(0, 3, 1, 2)}
    for _, predictor in predictors(model):
        actions, _ = predictor.predict(batch, deterministic=True)
        assert actions.shape == (5,)
        np.testing.assert_array_equal(predictor.predict(transposed, deterministic=True)[0], actions)
        one, _ = predictor.predict({key: value[3] for key, value in batch.items()}, deterministic=True)
        assert one.shape == ()
        assert one == actions[3]


@pytest.mark.parametrize("space", [CHANNELS_LAST, CHANNELS_FIRST], ids=["channels-last", "channels-first"])
def test_images(space):
    # Continuous actions show the smallest difference
    model = build(space, spaces.Box(-1, 1, (2,)), "CnnPolicy")
    assert model.observation_space.shape == (3, 36, 40)
    batch = sampled(space, 4)
    other = batch.transpose(0, 3, 1, 2) if space is CHANNELS_LAST else batch.transpose(0, 2, 3, 1)
    for _, predictor in predictors(model):
        actions, _ = predictor.predict(batch, deterministic=True)
        assert actions.shape == (4, 2)
        np.testing.assert_allclose(predictor.predict(other, deterministic=True)[0], actions, rtol=1e-5, atol=1e-7)
        one, _ = predictor.predict(batch[1], deterministic=True)
        assert one.shape == (2,)
        np.testing.assert_allclose(one, actions[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("low", "high"), [(-2.0, 1.0), (0.0, 10.0)])
def test_gaussian_actions_are_clipped_to_the_space(low, high):
    model = build(VECTOR, spaces.Box(low, high, (1,)), policy_kwargs=SMALL | {"log_std_init": 3.0})
    obs = np.zeros((200, 2), dtype=np.float32)
    for _, predictor in predictors(model):
        seeded(0)
        actions, _ = predictor.predict(obs)
        assert (actions.min(), actions.max()) == (low, high)


def test_squashed_actions_are_scaled_to_the_space():
    """gSDE with tanh: the policy's own action is in [-1, 1]; no action is clipped, and so none lies on the border."""
    action_space = spaces.Box(np.array([0, -3], np.float32), np.array([10, 1], np.float32))
    kwargs = {"use_sde": True, "policy_kwargs": SMALL | {"squash_output": True, "log_std_init": 0.0}}
    model = build(VECTOR, action_space, **kwargs)
    obs = vectors(50)
    for name, predictor in predictors(model):
        seeded(0)
        for deterministic in (True, False):
            actions, _ = predictor.predict(obs, deterministic=deterministic)
            assert ((actions > action_space.low) & (actions < action_space.high)).all(), name
            assert abs(actions.mean(0) - [5, -1]).max() < 1.5, name
        assert predictor.predict(obs[:1])[0].shape == (1, 2)  # noise for any number of states
    model.predict_with = 1
    with th.no_grad():
        squashed = model.policy.members[1]._predict(th.as_tensor(obs), deterministic=True).numpy()
    assert (abs(squashed) < 1).all()
    np.testing.assert_allclose(
        model.predict(obs, deterministic=True)[0], action_space.low + (squashed + 1) / 2 * [10, 4], rtol=1e-5
    )
    # PPO with the first member's weights gives the first member's actions
    ppo = build(VECTOR, action_space, algorithm=PPO, **kwargs)
    model.predict_with = 0
    np.testing.assert_array_equal(model.predict(obs, deterministic=True)[0], ppo.predict(obs, deterministic=True)[0])


def test_model_policy_and_member_agree():
    model = build(VECTOR, spaces.Box(-1, 1, (2,)))
    assert model.predict_with == 0
    obs = vectors(6)
    by_member = [member.predict(obs, deterministic=True)[0] for member in model.policy.members]
    assert not np.allclose(*by_member)
    for k in (0, 1):
        model.predict_with = k
        for predictor in (model, model.policy):
            np.testing.assert_array_equal(predictor.predict(obs, deterministic=True)[0], by_member[k])
    model.predict_with = "ensemble"
    np.testing.assert_allclose(model.predict(obs, deterministic=True)[0], np.mean(by_member, axis=0), rtol=1e-5)


def test_the_first_member_predicts_what_ppo_does():
    obs = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    actions = []
    for algorithm in (PPO, MDPO):
        model = small(algorithm)
        seeded(0)
        actions.append((model.predict(obs)[0], model.predict(obs, deterministic=True)[0]))
    np.testing.assert_array_equal(actions[1], actions[0])


@both
def test_what_reset_of_a_gym_environment_returns_is_refused(algorithm):
    env = gym.make("CartPole-v1")
    model = small(algorithm)
    predicting = [model, model.policy, *(model.policy.members if algorithm is MDPO else [])]
    for predictor in predicting:
        with pytest.raises(ValueError, match=r"mixing Gym API"):
            predictor.predict(env.reset())


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 2, 2)])
def test_observations_of_another_shape_are_refused(shape):
    model = build(VECTOR, spaces.Discrete(2))
    for _, predictor in predictors(model):
        with pytest.raises(ValueError, match="Unexpected observation shape"):
            predictor.predict(np.zeros(shape, dtype=np.float32))


# Pays the action, for as many steps as there have been episodes, up to three
PRESSING = {"reward": lambda _env, action: float(action), "length": lambda env: min(env.n_episodes, 3)}


def opinionated_model() -> MDPO:
    """Member 0 never presses the button and is sure; member 1 always does, but less surely."""
    model = small(MDPO, make_vec_env(ScriptedEnv, n_envs=2))
    for member, bias in zip(model.policy.members, ([9.0, -9.0], [-2.0, 2.0]), strict=True):
        member.action_net.bias.data = th.tensor(bias)
    return model


@pytest.mark.parametrize(("who", "presses"), [(0, 0.0), (1, 1.0), ("ensemble", 0.0)])
def test_evaluation_is_of_whom_it_is_asked_for(who, presses):
    model = opinionated_model()
    model.predict_with = who
    seen: list[tuple[float, bool]] = []

    def remember(local_variables: dict[str, Any], _globals: dict[str, Any]) -> None:
        seen.append((float(local_variables["reward"]), bool(local_variables["done"])))

    def evaluate(what, n_envs: int = 1, **kwargs: Any):
        return evaluate_policy(
            what, make_vec_env(ScriptedEnv, n_envs, env_kwargs=PRESSING), n_eval_episodes=4, **kwargs
        )

    rewards, lengths = evaluate(model, return_episode_rewards=True, callback=remember)
    # The environment was reset once before the first episode that counts
    assert lengths == [1, 2, 3, 3]
    assert rewards == [presses * length for length in lengths]
    assert [reward for reward, _ in seen] == [presses] * 9
    assert sum(done for _, done in seen) == 4
    assert evaluate(model) == (np.mean(rewards), np.std(rewards))
    assert evaluate(model.policy) == evaluate(model)
    if who != "ensemble":
        assert evaluate(model.policy.members[who]) == evaluate(model)
        assert evaluate(model.policy.members[who], n_envs=3)[0] == presses * 1.25  # episodes of 1, 1, 1 and 2 steps


def test_the_ensemble_samples_from_the_averaged_distribution():
    model = opinionated_model()
    model.predict_with = "ensemble"
    seeded(0)
    actions, _ = model.predict(np.zeros((4000, 1), dtype=np.float32))
    # (1e-8 + 0.982) / 2 for the button; 4000 draws have a standard deviation of 0.008
    assert actions.mean() == pytest.approx(0.491, abs=0.04)


@pytest.mark.parametrize(
    ("action_space", "kind"),
    [(spaces.Discrete(3), CategoricalDistribution), (spaces.Box(-1, 1, (2,)), DiagGaussianDistribution)],
    ids=["discrete", "box"],
)
def test_distributions_are_all_members_on_all_observations(action_space, kind):
    model = build(VECTOR, action_space)
    obs = th.as_tensor(vectors(5))
    distributions = model.policy.get_distributions(obs)
    assert [type(distribution) for distribution in distributions] == [kind, kind]
    actions = distributions[0].mode()
    log_probs = [distribution.log_prob(actions) for distribution in distributions]
    assert not th.allclose(*log_probs)
    for member, log_prob in zip(model.policy.members, log_probs, strict=True):
        th.testing.assert_close(member.evaluate_actions(obs, actions)[1], log_prob)


def test_observations_become_tensors_as_with_ppo():
    """``obs_to_tensor()`` is what SB3's users call before they ask a policy for values or distributions."""
    space = spaces.Dict({"image": CHANNELS_FIRST, "vector": VECTOR})
    ppo, model = (build(space, spaces.Discrete(3), "MultiInputPolicy", algorithm) for algorithm in (PPO, MDPO))
    observation = space.sample()
    tensors, vectorised = model.policy.obs_to_tensor(observation)
    assert not vectorised
    th.testing.assert_close(tensors, ppo.policy.obs_to_tensor(observation)[0])
    probabilities = [distribution.distribution.probs for distribution in model.policy.get_distributions(tensors)]
    assert [tensor.shape for tensor in probabilities] == [(1, 3)] * 2
