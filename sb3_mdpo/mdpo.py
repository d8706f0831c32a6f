"""Mutual Distillation Policy Optimization."""

from collections import deque
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch as th
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import (
    ActorCriticCnnPolicy,
    ActorCriticPolicy,
    BasePolicy,
    MultiInputActorCriticPolicy,
)
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.utils import FloatSchedule, obs_as_tensor, safe_mean
from stable_baselines3.common.vec_env import VecEnv

from sb3_mdpo.arguments import check_arguments, check_n_policies, check_rollout
from sb3_mdpo.buffers import MutualRolloutBuffer
from sb3_mdpo.envs.copies import copies_of
from sb3_mdpo.losses import LossSettings
from sb3_mdpo.metrics import UpdateHistory, explained_variance
from sb3_mdpo.policies import ImpalaCnnPolicy, MutualPolicy, PredictWith, check_predict_with
from sb3_mdpo.timeouts import timeout_values
from sb3_mdpo.update import minibatch_step, unvalidated_distributions

SelfMDPO = TypeVar("SelfMDPO", bound="MDPO")


class MDPO(OnPolicyAlgorithm):
    """
    Mutual Distillation Policy Optimization: two or more PPO policies, each with its own
    environments and rollouts, learn side by side, and a KL term draws each towards the others
    on its own states.

    Paper: https://arxiv.org/abs/2501.02481 (not Mirror Descent Policy Optimization, which has
    the same abbreviation). The arguments are those of SB3's ``PPO`` with the same meanings and
    defaults, but ``batch_size`` counts samples per policy, and ``clip_range_vf`` takes the larger
    one of the clipped and the unclipped error as the paper does, where SB3 takes the clipped one.
    ``num_timesteps`` counts the environment steps of all policies together.

    :param policy: class of the members or its alias (MlpPolicy, CnnPolicy, MultiInputPolicy,
        ImpalaCnnPolicy)
    :param env: environments to learn from; environment ``i`` of ``n_envs`` belongs to member
        ``i // (n_envs / n_policies)``. Of an id or a single environment with a ``spec``, as many
        copies are made as there are policies, here but not in ``load()`` or ``set_env()``; what
        was changed in an environment after it was made is not copied
    :param learning_rate: learning rate, may be a function of the progress remaining (from 1 to 0)
    :param n_steps: steps per environment and update
    :param batch_size: minibatch size per policy
    :param n_epochs: number of epochs per update
    :param gamma: discount factor
    :param gae_lambda: trade-off of bias against variance in GAE
    :param clip_range: clipping of the probability ratio, may be a function of the progress remaining
    :param clip_range_vf: clipping of the value function, may be a function of the progress
        remaining; None for no clipping
    :param normalize_advantage: whether to normalise advantages per member and minibatch
    :param ent_coef: weight of the entropy bonus
    :param vf_coef: weight of the value loss, the mean squared error: the paper's 0.5 with a
        factor 0.5 inside the loss is 0.25 here
    :param max_grad_norm: largest gradient norm per member, after the mean over members
    :param use_sde: whether to use generalised State Dependent Exploration
    :param sde_sample_freq: sample a new noise matrix every n steps with gSDE, -1 for once per rollout
    :param rollout_buffer_class: subclass of ``MutualRolloutBuffer`` to use instead of it
    :param rollout_buffer_kwargs: further arguments of the rollout buffer
    :param target_kl: a member whose KL from its old policy exceeds 1.5 times this value leaves
        the update, while its peers go on; with one member this is PPO's rule
    :param stats_window_size: number of episodes that the logged returns are averaged over,
        for all members together and for each one
    :param tensorboard_log: log location for tensorboard (if None, no logging)
    :param policy_kwargs: further arguments of every member
    :param verbose: 0 for no output, 1 for info messages, 2 for debug messages
    :param seed: seed of the pseudo random generators
    :param device: device on which the code should run
    :param n_policies: number of members; one is PPO
    :param distill_coef: weight of the distillation KL, the paper's alpha, may be a function of
        the progress remaining; 0 trains members that only share an optimizer
    :param detach_peers: whether gradients stop at the peers (Deep Mutual Learning, arXiv
        1706.00384); the paper lets them through both sides of the KL
    :param precision: arithmetic of the update; "fp32" is the only one so far
    :param predict_with: who acts in ``predict()``: a member's index, or "ensemble" for the
        average of all members' action distributions. It may be changed at any time and is saved
        with the model
    :param _init_setup_model: whether to build the network at the creation of the instance
    :raises ValueError: where an argument is outside its range, or ``batch_size`` is larger than
        a member's rollout
    :raises TypeError: where ``policy`` or ``rollout_buffer_class`` is of a class that cannot be used
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": ActorCriticPolicy,
        "CnnPolicy": ActorCriticCnnPolicy,
        "MultiInputPolicy": MultiInputActorCriticPolicy,
        "ImpalaCnnPolicy": ImpalaCnnPolicy,
    }
    policy: MutualPolicy  # type: ignore[assignment]
    rollout_buffer: MutualRolloutBuffer  # type: ignore[assignment]

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 3e-4,
        n_steps: int = 2048,
        batch_size: int = 64,
        n_epochs: int = 10,
        gamma: float = 0.99,
        gae_lambda: float = 0.95,
        clip_range: float | Schedule = 0.2,
        clip_range_vf: float | Schedule | None = None,
        normalize_advantage: bool = True,
        ent_coef: float = 0.0,
        vf_coef: float = 0.5,
        max_grad_norm: float = 0.5,
        use_sde: bool = False,
        sde_sample_freq: int = -1,
        rollout_buffer_class: type[MutualRolloutBuffer] | None = None,
        rollout_buffer_kwargs: dict[str, Any] | None = None,
        target_kl: float | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        n_policies: int = 2,
        distill_coef: float | Schedule = 1.0,
        detach_peers: bool = False,
        precision: str = "fp32",
        predict_with: PredictWith = 0,
        _init_setup_model: bool = True,
    ) -> None:
        check_n_policies(n_policies)
        self.batch_size = batch_size
        self.n_epochs = n_epochs
        self.clip_range = clip_range
        self.clip_range_vf = clip_range_vf
        self.normalize_advantage = normalize_advantage
        self.target_kl = target_kl
        self.n_policies = int(n_policies)
        self.distill_coef = distill_coef
        self.detach_peers = detach_peers
        self.precision = precision
        self.predict_with = predict_with
        self.member_ep_info_buffers: list[deque[dict[str, Any]]] | None = None
        super().__init__(
            policy,
            copies_of(env, n_policies) if _init_setup_model else env,  # type: ignore[arg-type]
            learning_rate=learning_rate,
            n_steps=n_steps,
            gamma=gamma,
            gae_lambda=gae_lambda,
            ent_coef=ent_coef,
            vf_coef=vf_coef,
            max_grad_norm=max_grad_norm,
            use_sde=use_sde,
            sde_sample_freq=sde_sample_freq,
            rollout_buffer_class=rollout_buffer_class,  # type: ignore[arg-type]
            rollout_buffer_kwargs=rollout_buffer_kwargs,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            device=device,
            seed=seed,
            _init_setup_model=False,
            supported_action_spaces=(spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary),
        )
        if _init_setup_model:
            self._setup_model()
            if self.n_envs % self.n_policies == 0:
                check_rollout(self)

    def _setup_model(self) -> None:
        check_arguments(self)
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        self.clip_range_schedule = FloatSchedule(self.clip_range)
        self.clip_range_vf_schedule = None if self.clip_range_vf is None else FloatSchedule(self.clip_range_vf)
        self.distill_coef_schedule = FloatSchedule(self.distill_coef)
        self.rollout_buffer = (self.rollout_buffer_class or MutualRolloutBuffer)(  # type: ignore[call-arg, assignment]
            self.n_steps,
            self.observation_space,
            self.action_space,
            device=self.device,
            gamma=self.gamma,
            gae_lambda=self.gae_lambda,
            n_envs=self.n_envs,
            n_policies=self.n_policies,
            **self.rollout_buffer_kwargs,
        )
        self.policy = MutualPolicy(
            self.observation_space,
            self.action_space,
            self.lr_schedule,
            member_class=self.policy_class,  # type: ignore[arg-type]
            n_policies=self.n_policies,
            use_sde=self.use_sde,
            predict_with=self.predict_with,
            **self.policy_kwargs,
        ).to(self.device)
        self._maybe_recommend_cpu()

    @property
    def predict_with(self) -> PredictWith:
        """Who acts in ``predict()``: a member's index, or ``"ensemble"``."""
        setting: PredictWith = self.__dict__["predict_with"]  # under its own name, as SB3 saves and loads it
        return setting

    @predict_with.setter
    def predict_with(self, predict_with: PredictWith) -> None:
        check_predict_with(predict_with, self.n_policies)
        self.__dict__["predict_with"] = predict_with
        if "policy" in self.__dict__:
            self.policy.predict_with = predict_with

    def collect_rollouts(  # type: ignore[override]
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: MutualRolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """
        Collect experiences of all members, each in its own group of environments.

        The names of the local variables are those that SB3's callbacks read.

        :param env: training environment
        :param callback: called at every step and at the beginning and end of the rollout
        :param rollout_buffer: buffer to fill
        :param n_rollout_steps: steps per environment
        :return: False if the callback ended the rollout early
        """
        assert self._last_obs is not None, "No previous observation was provided"
        self.policy.set_training_mode(False)
        n_steps = 0
        rollout_buffer.reset()
        if self.use_sde:
            self.policy.reset_noise(env.num_envs)
        callback.on_rollout_start()

        while n_steps < n_rollout_steps:
            if self.use_sde and self.sde_sample_freq > 0 and n_steps % self.sde_sample_freq == 0:
                self.policy.reset_noise(env.num_envs)
            with th.no_grad():
                obs_tensor = obs_as_tensor(self._last_obs, self.device)  # type: ignore[arg-type]
                action_tensor, values, log_probs = self.policy(obs_tensor)
            actions = action_tensor.cpu().numpy()
            clipped_actions = self._environment_actions(actions)

            new_obs, rewards, dones, infos = env.step(clipped_actions)
            self.num_timesteps += env.num_envs
            callback.update_locals(locals())
            if not callback.on_step():
                return False
            self._update_info_buffer(infos, dones)
            n_steps += 1

            rewards = rewards + self.gamma * timeout_values(dones, infos, self.policy)
            rollout_buffer.add(
                obs_tensor,  # already on the device
                action_tensor,
                rewards,
                self._last_episode_starts,  # type: ignore[arg-type]
                values,
                log_probs,
            )
            self._last_obs = new_obs  # type: ignore[assignment]
            self._last_episode_starts = dones

        with th.no_grad():
            values = self.policy.predict_values(obs_as_tensor(new_obs, self.device))  # type: ignore[arg-type]
        rollout_buffer.compute_returns_and_advantage(last_values=values, dones=dones)
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def _environment_actions(self, actions: NDArray[Any]) -> NDArray[Any]:
        if not isinstance(self.action_space, spaces.Box):
            return actions
        if self.policy.squash_output:
            unscaled: NDArray[Any] = self.policy.unscale_action(actions)
            return unscaled
        return np.clip(actions, self.action_space.low, self.action_space.high)

    def train(self) -> None:
        """Update all members with the rollouts gathered last."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        settings = self._loss_settings()
        history = UpdateHistory()
        active = set(range(self.n_policies))
        with unvalidated_distributions():
            for epoch in range(self.n_epochs):
                for minibatch in self.rollout_buffer.get(self.batch_size):
                    took_part = frozenset(active)
                    metrics = minibatch_step(
                        self.policy, minibatch, settings, active, self.max_grad_norm, self.detach_peers, self.target_kl
                    )
                    history.append(epoch, metrics, took_part, stepped=frozenset(active))
                    if not active:
                        break
                self._n_updates += 1
                if not active:
                    if self.verbose >= 1:
                        print(f"Early stopping at step {epoch}: all policies have reached target_kl={self.target_kl}")
                    break
        self._log_update(history, settings)

    def _loss_settings(self) -> LossSettings:
        progress = self._current_progress_remaining
        vf_schedule = self.clip_range_vf_schedule
        return LossSettings(
            clip_range=self.clip_range_schedule(progress),
            clip_range_vf=None if vf_schedule is None else vf_schedule(progress),
            ent_coef=self.ent_coef,
            vf_coef=self.vf_coef,
            distill_coef=self.distill_coef_schedule(progress),
            normalize_advantage=self.normalize_advantage,
        )

    def _log_update(self, history: UpdateHistory, settings: LossSettings) -> None:
        buffer = self.rollout_buffer
        at_the_end = {
            "explained_variance": explained_variance(buffer.by_member(buffer.values), buffer.by_member(buffer.returns))
        }
        if all(hasattr(member, "log_std") for member in self.policy.members):
            at_the_end["std"] = th.stack([th.exp(member.log_std.detach()).mean() for member in self.policy.members])
        for key, value in history.summary(at_the_end).items():
            self.logger.record(key, value)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/clip_range", settings.clip_range)
        if settings.clip_range_vf is not None:
            self.logger.record("train/clip_range_vf", settings.clip_range_vf)
        self.logger.record("train/distill_coef", settings.distill_coef)

    def _update_info_buffer(self, infos: list[dict[str, Any]], dones: NDArray[Any] | None = None) -> None:
        super()._update_info_buffer(infos, dones)
        assert self.member_ep_info_buffers is not None
        envs_per_member = len(infos) // self.n_policies
        for idx, info in enumerate(infos):
            if "episode" in info:
                self.member_ep_info_buffers[idx // envs_per_member].append(info["episode"])

    def dump_logs(self, iteration: int = 0) -> None:
        """
        Write the logs, each member's return and episode length among them.

        :param iteration: current logging iteration
        """
        for k, episodes in enumerate(self.member_ep_info_buffers or []):
            if episodes:
                self.logger.record(f"policy_{k}/ep_rew_mean", safe_mean([episode["r"] for episode in episodes]))
                self.logger.record(f"policy_{k}/ep_len_mean", safe_mean([episode["l"] for episode in episodes]))
        super().dump_logs(iteration)

    def learn(
        self: SelfMDPO,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int | None = 1,
        tb_log_name: str = "MDPO",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfMDPO:
        """
        Train all members.

        :param total_timesteps: environment steps of all policies together
        :param callback: called at every step with the state of the algorithm
        :param log_interval: number of iterations between two logs, None for none
        :param tb_log_name: name of the run for TensorBoard
        :param reset_num_timesteps: whether to start counting timesteps anew
        :param progress_bar: whether to show a progress bar
        :return: the trained model
        :raises ValueError: where the number of environments is no multiple of ``n_policies``, or
            ``batch_size`` is larger than a member's rollout
        """
        check_rollout(self)
        if reset_num_timesteps or self.member_ep_info_buffers is None:
            window = self._stats_window_size
            self.member_ep_info_buffers = [deque(maxlen=window) for _ in range(self.n_policies)]
        return super().learn(
            total_timesteps=total_timesteps,
            callback=callback,
            log_interval=log_interval,  # type: ignore[arg-type]
            tb_log_name=tb_log_name,
            reset_num_timesteps=reset_num_timesteps,
            progress_bar=progress_bar,
        )
