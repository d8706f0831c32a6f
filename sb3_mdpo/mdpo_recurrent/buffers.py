"""Rollouts of recurrent members, cut into sequences."""

from collections.abc import Iterator
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from numpy.typing import NDArray
from sb3_contrib.common.recurrent.type_aliases import RNNStates

from sb3_mdpo.common.buffers import MutualRolloutBuffer, TensorOrDict, rows_at
from sb3_mdpo.mdpo_recurrent.policies import Hidden, to_lstm


class RecurrentSamples(NamedTuple):
    """
    A minibatch of one member: ``n_seq`` sequences, padded with zeros to the longest one's length. The first axis of
    observations, actions and numbers is ``n_seq * length``, sequence after sequence.

    :param lstm_states: the member's states at the beginning of each sequence
    :param episode_starts: 1 if a step is an episode's first. Always 0: sequences are cut there, and begin with states
        of zero, which is faster than resetting them
    :param mask: False for padding
    :param actor_states: every member's actor's states at the beginning of each sequence
    :param peers_count: in which steps the KL counts, None if in all
    :param lengths: of the sequences
    """

    observations: TensorOrDict
    actions: th.Tensor
    old_values: th.Tensor
    old_log_prob: th.Tensor
    advantages: th.Tensor
    returns: th.Tensor
    lstm_states: RNNStates
    episode_starts: th.Tensor
    mask: th.Tensor
    actor_states: list[Hidden]
    peers_count: th.Tensor | None
    lengths: tuple[int, ...]

    @property
    def n_samples(self) -> int:
        """Steps without padding."""
        return sum(self.lengths)

    def chunks(self, chunk_size: int | None) -> "list[RecurrentSamples]":
        """Parts of whole sequences, with at most so many steps (padding included), but at least one sequence."""
        longest = max(self.lengths)
        n_rows = len(self.lengths) if chunk_size is None else max(1, chunk_size // longest)
        if n_rows >= len(self.lengths):
            return [self]
        return [self._rows(slice(start, start + n_rows)) for start in range(0, len(self.lengths), n_rows)]

    def _rows(self, rows: slice) -> "RecurrentSamples":
        n_seq, lengths = len(self.lengths), self.lengths[rows]

        def cut(memory: Any) -> Any:
            if memory is None:
                return None
            if isinstance(memory, dict):
                return {key: cut(part) for key, part in memory.items()}
            return memory.unflatten(0, (n_seq, -1))[rows, : max(lengths)].flatten(0, 1)

        def states(pair: tuple[th.Tensor, ...]) -> Hidden:
            return pair[0][:, rows].contiguous(), pair[1][:, rows].contiguous()

        own = {name: cut(getattr(self, name)) for name in SAMPLES}
        own |= {"lstm_states": RNNStates(*map(states, self.lstm_states)), "lengths": lengths}
        return self._replace(**own, actor_states=list(map(states, self.actor_states)))


SAMPLES = (
    *("observations", "actions", "old_values", "old_log_prob", "advantages", "returns"),
    *("episode_starts", "mask", "peers_count"),
)


class RecurrentMutualRolloutBuffer(MutualRolloutBuffer):
    """
    :class:`~sb3_mdpo.MutualRolloutBuffer` with the LSTMs' states before each step. The policy's sizes are set before
    the first :meth:`reset`.

    :param peer_burn_in: see :class:`~sb3_mdpo.RecurrentMDPO`
    :param kwargs: arguments of :class:`~sb3_mdpo.MutualRolloutBuffer`
    :raises ValueError: if ``peer_burn_in`` is negative
    """

    state_shape: tuple[int, int, int] = (1, 1, 1)  #: number of members, layers, hidden size

    def __init__(self, *args: Any, peer_burn_in: int | None = None, **kwargs: Any) -> None:
        if peer_burn_in is not None and not (isinstance(peer_burn_in, Integral) and peer_burn_in >= 0):
            raise ValueError(
                f"peer_burn_in={peer_burn_in!r} must be a number of steps of at least 0, or None for exact states of "
                "the peers."
            )
        super().__init__(*args, **kwargs)
        self.peer_burn_in = peer_burn_in

    def _allocate_inputs(self) -> dict[str, th.Tensor]:
        n_policies, *sizes = self.state_shape
        pi = self._zeros((n_policies, 2, *sizes), th.float32)
        return {"pi_states": pi, "vf_states": self._zeros((2, *sizes), th.float32)}

    def get(  # type: ignore[override]
        self, batch_size: int | None = None, device: th.device | str | None = None
    ) -> Iterator[list[RecurrentSamples]]:
        """
        One epoch of minibatches. As in sb3-contrib, the steps of a member, environment after environment, are rotated
        by a random number and cut into pieces, and these into sequences at the beginnings of episodes.

        :param batch_size: samples per member, None for all of them at once
        :param device: device of the samples, None for the buffer's
        :return: iterator over minibatches: for each member its sequences
        """
        assert self.full, "The rollout is not complete yet"
        n_samples = self.buffer_size * self.n_envs // self.n_policies
        size = batch_size or n_samples
        indices = np.roll(np.arange(n_samples), -np.random.randint(n_samples))
        starts = self.by_member(self.episode_starts).cpu().numpy() == 1
        for start in range(0, n_samples, size):
            index = indices[start : start + size]
            yield [self._sequences(k, index, starts[k, index], device or self.device) for k in range(self.n_policies)]

    def _sequences(
        self, k: int, index: NDArray[np.int64], starts: NDArray[np.bool_], device: th.device | str
    ) -> RecurrentSamples:
        begins = starts | (index % self.buffer_size == 0)  # another episode, another environment
        begins[0] = True
        first = np.flatnonzero(begins)
        lengths = np.diff(first, append=len(index))
        steps = np.arange(lengths.max())
        valid = steps < lengths[:, None]
        rows = np.where(valid, index[first][:, None] + steps, 0)
        mask, padded = th.as_tensor(valid.flatten()).to(device), th.as_tensor(rows.flatten(), device=self.device)

        def of_member(memory: th.Tensor, which: th.Tensor) -> th.Tensor:
            return rows_at(self.by_member(memory)[k : k + 1], which, device)[0]

        def gather(memory: th.Tensor) -> th.Tensor:
            data = of_member(memory, padded)
            return data.masked_fill_(~mask.view(-1, *[1] * (data.dim() - 1)), 0)

        def states(memory: th.Tensor) -> th.Tensor:
            data = of_member(memory, th.as_tensor(index[first], device=self.device))
            new_episode = th.as_tensor(starts[first]).to(device)
            return data.masked_fill_(new_episode.view(-1, *[1] * (data.dim() - 1)), 0)

        observations: TensorOrDict = (
            {key: gather(memory) for key, memory in self.observations.items()}
            if isinstance(self.observations, dict)
            else gather(self.observations)
        )
        actions = gather(self.actions)
        if isinstance(self.action_space, spaces.Discrete):
            actions = actions.flatten()
        actors = [to_lstm(part) for part in states(self.inputs["pi_states"]).unbind(1)]
        counts = None
        if self.peer_burn_in is not None:
            known = (steps >= self.peer_burn_in) | starts[first][:, None]  # states of zero are exact in new episodes
            counts = th.as_tensor((known & valid).flatten()).to(device)
        return RecurrentSamples(
            observations,
            actions,
            old_values=gather(self.values),
            old_log_prob=gather(self.log_probs),
            advantages=gather(self.advantages),
            returns=gather(self.returns),
            lstm_states=RNNStates(actors[k], to_lstm(states(self.inputs["vf_states"]))),
            episode_starts=th.zeros(len(mask), device=device),
            mask=mask,
            actor_states=actors,
            peers_count=counts,
            lengths=tuple(lengths.tolist()),
        )
