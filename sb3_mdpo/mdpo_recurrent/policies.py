"""Members with an LSTM, each of which also follows the episodes of its peers."""

from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

import torch as th
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.type_aliases import PyTorchObs

from sb3_mdpo.common.distributions import distribution_checks, mixture_mode, mixture_sample
from sb3_mdpo.common.mutual_policy import MutualPolicy, check_predict_with, rows_of

Hidden = tuple[th.Tensor, th.Tensor]  # hidden and cell states as nn.LSTM takes them: (n_layers, batch, hidden size)


class LstmStates(NamedTuple):
    """
    :param pi: hidden and cell states of the actors of all members in all environments, shape
        ``(n_envs, n_policies, 2, n_layers, hidden size)``
    :param vf: those of the critics, each in its own environments, shape ``(n_envs, 2, n_layers, hidden size)``
    """

    pi: th.Tensor
    vf: th.Tensor


def to_lstm(states: th.Tensor) -> Hidden:
    """States of shape ``(batch, 2, n_layers, hidden size)`` as nn.LSTM takes them."""
    hidden, cell = states.permute(1, 2, 0, 3).contiguous().unbind(0)
    return hidden, cell


def from_lstm(states: tuple[th.Tensor, ...]) -> th.Tensor:
    """The inverse of :func:`to_lstm`."""
    return th.stack(states).permute(2, 0, 1, 3)


class RecurrentMutualPolicy(MutualPolicy):
    """
    :class:`~sb3_mdpo.MutualPolicy` of sb3-contrib's ``RecurrentActorCriticPolicy``; the arguments are the same.

    The states that :meth:`predict` takes and returns are those of all members, one behind the other in the axis of the
    layers.

    :raises ValueError: if the LSTMs of two members have different sizes
    """

    members: Sequence[RecurrentActorCriticPolicy]
    follows_peers = True  #: whether members also go through their peers' episodes while these are collected
    predict = RecurrentActorCriticPolicy.predict  # calls _predict(..., lstm_states, episode_starts)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        sizes = [member.lstm_hidden_state_shape for member in self.members]
        if len(set(sizes)) > 1:
            listed = ", ".join(f"{layers} x {size}" for layers, _, size in sizes)
            raise ValueError(
                f"The LSTMs of the members have different sizes ({listed}), but their states are kept together: pass "
                "the same lstm_hidden_size and n_lstm_layers for all."
            )
        self.n_layers, _, self.hidden_size = sizes[0]

    @property
    def lstm_hidden_state_shape(self) -> tuple[int, int, int]:
        """Of one environment in :meth:`predict`."""
        return self.n_policies * self.n_layers, 1, self.hidden_size

    def initial_states(self, n_envs: int) -> LstmStates:
        """Zero states of so many environments of all members together."""
        shape = (2, self.n_layers, self.hidden_size)
        pi = th.zeros((n_envs, self.n_policies, *shape), device=self.device)
        return LstmStates(pi, th.zeros((n_envs, *shape), device=self.device))

    def forward(  # type: ignore[override]
        self,
        obs: PyTorchObs,
        deterministic: bool = False,
        check_finite: bool = False,
        *,
        pi_states: th.Tensor,
        vf_states: th.Tensor,
        episode_starts: th.Tensor,
    ) -> tuple[th.Tensor, th.Tensor, th.Tensor, LstmStates]:
        """
        Every member acts in its own group of environments, and its actor follows those of its peers.

        :param obs: observations of all environments, one contiguous group of equal size per member
        :param deterministic: whether to take the mode of the distributions instead of a sample
        :param check_finite: whether the distributions are checked before they are sampled
        :param pi_states: states before, as in :class:`LstmStates`
        :param vf_states: states before, as in :class:`LstmStates`
        :param episode_starts: 1 if an observation is an episode's first, shape ``(n_envs,)``
        :return: actions, values, log probabilities, and the states after
        :raises ValueError: if ``check_finite`` is set and a distribution is not finite
        """
        after = LstmStates(pi_states.clone(), vf_states.clone())
        outputs = []
        with distribution_checks(check_finite):
            for (k, member), (owner, envs) in product(
                enumerate(self.members), enumerate(self.groups(len(episode_starts)))
            ):
                seen, pi, starts = rows_of(obs, envs), to_lstm(pi_states[envs, k]), episode_starts[envs]
                if k == owner:
                    *output, new = member(seen, RNNStates(pi, to_lstm(vf_states[envs])), starts, deterministic)
                    outputs.append(output)
                    after.pi[envs, k], after.vf[envs] = from_lstm(new.pi), from_lstm(new.vf)
                elif self.follows_peers:
                    _, followed = member.get_distribution(seen, pi, starts)
                    after.pi[envs, k] = from_lstm(followed)
        actions, values, log_probs = (th.cat(parts) for parts in zip(*outputs, strict=True))
        return actions, values, log_probs, after

    def predict_values(  # type: ignore[override]
        self, obs: PyTorchObs, vf_states: th.Tensor, episode_starts: th.Tensor
    ) -> th.Tensor:
        """
        :param obs: observations of all environments, one contiguous group of equal size per member
        :param vf_states: as in :class:`LstmStates`
        :param episode_starts: 1 if an observation is an episode's first, shape ``(n_envs,)``
        :return: each member's values of its own group, in the order of the environments
        """
        groups = self._with_groups(obs, {"vf": vf_states, "starts": episode_starts})
        return th.cat([member.predict_values(own, to_lstm(it["vf"]), it["starts"]) for member, own, it in groups])

    def own_distributions(self, obs: PyTorchObs, **inputs: Any) -> list[Distribution]:
        pi = inputs["pi_states"]
        groups = self._with_groups(obs, {"pi": pi, "starts": th.zeros(len(pi), device=self.device)})
        return [
            member.get_distribution(own, to_lstm(it["pi"][:, k]), it["starts"])[0]
            for k, (member, own, it) in enumerate(groups)
        ]

    def evaluate_member(self, k: int, samples: Any) -> tuple[th.Tensor, th.Tensor, th.Tensor | None]:
        return self.members[k].evaluate_actions(
            samples.observations, samples.actions, samples.lstm_states, samples.episode_starts
        )

    def peer_distribution(self, j: int, samples: Any) -> Distribution:
        states = samples.actor_states[j]
        return self.members[j].get_distribution(samples.observations, states, samples.episode_starts)[0]

    def _predict(  # type: ignore[override]
        self,
        observation: PyTorchObs,
        lstm_states: Hidden,
        episode_starts: th.Tensor,
        deterministic: bool = False,
    ) -> tuple[th.Tensor, Hidden]:
        check_predict_with(self.predict_with, self.n_policies)
        parts = [states.chunk(self.n_policies) for states in lstm_states]
        of_members = [
            member.get_distribution(observation, (hidden, cell), episode_starts)
            for member, hidden, cell in zip(self.members, *parts, strict=True)
        ]
        distributions = [distribution for distribution, _ in of_members]
        hidden, cell = (th.cat([states[idx] for _, states in of_members]) for idx in range(2))
        if self.predict_with != "ensemble":
            actions = distributions[self.predict_with].get_actions(deterministic=deterministic)
        else:
            actions = mixture_mode(distributions) if deterministic else mixture_sample(distributions)
        return actions, (hidden, cell)
