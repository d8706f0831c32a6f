"""MDPO with recurrent members."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import gymnasium as gym
import torch as th
from numpy.typing import NDArray
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent.policies import (
    RecurrentActorCriticCnnPolicy,
    RecurrentActorCriticPolicy,
    RecurrentMultiInputActorCriticPolicy,
)
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, PyTorchObs, Schedule
from stable_baselines3.common.vec_env import VecEnv

from sb3_mdpo.common.policies import ImpalaCnnLstmPolicy
from sb3_mdpo.mdpo import MDPO
from sb3_mdpo.mdpo_recurrent.buffers import RecurrentMutualRolloutBuffer
from sb3_mdpo.mdpo_recurrent.policies import LstmStates, RecurrentMutualPolicy, rows_of, to_lstm


class RecurrentMDPO(MDPO):
    """
    :class:`~sb3_mdpo.MDPO` with LSTMs, as sb3-contrib's ``RecurrentPPO`` is ``PPO`` with them. With one policy it
    equals ``RecurrentPPO``.

    In the KL, each peer needs a hidden state of its own in the learner's episodes. By default the actors of all members
    go through all environments while rollouts are collected, and their states at the beginning of each sequence are
    stored: they are exact as of collection, as are the learner's own in ``RecurrentPPO``.

    The other arguments are those of :class:`~sb3_mdpo.MDPO`.

    :param policy: class of the members or its alias (MlpLstmPolicy, CnnLstmPolicy, MultiInputLstmPolicy,
        ImpalaCnnLstmPolicy); or a list with one for each member
    :param env: environments to learn from, as in MDPO
    :param learning_rate: as in MDPO
    :param n_steps: steps per environment and update
    :param batch_size: minibatch size per policy
    :param peer_burn_in: None for exact states of the peers. A number of steps saves their passes through the rollouts:
        peers then begin each sequence with states of zero, and in its first steps, so many, the KL counts as 0, unless
        the sequence begins an episode. Kept as an entry of ``rollout_buffer_kwargs``
    :raises ValueError: as MDPO, if ``compile`` is set, or if members' LSTMs have different sizes
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpLstmPolicy": RecurrentActorCriticPolicy,
        "CnnLstmPolicy": RecurrentActorCriticCnnPolicy,
        "MultiInputLstmPolicy": RecurrentMultiInputActorCriticPolicy,
        "ImpalaCnnLstmPolicy": ImpalaCnnLstmPolicy,
    }
    algorithm = "recurrent_mdpo"
    ppo_class = RecurrentPPO
    member_base = RecurrentActorCriticPolicy
    mutual_policy_class = RecurrentMutualPolicy
    default_buffer_class = RecurrentMutualRolloutBuffer
    policy: RecurrentMutualPolicy  # type: ignore[assignment]
    rollout_buffer: RecurrentMutualRolloutBuffer  # type: ignore[assignment]
    _last_lstm_states: LstmStates | None = None

    def __init__(
        self,
        policy: str | type[RecurrentActorCriticPolicy] | Sequence[str | type[RecurrentActorCriticPolicy]],
        env: GymEnv | str | Callable[[], gym.Env[Any, Any]],
        learning_rate: float | Schedule = 3e-4,
        n_steps: int = 128,
        batch_size: int = 128,
        *args: Any,
        peer_burn_in: int | None = None,
        **kwargs: Any,
    ) -> None:
        if peer_burn_in is not None:
            kwargs["rollout_buffer_kwargs"] = {"peer_burn_in": peer_burn_in} | (
                kwargs.get("rollout_buffer_kwargs") or {}
            )
        super().__init__(policy, env, learning_rate, n_steps, batch_size, *args, **kwargs)

    def _get_policy_from_name(self, policy_name: str) -> type[BasePolicy]:
        if policy_name not in self.policy_aliases and policy_name in MDPO.policy_aliases:
            raise ValueError(
                f"policy={policy_name!r} has no memory: use MDPO, or one of {', '.join(self.policy_aliases)}."
            )
        return super()._get_policy_from_name(policy_name)

    def _setup_model(self) -> None:
        if self.compile:
            raise ValueError("compile=True is not supported by RecurrentMDPO: leave it out.")
        super()._setup_model()
        self.policy.follows_peers = self.rollout_buffer.peer_burn_in is None
        self.rollout_buffer.state_shape = (self.n_policies, self.policy.n_layers, self.policy.hidden_size)

    def _check_rollout(self) -> None:
        super()._check_rollout()
        if self.ranks.size > 1:
            raise ValueError("RecurrentMDPO trains in one process: start it without torchrun.")

    def _setup_learn(self, *args: Any, **kwargs: Any) -> tuple[int, Any]:
        states = self._last_lstm_states
        if states is None or len(states.vf) != self.n_envs:
            self._last_lstm_states = self.policy.initial_states(self.n_envs)
        return super()._setup_learn(*args, **kwargs)

    def _policy_inputs(self, env: VecEnv) -> dict[str, Any]:
        assert self._last_lstm_states is not None
        return {"pi_states": self._last_lstm_states.pi, "vf_states": self._last_lstm_states.vf}

    def _act(self, obs: PyTorchObs, inputs: dict[str, Any]) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        starts = th.as_tensor(self._last_episode_starts, dtype=th.float32, device=self.device)
        before = LstmStates(inputs["pi_states"], inputs["vf_states"])
        *outputs, self._last_lstm_states = self.policy.act(obs, before, starts, self.check_finite)
        actions, values, log_probs = outputs
        return actions, values, log_probs

    def _values_of_member(self, k: int, obs: PyTorchObs, envs: list[int]) -> th.Tensor:
        return self._values(k, obs, envs, th.zeros(len(envs), device=self.device))

    def _last_values(self, obs: PyTorchObs, dones: NDArray[Any]) -> th.Tensor:
        starts = th.as_tensor(dones, dtype=th.float32, device=self.device)
        size = len(dones) // self.n_policies
        groups = [list(range(k * size, (k + 1) * size)) for k in range(self.n_policies)]
        return th.cat([self._values(k, rows_of(obs, envs), envs, starts[envs]) for k, envs in enumerate(groups)])

    def _values(self, k: int, obs: Any, envs: list[int], starts: th.Tensor) -> th.Tensor:
        assert self._last_lstm_states is not None
        return self.policy.members[k].predict_values(obs, to_lstm(self._last_lstm_states.vf[envs]), starts)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_last_lstm_states"]

    def learn(  # type: ignore[override]
        self, total_timesteps: int, callback: MaybeCallback = None, *args: Any, **kwargs: Any
    ) -> "RecurrentMDPO":
        """
        Train all members, as :meth:`MDPO.learn() <sb3_mdpo.MDPO.learn>`.

        :param total_timesteps: environment steps of all policies together
        :param callback: called at every step with the state of the algorithm
        :param args: further arguments of MDPO's ``learn()``
        :param kwargs: further arguments of MDPO's ``learn()``; ``tb_log_name`` is RecurrentMDPO by default
        :return: the trained model
        """
        if len(args) < 2:
            kwargs = {"tb_log_name": "RecurrentMDPO"} | kwargs
        return super().learn(total_timesteps, callback, *args, **kwargs)
