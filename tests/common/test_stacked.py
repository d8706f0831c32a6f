"""Members in one batched pass compute what they compute one after the other."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv
from torch.nn.utils import parameters_to_vector

from sb3_mdpo import MDPO
from sb3_mdpo.common.stacked import can_stack
from sb3_mdpo.mdpo.losses import LossSettings
from sb3_mdpo.mdpo.update import draw_peers, minibatch_step
from tests.support.envs import maker
from tests.support.helpers import collect, needs_compiler, silent_logger

VECTOR = spaces.Box(-1, 1, (3,), np.float32)
ACTIONS = [
    spaces.Discrete(3),
    spaces.Discrete(3, start=2),
    spaces.MultiDiscrete([2, 3]),
    spaces.MultiBinary(2),
    spaces.Box(-1, 1, (2,), np.float32),
]
SETTINGS = LossSettings(0.2, 0.1, 0.01, 0.5, distill_coef=1.0, normalize_advantage=True)


def model_of(
    observations: spaces.Space = VECTOR, actions: spaces.Space = ACTIONS[0], n_policies: int = 2, **kwargs: Any
) -> MDPO:
    env = DummyVecEnv([maker(observations, actions)] * (2 * n_policies))
    policy = "MultiInputPolicy" if isinstance(observations, spaces.Dict) else "MlpPolicy"
    model = MDPO(policy, env, n_policies=n_policies, n_steps=16, batch_size=16, n_epochs=1, seed=0, **kwargs)
    model.set_logger(silent_logger())
    return model


def step(
    model: MDPO, stacked: bool, settings: LossSettings = SETTINGS, **kwargs: Any
) -> tuple[th.Tensor, list[th.Tensor]]:
    """Metrics and gradients of one minibatch; nothing is learned."""
    model.policy.stacked = stacked
    model.policy.optimizer = th.optim.SGD(model.policy.parameters(), lr=0.0)
    np.random.seed(0)
    minibatch = next(iter(model.rollout_buffer.get(16)))
    n = model.n_policies
    metrics = minibatch_step(
        model.policy, minibatch, draw_peers(n, "all"), settings, set(range(n)), max_grad_norm=1e9, **kwargs
    )
    return metrics, [parameter.grad.clone() for parameter in model.policy.parameters()]


@pytest.mark.parametrize("actions", ACTIONS, ids=str)
@pytest.mark.parametrize("kwargs", [{}, {"detach_peers": True}], ids=["both sides", "detached"])
@pytest.mark.parametrize("n_policies", [2, 3])
def test_metrics_and_gradients_are_those_of_single_members(actions, kwargs, n_policies):
    model = model_of(actions=actions, n_policies=n_policies)
    collect(model)
    assert model.policy.stacked
    with th.no_grad():  # members that agree have no KL, and equal standard deviations hide whose is whose
        for k, member in enumerate(model.policy.members):
            member.action_net.weight *= 1 + 20 * k
            if hasattr(member, "log_std"):
                member.log_std += 0.3 * k
    (metrics, gradients), (expected, expected_gradients) = (step(model, one, **kwargs) for one in (True, False))
    th.testing.assert_close(metrics, expected, rtol=1e-4, atol=1e-5)
    th.testing.assert_close(gradients, expected_gradients, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("actions", ACTIONS, ids=str)
def test_each_member_acts_in_its_own_environments(actions):
    model = model_of(actions=actions)
    obs = th.rand(4, 3)
    outputs = [[]] * 2
    for stacked in (True, False):
        model.policy.stacked = stacked
        outputs[stacked] = model.policy(obs, deterministic=True)
    for alone, together in zip(*outputs, strict=True):
        assert alone.shape == together.shape
        th.testing.assert_close(together, alone)


def test_dictionaries_of_vectors_are_stacked():
    model = model_of(spaces.Dict({"a": VECTOR, "b": spaces.Discrete(4)})).learn(64)
    assert model.policy.stacked
    collect(model)
    (metrics, gradients), (expected, expected_gradients) = (step(model, one) for one in (True, False))
    th.testing.assert_close(metrics, expected, rtol=1e-4, atol=1e-5)
    th.testing.assert_close(gradients, expected_gradients, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"n_policies": 1},
        {"policy_kwargs": [{"net_arch": [4]}, {"net_arch": [5]}]},
        {"policy_kwargs": [{"activation_fn": th.nn.ReLU}, {}]},
        {"use_sde": True, "actions": spaces.Box(-1, 1, (2,), np.float32)},
    ],
)
def test_members_that_differ_are_evaluated_one_by_one(kwargs):
    model = model_of(**kwargs)
    assert not model.policy.stacked
    model.learn(64)


def test_layers_that_change_or_get_hooks_are_noticed_by_the_next_training():
    model = model_of()
    calls = []
    handle = model.policy.members[1].action_net.register_forward_hook(lambda *_: calls.append(1))
    model.learn(64)
    assert calls
    assert not model.policy.stacked
    handle.remove()
    assert can_stack(model.policy.members)
    model.policy.members[1].mlp_extractor.policy_net[1] = th.nn.LayerNorm(64)
    assert not can_stack(model.policy.members)


@needs_compiler
@pytest.mark.expensive
def test_a_compiled_update_is_an_eager_one():
    """Also when schedules change the settings from update to update."""
    model = model_of()
    collect(model)
    with th.no_grad():
        for k, member in enumerate(model.policy.members):
            member.action_net.weight *= 1 + 20 * k
    for part in (0.1, 0.5, 0.9):
        settings = replace(SETTINGS, clip_range=0.02 * part, clip_range_vf=part, distill_coef=part)
        metrics, gradients = step(model, True, settings.as_tensors(model.device), compile=True)
        expected, expected_gradients = step(model, True, settings)
        th.testing.assert_close(metrics, expected, rtol=1e-4, atol=1e-5)
        th.testing.assert_close(gradients, expected_gradients, rtol=1e-3, atol=1e-5)
    eager, compiled = (
        parameters_to_vector(model_of(compile=one).learn(64).policy.parameters()) for one in (False, True)
    )
    assert not th.equal(compiled, eager)  # another order of sums: it was compiled
    th.testing.assert_close(compiled, eager, rtol=0, atol=1e-4)
