"""SB3's ``OnPolicyAlgorithm`` for several policies: rollouts, statistics, saving."""

from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from io import BufferedIOBase
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import gymnasium as gym
import numpy as np
import torch as th
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, PyTorchObs
from stable_baselines3.common.utils import obs_as_tensor, safe_mean
from stable_baselines3.common.vec_env import VecEnv

from sb3_mdpo.common.bootstrapping import timeout_values
from sb3_mdpo.common.buffers import MutualRolloutBuffer
from sb3_mdpo.common.callback_tree import tell_of_error
from sb3_mdpo.common.env_copies import copies_of
from sb3_mdpo.common.mutual_policy import (
    MemberClass,
    MutualPolicy,
    PredictWith,
    check_predict_with,
    common_policy_kwargs,
    each_member,
)
from sb3_mdpo.common.nonfinite import EnvArrays, acting, check_collected, check_environments, check_statistics
from sb3_mdpo.common.ranks import Ranks, current_ranks
from sb3_mdpo.common.save_util import check_saved_model, loading
from sb3_mdpo.utils.atomic import replacing

TOLD = {"episode", "is_success"}  # what infos tell of an episode
SelfMutual = TypeVar("SelfMutual", bound="MutualOnPolicyAlgorithm")


class MutualOnPolicyAlgorithm(OnPolicyAlgorithm):
    """
    Several policies learn side by side, each from its own group of environments.

    A subclass sets ``n_policies``, ``predict_with`` and optionally ``check_finite``, and implements ``train()``, which
    adds the samples that went forward and backward through a network to ``trained_samples``. If its networks take more
    than observations, it overrides :meth:`_policy_inputs` and, if they also return more, the methods after it.
    """

    policy: MutualPolicy  # type: ignore[assignment]
    rollout_buffer: MutualRolloutBuffer  # type: ignore[assignment]
    policy_class: MemberClass  # type: ignore[assignment]
    algorithm: ClassVar[str] = "mdpo"  # name in the zoo and in saved models
    n_policies: int
    precision: str
    compile: bool
    check_finite = True
    member_ep_info_buffers: list[deque[dict[str, Any]]] | None = None
    trained_samples = 0  # like num_timesteps, saved and reset by learn()
    iterations_before = 0  # of the training that is resumed
    _callback: BaseCallback | None = None  # of the current training; not saved
    _ended: list[list[tuple[int, dict[str, Any]]]]  # episodes of each step that are not yet counted; not saved

    @property
    def ranks(self) -> Ranks:
        """The processes of the training: this one alone, or those of ``sb3_mdpo.distributed``."""
        return current_ranks()

    @property
    def predict_with(self) -> PredictWith:
        """The index of the member that acts in ``predict()``, or ``"ensemble"``."""
        setting: PredictWith = self.__dict__["predict_with"]  # SB3 saves and loads it under this name
        return setting

    @predict_with.setter
    def predict_with(self, predict_with: PredictWith) -> None:
        check_predict_with(predict_with, self.n_policies)
        self.__dict__["predict_with"] = predict_with
        if "policy" in self.__dict__:
            self.policy.predict_with = predict_with

    def each_member(self) -> list[tuple[type[ActorCriticPolicy], dict[str, Any]]]:
        """Class and ``policy_kwargs`` of each member."""
        common = dict(self.policy_kwargs)
        return each_member(self.policy_class, self.n_policies, common.pop("member_kwargs", None), common)

    def collect_rollouts(  # type: ignore[override]
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: MutualRolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """
        Collect experiences of all members. The local variables have the names that SB3's callbacks read.

        :param env: training environment
        :param callback: called at every step and at the beginning and end of the rollout
        :param rollout_buffer: buffer to fill
        :param n_rollout_steps: steps per environment
        :return: False if the callback ended the rollout early
        :raises NonFiniteError: if ``check_finite`` is set and a value in the rollout is not finite
        """
        assert self._last_obs is not None, "No previous observation was provided"
        self.policy.set_training_mode(False)
        n_steps = 0
        self._ended = []
        self.ranks.share_statistics(env)  # again, because resuming a checkpoint replaces them
        rollout_buffer.reset()
        if self.check_finite:
            self._check_observations(self._last_obs)
        if self.use_sde:
            with self._acting(self._policy_inputs(env)):
                self.policy.reset_noise(env.num_envs)
        callback.on_rollout_start()

        while n_steps < n_rollout_steps:
            inputs = self._policy_inputs(env)
            with self._acting(inputs):
                if self.use_sde and self.sde_sample_freq > 0 and n_steps % self.sde_sample_freq == 0:
                    self.policy.reset_noise(env.num_envs)
                with th.no_grad():
                    obs_tensor = obs_as_tensor(self._last_obs, self.device)  # type: ignore[arg-type]
                    action_tensor, values, log_probs = self._act(obs_tensor, inputs)
            actions = action_tensor.cpu().numpy()
            clipped_actions = self.policy.environment_actions(actions)

            new_obs, rewards, dones, infos = env.step(clipped_actions)
            self.num_timesteps += env.num_envs * self.ranks.size
            if self.check_finite:  # before callbacks see it
                self._check_observations(new_obs)  # type: ignore[arg-type] # tuples reach no policy
                self._check_rewards(rewards)
            callback.update_locals(locals())
            if not self.ranks.all_true(callback.on_step()):
                return False
            self._update_info_buffer(infos, dones)
            n_steps += 1

            if dones.any():
                rewards = rewards + self.gamma * timeout_values(dones, infos, self.policy, self._values_of_member)
            rollout_buffer.add(
                # Not through the device if rollouts stay on the host
                obs_tensor if rollout_buffer.device == self.device else self._last_obs,  # type: ignore[arg-type]
                action_tensor,
                rewards,
                self._last_episode_starts,  # type: ignore[arg-type]
                values,
                log_probs,
                **inputs,
            )
            self._last_obs = new_obs  # type: ignore[assignment]
            self._last_episode_starts = dones

        with th.no_grad():
            values = self._last_values(obs_as_tensor(new_obs, self.device), dones)  # type: ignore[arg-type]
        rollout_buffer.compute_returns_and_advantage(last_values=values, dones=dones)
        if self.check_finite:
            check_statistics(self._vec_normalize_env, self.n_policies, self.num_timesteps)
            check_collected(rollout_buffer, values, self.policy, self.num_timesteps, self.ranks.size)
        self._count_episodes()
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def _policy_inputs(self, env: VecEnv) -> dict[str, Any]:
        """What the policy and the buffer take besides observations in this step, by name."""
        return {}

    def _act(self, obs: PyTorchObs, inputs: dict[str, Any]) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        """Actions, values and log probabilities of a step."""
        outputs: tuple[th.Tensor, th.Tensor, th.Tensor] = self.policy(obs, check_finite=self.check_finite, **inputs)
        return outputs

    def _values_of_member(self, k: int, obs: PyTorchObs, envs: list[int]) -> th.Tensor:
        """Values of the last observations of episodes in some of member k's environments, after a step."""
        return self.policy.members[k].predict_values(obs)

    def _last_values(self, obs: PyTorchObs, dones: NDArray[Any]) -> th.Tensor:
        """Values of the observations after a rollout, in all environments."""
        return self.policy.predict_values(obs)

    def _acting(self, inputs: dict[str, Any]) -> AbstractContextManager[None]:
        if not self.check_finite:
            return nullcontext()
        return acting(self.policy, self._last_obs, self.num_timesteps, inputs)  # type: ignore[arg-type]

    def _check_observations(self, observations: EnvArrays) -> None:
        normalize = self._vec_normalize_env
        original = None if normalize is None else normalize.get_original_obs
        check_environments("observations", observations, self.n_policies, self.num_timesteps, original)

    def _check_rewards(self, rewards: NDArray[Any]) -> None:
        normalize = self._vec_normalize_env
        original = None if normalize is None else normalize.get_original_reward
        check_environments("rewards", rewards, self.n_policies, self.num_timesteps, original)

    def _update_info_buffer(self, infos: list[dict[str, Any]], dones: NDArray[Any] | None = None) -> None:
        # As SB3: an episode counts whenever it is reported, a success only at the end of an episode
        envs_per_member = len(infos) // self.n_policies
        ended = []
        for idx, info in enumerate(infos):
            if TOLD.isdisjoint(info):
                continue
            done = dones is not None and dones[idx]
            told = {key: info[key] for key in (TOLD if done else {"episode"}) if info.get(key) is not None}
            if told:
                ended.append((idx // envs_per_member, told))
        self._ended.append(ended)
        if ended and self.ranks.size == 1:  # else once per rollout: it exchanges messages
            self._count_episodes()

    def _count_episodes(self) -> None:
        assert self.member_ep_info_buffers is not None
        ended, self._ended = self._ended, []
        for of_step in zip(*self.ranks.gather(ended), strict=True):
            for k, info in chain.from_iterable(of_step):
                super()._update_info_buffer([info], np.ones(1, dtype=bool))
                if "episode" in info:
                    self.member_ep_info_buffers[k].append(info["episode"])

    def dump_logs(self, iteration: int = 0) -> None:
        """
        Write the logs, including each member's mean return and episode length.

        :param iteration: current logging iteration
        """
        for k, episodes in enumerate(self.member_ep_info_buffers or []):
            if episodes:
                self.logger.record(f"policy_{k}/ep_rew_mean", safe_mean([episode["r"] for episode in episodes]))
                length = safe_mean([episode["l"] for episode in episodes])
                self.logger.record(f"policy_{k}/ep_len_mean", length, exclude="stdout")
        super().dump_logs(iteration + self.iterations_before)

    def learn(
        self: SelfMutual, total_timesteps: int, callback: MaybeCallback = None, *args: Any, **kwargs: Any
    ) -> SelfMutual:
        """
        As SB3's; if an error or interrupt ends the training, callbacks' ``on_training_error(error)`` is called.

        :param total_timesteps: environment steps of all policies together
        :param callback: called at every step with the state of the algorithm
        :param args: further arguments of SB3's ``learn()``
        :param kwargs: further arguments of SB3's ``learn()``
        :return: the trained model
        """
        self._callback = None
        try:
            return super().learn(total_timesteps, callback, *args, **kwargs)
        except BaseException as error:
            if self._callback is not None:  # None before training starts
                tell_of_error(self._callback, error)
            raise
        finally:
            self._callback = None

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        *args: Any,
        **kwargs: Any,
    ) -> tuple[int, BaseCallback]:
        # Not in learn(): custom training loops call _setup_learn(), collect_rollouts() and train()
        logger = self.ranks.logger()
        if logger is not None:
            self.set_logger(logger)
        if self.env is not None:
            self.ranks.share_statistics(self.env)
        self._ended = []
        if reset_num_timesteps or self.member_ep_info_buffers is None:
            window = self._stats_window_size
            self.member_ep_info_buffers = [deque(maxlen=window) for _ in range(self.n_policies)]
        self.policy.stack_if_possible()
        self.iterations_before = 0
        if reset_num_timesteps:
            self.trained_samples = 0
        total_timesteps, self._callback = super()._setup_learn(
            total_timesteps, callback, reset_num_timesteps, *args, **kwargs
        )
        self.ranks.sync_parameters(
            self.policy,
            {
                "n_envs": self.n_envs,
                "n_steps": self.n_steps,
                "n_policies": self.n_policies,
                "num_timesteps": self.num_timesteps,
                "total_timesteps": total_timesteps,
            },
        )
        return total_timesteps, self._callback

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        # The last rollout may exceed total_timesteps, where a schedule like lambda p: p * 3e-4 becomes negative
        super()._update_current_progress_remaining(min(num_timesteps, total_timesteps), total_timesteps)

    def _init_callback(self, callback: MaybeCallback, progress_bar: bool = False) -> BaseCallback:
        return super()._init_callback(self.ranks.callbacks(callback), progress_bar and self.ranks.is_first)

    def set_env(self, env: GymEnv | Callable[[], gym.Env[Any, Any]], force_reset: bool = True) -> None:  # type: ignore[override]
        """
        As SB3's; of a class, a function or a single environment, as many are made as there are policies.

        :param env: environments with the spaces and the number of those in use
        :param force_reset: whether to reset the environments before training continues
        """
        super().set_env(copies_of(env, self.n_policies), force_reset)  # type: ignore[arg-type]

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_callback", "_ended"]

    def save(
        self,
        path: str | Path | BufferedIOBase,
        exclude: Iterable[str] | None = None,
        include: Iterable[str] | None = None,
    ) -> None:
        """
        Save the model in a zip file, as SB3 does; an existing file is replaced once the new one is complete.

        :param path: file, ``.zip`` is added to a path without suffix
        :param exclude: names of attributes not to save
        :param include: names of attributes to save that are excluded by default
        """
        if not isinstance(path, (str, Path)):
            super().save(path, exclude, include)
            return
        path = Path(path)
        with replacing(path if path.suffix else path.with_name(f"{path.name}.zip")) as file:
            super().save(file, exclude, include)  # type: ignore[arg-type]

    @classmethod
    def load(  # type: ignore[override]
        cls: type[SelfMutual],
        path: str | Path | BufferedIOBase,
        env: GymEnv | Callable[[], gym.Env[Any, Any]] | None = None,
        device: th.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        **kwargs: Any,
    ) -> SelfMutual:
        """
        Load a model. The file can execute code: load only what you trust.

        :param path: file that :meth:`save` wrote
        :param env: environments to continue training with, as in the constructor; None to predict only
        :param device: device on which the code should run
        :param custom_objects: objects to use instead of those in the file, by name
        :param print_system_info: whether to print the system info of the saved model and of the current system
        :param force_reset: whether to reset the environments before training continues
        :param kwargs: settings to change
        :return: the model
        :raises ValueError: if the file is damaged, not MDPO's or of a newer format, or if ``env`` or a setting does
            not match the model
        """
        n_policies = check_saved_model(path, kwargs, cls.algorithm)
        if "policy_kwargs" in kwargs:
            kwargs["policy_kwargs"] = common_policy_kwargs(kwargs["policy_kwargs"])
        with loading(path):
            envs = copies_of(env, n_policies)
            return super().load(path, envs, device, custom_objects, print_system_info, force_reset, **kwargs)
