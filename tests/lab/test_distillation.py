"""A single policy that imitates the average of the members."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_mdpo import MDPO, RecurrentMDPO
from sb3_mdpo.envs import make_levels
from sb3_mdpo.lab import distill_ensemble, evaluate_generalization
from tests.support.envs import maker
from tests.support.helpers import assert_same_parameters
from tests.support.training import small


def far_apart(**kwargs) -> MDPO:
    """Members that differ, on vectors."""
    model = small(env=make_vec_env("CartPole-v1", 4, seed=0), n_epochs=8, learning_rate=1e-2, seed=0, **kwargs)
    with th.no_grad():
        for k, member in enumerate(model.policy.members):
            member.action_net.weight *= 40
            member.action_net.bias += th.tensor([2.0, 0.0]) * k
    return model


def average(model: MDPO, observations: th.Tensor) -> th.Tensor:
    with th.no_grad():
        probs = [one.get_distribution(observations).distribution.probs for one in model.policy.members]
    return th.stack(probs).mean(0)


def test_the_policy_acts_as_the_average_of_the_members():
    model = far_apart()
    modes = [module.training for module in model.policy.modules()]
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    env = make_vec_env("CartPole-v1", 4, seed=1)
    ppo = distill_ensemble(model, env, 6_000)
    visited = [env.reset(), *(env.step(np.arange(4) % 2)[0] for _ in range(5))]
    states = th.from_numpy(np.concatenate(visited))

    def distances(probs: th.Tensor) -> float:
        return float((probs - average(model, states)).abs().sum(1).mean() / 2)

    with th.no_grad():
        ours = ppo.policy.get_distribution(states).distribution.probs
        single = model.policy.members[0].get_distribution(states).distribution.probs
    assert distances(single) > 0.1
    assert distances(ours) < distances(single) / 3
    assert all(th.equal(value, before[name]) for name, value in model.policy.state_dict().items())
    assert model.policy.predict_with == 0
    assert [module.training for module in model.policy.modules()] == modes


def test_the_seed_decides_and_global_generators_do_not_change():
    model = far_apart()
    env = make_vec_env("CartPole-v1", 4)

    def distilled(seed: int) -> PPO:
        env.seed(5)
        th.manual_seed(seed + 100)
        before = th.get_rng_state()
        ppo = distill_ensemble(model, env, 128, seed)
        assert th.equal(th.get_rng_state(), before)
        return ppo

    first = distilled(1)
    assert_same_parameters(first.policy, distilled(1).policy)
    assert not th.equal(first.policy.action_net.weight, distilled(2).policy.action_net.weight)
    assert not th.equal(first.policy.action_net.weight, model.policy.members[0].action_net.weight)


def test_a_distilled_policy_is_saved_loaded_and_evaluated(tmp_path):
    env = make_levels("TexturedGrid-v0", 4, seed=0, num_levels=5)
    model = small(env=env, policy="StridedCnnPolicy")
    distill_ensemble(model, env, 64).save(tmp_path / "one")
    loaded = PPO.load(tmp_path / "one")
    result = evaluate_generalization(loaded, "TexturedGrid-v0", 5, episodes=2)
    assert [policy.policy for policy in result.policies] == ["policy 0"]


def test_gaussians_are_distilled_as_well():
    env = DummyVecEnv([maker(spaces.Box(-1, 1, (3,)), spaces.Box(-1, 1, (2,)))] * 2)
    model = small(env=env)
    with th.no_grad():
        for member in model.policy.members:
            member.log_std += 1.0
    assert float(distill_ensemble(model, env, 320).policy.log_std.detach().mean()) > 0.0


def test_what_cannot_be_distilled():
    env = make_vec_env("CartPole-v1", 2)
    with pytest.raises(ValueError, match=r"a single policy, which is its own average: use to_ppo\(\)"):
        distill_ensemble(small(env=env, n_policies=1), env, 10)
    with pytest.raises(ValueError, match="total_timesteps=0 must be at least 1"):
        distill_ensemble(small(env=env), env, 0)
    with pytest.raises(ValueError, match="spaces do not match"):
        distill_ensemble(small(env=env), make_vec_env("Pendulum-v1", 2), 10)
    with pytest.raises(
        TypeError, match="members of RecurrentMDPO are not PPO's, but RecurrentPPO's: use a model of MDPO"
    ):
        distill_ensemble(small(RecurrentMDPO, env, "MlpLstmPolicy"), env, 10)
    space = spaces.Dict({"x": spaces.Box(-1, 1, (3,))})
    both = DummyVecEnv([maker(space, spaces.Discrete(2))] * 2)
    with pytest.raises(TypeError, match="Observations are dictionaries"):
        distill_ensemble(small(env=both, policy="MultiInputPolicy"), both, 10)
