"""The rollout buffer of MDPO: one for all environments, sampled per member."""

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import torch as th
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.buffers import BaseBuffer
from stable_baselines3.common.type_aliases import DictRolloutBufferSamples, PyTorchObs, RolloutBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

TensorOrDict = th.Tensor | dict[str, th.Tensor]


def generalized_advantage_estimate(
    rewards: th.Tensor,
    values: th.Tensor,
    episode_starts: th.Tensor,
    last_values: th.Tensor,
    dones: th.Tensor,
    gamma: float,
    gae_lambda: float,
) -> th.Tensor:
    """
    GAE(lambda) of a rollout (arXiv 1506.02438), over all environments at once.

    On a CPU the operations have the order of SB3's ``RolloutBuffer``, for bit-identical results. Elsewhere the sums are
    built up by doubling: a few kernels in place of several for each step, equal up to rounding.

    :param rewards: shape ``(n_steps, n_envs)``
    :param values: value of the observation of each step, shape ``(n_steps, n_envs)``
    :param episode_starts: 1 for the first step of an episode, shape ``(n_steps, n_envs)``
    :param last_values: value of the observation after the last step, shape ``(n_envs,)``
    :param dones: 1 if the last step ended an episode, shape ``(n_envs,)``
    :param gamma: discount factor
    :param gae_lambda: trade-off of bias against variance
    :return: advantages, shape ``(n_steps, n_envs)``
    """
    next_values = th.cat([values[1:], last_values[None]])
    next_non_terminal = 1.0 - th.cat([episode_starts[1:], dones[None]])
    deltas = rewards + gamma * next_values * next_non_terminal - values
    discounts = gamma * gae_lambda * next_non_terminal
    if rewards.device.type == "cpu":
        return _discounted_sums(deltas, discounts)
    return discounted_sums_by_doubling(deltas, discounts)


def _discounted_sums(deltas: th.Tensor, discounts: th.Tensor) -> th.Tensor:
    # In NumPy, whose operations on short rows start faster than torch's
    sums, factors = deltas.contiguous().numpy(), discounts.contiguous().numpy()
    for step in range(len(sums) - 2, -1, -1):
        sums[step] += factors[step] * sums[step + 1]
    return th.as_tensor(sums)


def discounted_sums_by_doubling(deltas: th.Tensor, discounts: th.Tensor) -> th.Tensor:
    """
    Sums ``s[t] = deltas[t] + discounts[t] * s[t + 1]`` in ``log2(n_steps)`` passes: after each one, ``sums[t]`` spans
    twice as many steps and ``factors[t]`` is the discount over that span.

    :param deltas: shape ``(n_steps, n_envs)``
    :param discounts: same shape
    :return: sums, same shape
    """
    sums, factors = deltas.clone(), discounts.clone()
    span = 1
    while span < len(sums):
        sums[:-span] += factors[:-span] * sums[span:]
        factors[:-span] *= factors[span:].clone()
        span *= 2
    return sums


class MutualRolloutBuffer(BaseBuffer):
    """
    Rollouts of all members, one device-resident tensor per quantity.

    Environment ``i`` belongs to member ``i // (n_envs / n_policies)``. The attributes have SB3's shape
    ``(buffer_size, n_envs, ...)`` but are stored environment after environment, so that a member's samples, in SB3's
    order, are one contiguous block. Images are stored channels last and viewed as channels first. Memory is allocated
    by the first :meth:`reset`: a model loaded to predict needs none.

    :param buffer_size: steps per environment
    :param observation_space: observation space
    :param action_space: action space
    :param device: device of the rollouts
    :param gae_lambda: trade-off of bias against variance in GAE
    :param gamma: discount factor
    :param n_envs: environments of all members together
    :param n_policies: number of members
    """

    #: Types of the samples, of plain and of dictionary observations
    samples_classes: ClassVar[tuple[type[Any], type[Any]]] = (RolloutBufferSamples, DictRolloutBufferSamples)
    observations: TensorOrDict
    actions: th.Tensor
    rewards: th.Tensor
    episode_starts: th.Tensor
    values: th.Tensor
    log_probs: th.Tensor
    advantages: th.Tensor
    returns: th.Tensor
    inputs: dict[str, th.Tensor]  #: what the policy takes besides observations, by name

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        device: th.device | str = "auto",
        gae_lambda: float = 1,
        gamma: float = 0.99,
        n_envs: int = 1,
        n_policies: int = 1,
    ) -> None:
        super().__init__(buffer_size, observation_space, action_space, device, n_envs=n_envs)
        self.gae_lambda = gae_lambda
        self.gamma = gamma
        self.n_policies = n_policies
        self._allocated = False

    def reset(self) -> None:
        """
        Clear the buffer.

        :raises ValueError: if the environments cannot be shared out equally among the members
        """
        if self.n_envs % self.n_policies:
            raise ValueError(
                f"{self.n_envs} environments cannot be shared out equally among {self.n_policies} policies."
            )
        if not self._allocated:
            self._allocate()
            self._allocated = True
        super().reset()

    def _zeros(self, shape: tuple[int, ...], dtype: th.dtype) -> th.Tensor:
        memory = th.zeros((self.n_envs, self.buffer_size, *shape), dtype=dtype, device=self.device)
        return memory.transpose(0, 1)

    def _allocate_inputs(self) -> dict[str, th.Tensor]:
        """Memory of what :meth:`add` gets besides observations, by name, in the order of the samples' fields."""
        return {}

    def _allocate(self) -> None:
        def observation_memory(space: spaces.Space[Any], shape: tuple[int, ...]) -> th.Tensor:
            dtype = th.as_tensor(np.empty(0, dtype=space.dtype)).dtype
            if len(shape) != 3:
                return self._zeros(shape, dtype)
            # Images: the layout in which they arrive (SB3 transposes views) and convolutions are fastest
            channels, height, width = shape
            return self._zeros((height, width, channels), dtype).permute(0, 1, 4, 2, 3)

        if isinstance(self.observation_space, spaces.Dict):
            shapes: dict[str, tuple[int, ...]] = self.obs_shape  # type: ignore[assignment]
            self.observations = {
                key: observation_memory(space, shapes[key]) for key, space in self.observation_space.spaces.items()
            }
        else:
            self.observations = observation_memory(self.observation_space, self.obs_shape)  # type: ignore[arg-type]
        # Categorical distributions want indices, all others floats
        is_discrete = isinstance(self.action_space, spaces.Discrete)
        self.actions = self._zeros((self.action_dim,), th.int64 if is_discrete else th.float32)
        for name in ("rewards", "episode_starts", "values", "log_probs", "advantages", "returns"):
            setattr(self, name, self._zeros((), th.float32))
        self.inputs = self._allocate_inputs()
        # Rewards and episode starts come from the host: they are moved to the device together, at the end
        self._from_host = np.zeros((2, self.buffer_size, self.n_envs), dtype=np.float32)

    def add(  # type: ignore[override]
        self,
        obs: PyTorchObs | NDArray[Any] | dict[str, NDArray[Any]],
        action: th.Tensor | NDArray[Any],
        reward: NDArray[Any],
        episode_start: NDArray[Any],
        value: th.Tensor,
        log_prob: th.Tensor,
        **inputs: Any,
    ) -> None:
        """
        Append one step of all environments.

        :param obs: observations before the step
        :param action: the policy's actions, neither clipped nor rescaled
        :param reward: shape ``(n_envs,)``
        :param episode_start: 1 if ``obs`` is an episode's first observation, shape ``(n_envs,)``
        :param value: values of ``obs``
        :param log_prob: log probabilities of ``action``
        :param inputs: what the policy took besides observations, by name
        """
        if isinstance(self.observations, dict):
            for key, memory in self.observations.items():
                self._store(memory, obs[key])  # type: ignore[call-overload, index]
        else:
            self._store(self.observations, obs)
        for memory, data in ((self.actions, action), (self.values, value), (self.log_probs, log_prob)):
            self._store(memory, data)
        for name, data in inputs.items():
            self._store(self.inputs[name], data)
        self._from_host[:, self.pos] = reward, episode_start
        self.pos += 1
        self.full = self.pos == self.buffer_size

    def _store(self, memory: th.Tensor, data: Any) -> None:
        row, data = memory[self.pos], th.as_tensor(data)
        # Samples of some spaces, as Discrete, have fewer dimensions than what is stored
        row.copy_(data if data.shape == row.shape else data.reshape(row.shape))

    def compute_returns_and_advantage(self, last_values: th.Tensor, dones: NDArray[Any]) -> None:
        """
        Fill ``rewards``, ``episode_starts``, ``advantages`` and ``returns`` (TD(lambda) targets) after the last step.

        :param last_values: values of the observations after the last step, one per environment
        :param dones: whether the last step ended an episode, shape ``(n_envs,)``
        """
        self.rewards[:], self.episode_starts[:] = th.as_tensor(self._from_host).to(self.device)
        self.advantages[:] = generalized_advantage_estimate(
            self.rewards,
            self.values,
            self.episode_starts,
            last_values.flatten().to(self.device),
            th.as_tensor(dones, dtype=th.float32, device=self.device),
            self.gamma,
            self.gae_lambda,
        )
        self.returns[:] = self.advantages + self.values

    def get(  # type: ignore[override]
        self, batch_size: int | None = None, device: th.device | str | None = None
    ) -> Iterator[RolloutBufferSamples]:
        """
        One epoch of minibatches. As in the paper's code, one permutation indexes the rollouts of all members; as in
        SB3, it is drawn from NumPy's global generator.

        :param batch_size: samples per member, None for all of them at once
        :param device: device of the samples, None for the buffer's
        :return: iterator over minibatches of all members, each tensor of shape ``(n_policies, batch_size, ...)``
        """
        assert self.full, "The rollout is not complete yet"
        n_samples = self.buffer_size * self.n_envs // self.n_policies
        indices = th.as_tensor(np.random.permutation(n_samples))
        if self.device.type == "cuda":
            indices = indices.pin_memory()  # or the host would wait for the copy
        indices = indices.to(self.device, non_blocking=True)
        for minibatch in th.split(indices, batch_size or n_samples):
            yield self._gather(minibatch, device or self.device)

    def by_member(self, memory: th.Tensor) -> th.Tensor:
        """
        :param memory: one of the buffer's tensors, shape ``(buffer_size, n_envs, ...)``
        :return: view of it, shape ``(n_policies, samples per member, ...)``, environment after environment
        """
        return memory.transpose(0, 1).reshape(self.n_policies, -1, *memory.shape[2:])

    def _get_samples(self, batch_inds: Any, env: VecNormalize | None = None) -> RolloutBufferSamples:  # type: ignore[override]
        return self._gather(batch_inds, self.device)  # type: ignore[no-any-return]

    def _gather(self, index: th.Tensor, device: th.device | str) -> Any:
        def gather(memory: th.Tensor) -> th.Tensor:
            return rows_at(self.by_member(memory), index, device)

        actions = gather(self.actions)
        if isinstance(self.action_space, spaces.Discrete):
            actions = actions.flatten(1)
        rest = map(gather, (self.values, self.log_probs, self.advantages, self.returns, *self.inputs.values()))
        plain, dictionary = self.samples_classes
        if isinstance(self.observations, dict):
            observations = {key: gather(memory) for key, memory in self.observations.items()}
            return dictionary(observations, actions, *rest)
        return plain(gather(self.observations), actions, *rest)


def rows_at(rows: th.Tensor, index: th.Tensor, device: th.device | str) -> th.Tensor:
    """
    :param rows: samples of all members, shape ``(n_policies, samples, ...)``
    :param index: which of each member
    :param device: device of the result
    :return: shape ``(n_policies, len(index), ...)``
    """
    if rows.dim() == 5:  # images, whose rows are contiguous channels last
        rows = rows.permute(0, 1, 3, 4, 2).index_select(1, index).permute(0, 1, 4, 2, 3)
    else:
        rows = rows.index_select(1, index)
    return rows.to(device, non_blocking=True)


def of_member(samples: Any, k: int) -> Any:
    """
    :param samples: samples of all members, each tensor of shape ``(n_policies, B, ...)``, or a list with those of each
    :param k: a member's index
    :return: its samples, each tensor of shape ``(B, ...)``
    """
    if isinstance(samples, list):
        return samples[k]
    parts = ({key: part[k] for key, part in one.items()} if isinstance(one, dict) else one[k] for one in samples)
    return type(samples)(*parts)


def normalize_advantages(advantages: th.Tensor, mask: th.Tensor | None = None) -> th.Tensor:
    """
    :param advantages: shape ``(B,)`` or ``(n_policies, B)``
    :param mask: which of ``(B,)`` advantages are not padding, None if all
    :return: each row with mean 0 and standard deviation 1; a single advantage is returned unchanged (SB3 issue #325)
    """
    real = advantages if mask is None else advantages[mask]
    if real.shape[-1] < 2:
        return advantages
    centered = advantages - real.mean(-1, keepdim=True)
    return centered / (real.std(-1, keepdim=True) + 1e-8)
