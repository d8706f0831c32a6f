"""SB3's PPO as an oracle: with one member exactly, with two that do not distill up to a factor of two."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.env_util import make_vec_env

from sb3_mdpo import MDPO
from tests.support.envs import BrightSideEnv
from tests.support.helpers import assert_same_parameters, collect, seeded, silent_logger

SETTINGS = {"n_steps": 64, "batch_size": 48, "n_epochs": 3, "seed": 3, "device": "cpu", "learning_rate": 1e-3}


def ppo_and_one_policy(env_id: str | type[gym.Env], n_envs: int, steps: int, **kwargs: Any) -> tuple[PPO, MDPO]:
    """PPO and MDPO with one policy after the same training."""
    policy = "MlpPolicy" if isinstance(env_id, str) else "CnnPolicy"
    models = []
    for algorithm, extra in ((PPO, {}), (MDPO, {"n_policies": 1})):
        model = algorithm(policy, make_vec_env(env_id, n_envs=n_envs), **SETTINGS | kwargs, **extra)
        model.set_logger(silent_logger())
        models.append(model.learn(steps, log_interval=100))
    return tuple(models)


def test_one_policy_is_ppo_bit_for_bit_on_cartpole():
    # 256 samples in minibatches of 48: the last one is shorter
    ppo, mdpo = ppo_and_one_policy("CartPole-v1", 4, 4 * 256)
    assert mdpo.num_timesteps == ppo.num_timesteps
    assert mdpo._n_updates == ppo._n_updates
    assert_same_parameters(mdpo.policy.members[0], ppo.policy)


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_one_policy_logs_what_ppo_logs(env_id):
    models = ppo_and_one_policy(env_id, 4, 2 * 256)
    ppo, mdpo = (
        {key: float(value) for key, value in model.logger.name_to_value.items() if key.startswith("train/")}
        for model in models
    )
    assert ppo.keys() - mdpo.keys() == set()
    for key, value in ppo.items():
        assert mdpo[key] == pytest.approx(value, rel=1e-4, abs=1e-7), key


@pytest.mark.parametrize("target_kl", [0.001, 0.0])
def test_one_policy_is_ppo_with_target_kl(target_kl):
    """PPO's rule stops the whole update; with one member it is ours."""
    ppo, mdpo = ppo_and_one_policy("CartPole-v1", 4, 3 * 256, target_kl=target_kl)
    assert mdpo._n_updates == ppo._n_updates < 9
    assert_same_parameters(mdpo.policy.members[0], ppo.policy)


def test_one_policy_is_ppo_with_continuous_actions():
    # Pendulum's episodes all end at its time limit of 200 steps: bootstrapping is covered as well
    ppo, mdpo = ppo_and_one_policy("Pendulum-v1", 4, 3 * 512, n_steps=128)
    # To rounding only: the terminal observations go through the network in one batch here
    assert_same_parameters(mdpo.policy.members[0], ppo.policy, rtol=1e-3, atol=1e-4)


def test_one_policy_is_ppo_on_images_to_rounding():
    ppo, mdpo = ppo_and_one_policy(BrightSideEnv, 2, 3 * 128, learning_rate=1e-4)
    # Convolutions round differently in our memory layout; 27 steps of Adam can move a weight by 27e-4
    assert_same_parameters(mdpo.policy.members[0], ppo.policy, rtol=1e-3, atol=1e-4)


def test_two_policies_that_do_not_distill_are_two_ppos():
    """
    The mean over members halves each gradient before it is clipped, so that a PPO with twice the
    ``max_grad_norm`` and twice Adam's ``eps`` takes the same steps.
    """
    mdpo = MDPO("MlpPolicy", make_vec_env("CartPole-v1", n_envs=4), distill_coef=0.0, max_grad_norm=0.3, **SETTINGS)
    start = [{name: p.clone() for name, p in member.state_dict().items()} for member in mdpo.policy.members]
    rollout = collect(mdpo)

    seeded(5)
    mdpo.train()

    for k, member in enumerate(mdpo.policy.members):
        ppo = PPO(
            "MlpPolicy",
            make_vec_env("CartPole-v1", n_envs=2),
            max_grad_norm=0.6,
            policy_kwargs={"optimizer_kwargs": {"eps": 2e-5}},
            **SETTINGS,
        )
        ppo.set_logger(silent_logger())
        ppo.policy.load_state_dict(start[k])
        ppo.rollout_buffer = sb3_buffer(mdpo, rollout, slice(2 * k, 2 * k + 2))
        seeded(5)
        ppo.train()
        assert not all(th.equal(start[k][name], p) for name, p in member.state_dict().items())
        assert_same_parameters(member, ppo.policy, rtol=1e-5, atol=1e-6)


def sb3_buffer(mdpo: MDPO, rollout, envs: slice) -> RolloutBuffer:
    buffer = RolloutBuffer(mdpo.n_steps, mdpo.observation_space, mdpo.action_space, "cpu", n_envs=2)
    for name in ("observations", "actions", "rewards", "values", "log_probs", "advantages", "returns"):
        data = np.ascontiguousarray(getattr(rollout, name)[:, envs].numpy())
        setattr(buffer, name, data.astype(getattr(buffer, name).dtype))
    buffer.full = True
    return buffer
