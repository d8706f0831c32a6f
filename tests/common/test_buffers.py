"""The rollout buffer: GAE by hand and against SB3's, order and layout of the samples."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.buffers import RolloutBuffer

from sb3_mdpo.common.buffers import (
    MutualRolloutBuffer,
    discounted_sums_by_doubling,
    generalized_advantage_estimate,
    of_member,
)

VECTOR = spaces.Box(-1, 1, (3,), np.float32)
ACTIONS = spaces.Discrete(4)


def column(*values: float) -> th.Tensor:
    return th.tensor(values, dtype=th.float32).reshape(-1, 1)


@pytest.mark.parametrize(
    ("second_start", "last_value", "last_done", "expected"),
    [
        # delta_1 = 2 + 0.5 * 4 - 3 = 1, delta_0 = 1 + 0.5 * 3 - 2 = 0.5; A_0 = 0.5 + 0.5 * 0.5 * 1
        pytest.param(0, 4.0, 0.0, (0.75, 1), id="by hand"),
        # A_0 = 1 - 2 whatever follows
        pytest.param(1, 4.0, 0.0, (-1, 1), id="the first step ends an episode"),
        # delta_1 = 2 - 3 = -1 whatever the last value; A_0 = 0.5 + 0.25 * -1
        pytest.param(0, 100.0, 1.0, (0.25, -1), id="the last step ends an episode"),
    ],
)
def test_gae(second_start, last_value, last_done, expected):
    rewards, values, starts = column(1, 2), column(2, 3), column(1, second_start)
    last = th.tensor([last_value]), th.tensor([last_done])
    advantages = generalized_advantage_estimate(rewards, values, starts, *last, gamma=0.5, gae_lambda=0.5)
    th.testing.assert_close(advantages, column(*expected))


def test_sums_by_doubling_are_the_sums_step_by_step():
    generator = th.Generator().manual_seed(0)
    for n_steps in (1, 2, 7, 64, 100):
        deltas = th.randn(n_steps, 3, generator=generator, dtype=th.float64)
        discounts = th.rand(n_steps, 3, generator=generator, dtype=th.float64)
        discounts[th.rand(n_steps, 3, generator=generator) < 0.1] = 0  # ends of episodes
        expected = deltas.clone()
        for step in reversed(range(n_steps - 1)):
            expected[step] += discounts[step] * expected[step + 1]
        th.testing.assert_close(discounted_sums_by_doubling(deltas, discounts), expected)


def fill(buffer: RolloutBuffer | MutualRolloutBuffer, seed: int, end: float = 0.2) -> None:
    rng = np.random.default_rng(seed)
    n = buffer.n_envs
    for _ in range(buffer.buffer_size):
        buffer.add(
            rng.normal(size=(n, 3)).astype(np.float32),
            rng.integers(0, 4, size=(n, 1)),
            rng.normal(size=n).astype(np.float32),
            (rng.random(n) < end).astype(np.float32),
            th.as_tensor(rng.normal(size=(n, 1)).astype(np.float32)),
            th.as_tensor(rng.normal(size=n).astype(np.float32)),
        )
    buffer.compute_returns_and_advantage(th.as_tensor(rng.normal(size=(n, 1)).astype(np.float32)), rng.random(n) < end)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n_steps=st.integers(1, 12),
    n_envs=st.integers(1, 5),
    gamma=st.floats(0.5, 1),
    gae_lambda=st.floats(0, 1),
)
def test_one_member_has_sb3s_samples_bit_for_bit(seed, n_steps, n_envs, gamma, gae_lambda):
    arguments = (n_steps, VECTOR, ACTIONS, "cpu", gae_lambda, gamma, n_envs)
    ours, theirs = MutualRolloutBuffer(*arguments), RolloutBuffer(*arguments)
    ours.reset()
    for buffer in (ours, theirs):
        fill(buffer, seed)
    np.random.seed(seed)
    expected = list(theirs.get(batch_size=4))
    np.random.seed(seed)
    actual = [of_member(minibatch, 0) for minibatch in ours.get(batch_size=4)]
    assert len(actual) == len(expected)
    for mine, sb3s in zip(actual, expected, strict=True):
        th.testing.assert_close(mine.observations, sb3s.observations, rtol=0, atol=0)
        th.testing.assert_close(mine.actions, sb3s.actions.long().flatten())
        for name in ("old_values", "old_log_prob", "advantages", "returns"):
            th.testing.assert_close(getattr(mine, name), getattr(sb3s, name), rtol=0, atol=0)


@settings(max_examples=30, deadline=None)
@given(
    n_policies=st.integers(1, 4), envs_each=st.integers(1, 3), n_steps=st.integers(1, 6), batch_size=st.integers(1, 20)
)
def test_each_member_gets_every_sample_of_its_own_environments_once(n_policies, envs_each, n_steps, batch_size):
    n_envs = n_policies * envs_each
    buffer = MutualRolloutBuffer(n_steps, VECTOR, ACTIONS, "cpu", n_envs=n_envs, n_policies=n_policies)
    buffer.reset()
    for step in range(n_steps):
        # The value names environment and step
        values = th.arange(n_envs, dtype=th.float32) * 100 + step
        rest = np.zeros(n_envs)
        buffer.add(np.zeros((n_envs, 3)), np.zeros(n_envs, dtype=int), rest, rest, values, values)
    epoch = list(buffer.get(batch_size))
    orders = []
    for k in range(n_policies):
        seen = th.cat([minibatch.old_values[k] for minibatch in epoch])
        own = [env * 100 + step for env in range(k * envs_each, (k + 1) * envs_each) for step in range(n_steps)]
        assert sorted(seen.tolist()) == own
        orders.append([own.index(value) for value in seen.tolist()])
    # One permutation for all members, as in the paper's code
    assert all(order == orders[0] for order in orders)


def test_images_reach_the_update_channels_last():
    space = spaces.Box(0, 255, (3, 8, 8), np.uint8)
    buffer = MutualRolloutBuffer(2, space, ACTIONS, "cpu", n_envs=2, n_policies=2)
    buffer.reset()
    images = np.random.default_rng(0).integers(0, 256, (2, 2, 3, 8, 8), dtype=np.uint8)
    zeros = np.zeros(2)
    for image in images:
        buffer.add(image, np.zeros(2, dtype=int), zeros, zeros, th.zeros(2), th.zeros(2))
    (minibatch,) = buffer.get()
    for k in range(2):
        sample = of_member(minibatch, k)
        assert sample.observations.dtype == th.uint8
        assert sample.observations.is_contiguous(memory_format=th.channels_last)
        rows = {row.tobytes() for row in sample.observations.contiguous().numpy()}
        assert rows == {image.tobytes() for image in images[:, k]}


def test_dictionaries_are_stored_key_by_key():
    space = spaces.Dict({"image": spaces.Box(0, 255, (1, 4, 4), np.uint8), "place": spaces.Discrete(3)})
    buffer = MutualRolloutBuffer(1, space, spaces.Box(-1, 1, (2,)), "cpu", n_envs=2, n_policies=2)
    buffer.reset()
    obs = {"image": np.full((2, 1, 4, 4), [[[[7]]], [[[9]]]], dtype=np.uint8), "place": np.array([1, 2])}
    buffer.add(obs, np.array([[0.1, 0.2], [0.3, 0.4]]), np.zeros(2), np.zeros(2), th.zeros(2), th.zeros(2))
    (minibatch,) = buffer.get()
    assert minibatch.observations["image"][:, 0, 0, 0, 0].tolist() == [7, 9]
    assert minibatch.observations["place"][:, 0, 0].tolist() == [1, 2]
    th.testing.assert_close(minibatch.actions[1], th.tensor([[0.3, 0.4]]))


def test_memory_is_taken_by_the_first_reset_and_kept_by_the_next():
    buffer = MutualRolloutBuffer(5, VECTOR, ACTIONS, "cpu", n_envs=4, n_policies=2)
    assert not hasattr(buffer, "observations")
    buffer.reset()
    memory = buffer.observations
    # SB3's shapes
    assert memory.shape == (5, 4, 3)
    assert buffer.rewards.shape == buffer.values.shape == (5, 4)
    assert buffer.actions.shape == (5, 4, 1)
    buffer.reset()
    assert buffer.observations is memory
    assert (buffer.pos, buffer.full) == (0, False)


def test_environments_that_cannot_be_shared_out_are_refused_at_reset():
    buffer = MutualRolloutBuffer(2, VECTOR, ACTIONS, "cpu", n_envs=3, n_policies=2)
    with pytest.raises(ValueError, match="3 environments cannot be shared out equally among 2 policies"):
        buffer.reset()
