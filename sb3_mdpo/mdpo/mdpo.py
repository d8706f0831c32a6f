"""Mutual Distillation Policy Optimization."""

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, TypeVar

import gymnasium as gym
import torch as th
from gymnasium import spaces
from sb3_contrib.common.maskable.utils import is_masking_supported
from stable_baselines3.common.policies import (
    ActorCriticCnnPolicy,
    ActorCriticPolicy,
    BasePolicy,
    MultiInputActorCriticPolicy,
)
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.utils import FloatSchedule

from sb3_mdpo.common.arguments import check_ranges
from sb3_mdpo.common.buffers import MutualRolloutBuffer
from sb3_mdpo.common.distributions import distribution_checks
from sb3_mdpo.common.env_copies import copies_of
from sb3_mdpo.common.mutual_policy import MemberClass, MutualPolicy, PredictWith, common_policy_kwargs
from sb3_mdpo.common.policies import ImpalaCnnPolicy, ImpoolaCnnPolicy, StridedCnnPolicy
from sb3_mdpo.common.precision import accelerate, automatic_chunk_size, keep_freed_memory, resolve_precision
from sb3_mdpo.common.save_util import FORMAT_VERSION
from sb3_mdpo.mdpo.losses import LossSettings
from sb3_mdpo.mdpo.metrics import UpdateHistory, check_update, explained_variance
from sb3_mdpo.mdpo.update import draw_peers, minibatch_step, n_differentiated, n_samples_per_member
from sb3_mdpo.mdpo.validation import (
    check_arguments,
    check_distill_mode,
    check_members,
    check_normalization,
    check_rollout,
)
from sb3_mdpo.persistence.exportable import ExportableAlgorithm

SelfMDPO = TypeVar("SelfMDPO", bound="MDPO")


class MDPO(ExportableAlgorithm):
    """
    Mutual Distillation Policy Optimization: two or more PPO policies learn side by side, each with its own environments
    and rollouts, and a KL term draws each towards the others on its own states.

    Paper: https://arxiv.org/abs/2501.02481 (not Mirror Descent Policy Optimization, which has the same abbreviation).
    The arguments are those of SB3's ``PPO`` with the same meanings and defaults, but ``batch_size`` counts samples per
    policy, and ``clip_range_vf`` takes the larger of the clipped and the unclipped error as in the paper, while SB3
    takes the clipped one. ``num_timesteps`` counts the environment steps of all policies together.

    :param policy: class of the members or its alias (MlpPolicy, CnnPolicy, MultiInputPolicy,
        ImpalaCnnPolicy, ImpoolaCnnPolicy, StridedCnnPolicy); or a list with one for each member
    :param env: environments to learn from; environment ``i`` of ``n_envs`` belongs to member
        ``i // (n_envs / n_policies)``. Of an id, a class, a function that makes an environment or a single environment
        with a ``spec``, as many are made as there are policies, here and in ``load()`` and ``set_env()``
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
    :param rollout_buffer_kwargs: further arguments of the rollout buffer; ``dict(device="cpu")`` keeps rollouts that
        do not fit a GPU on the host
    :param target_kl: a member whose KL from its old policy exceeds 1.5 times this value leaves
        the update, while its peers continue; with one member this is PPO's rule
    :param stats_window_size: number of episodes that the logged returns are averaged over,
        for all members together and for each one
    :param tensorboard_log: log location for tensorboard (if None, no logging)
    :param policy_kwargs: further arguments of every member; or a list with one dict for each
        member (Deep Mutual Learning allows different networks), which must agree on the optimizer
    :param verbose: 0 for no output, 1 for info messages, 2 for debug messages
    :param seed: seed of the pseudo random generators. The members' weights are drawn one after
        the other: they differ, and the first member's are those of a PPO with this seed
    :param device: device on which the code should run
    :param n_policies: number of members; one is PPO
    :param distill_coef: weight of the distillation KL, the paper's alpha, may be a function of
        the progress remaining; 0 trains members that only share an optimizer
    :param detach_peers: whether gradients stop at the peers (Deep Mutual Learning, arXiv
        1706.00384); the paper lets them through both sides of the KL
    :param distill_mode: ``"all"``: the KL is the mean over all peers, whose cost grows with the
        square of ``n_policies``; ``"random"``: one random peer per member and minibatch, whose cost
        grows linearly. The same for two members. ``"max"``: LEEP's term (arXiv 2107.06277), the KL from
        the member to the normalised maximum of all members' probabilities, a constant; for discrete actions
    :param precision: ``"fp32"``; ``"bf16"``: features extractors in bfloat16, everything else in
        float32; ``"auto"``: bf16 for images on hardware that has it, else fp32
    :param chunk_size: a minibatch goes through the networks in chunks of at most this many samples,
        whose gradients add up to the minibatch's: the same up to rounding with less memory (but not
        for batch normalisation, which sees chunks). None for a default that depends on the device: 128
        images of 64x64 on a CPU, more if they are smaller, else whole minibatches
    :param compile: whether the update's losses, with the networks in them, are compiled by ``torch.compile``. Rollouts
        and predictions are not
    :param predict_with: the index of the member that acts in ``predict()``, or "ensemble" for the average of all
        members' action distributions. It may be changed at any time and is saved with the model
    :param check_finite: whether NaN or infinity in observations, rewards, network outputs, losses or gradients ends the
        training with a ``NonFiniteError`` that names the members and the time step
    :param _init_setup_model: whether to build the network at the creation of the instance
    :raises ValueError: if an argument is outside its range, or ``batch_size`` is larger than
        a member's rollout
    :raises TypeError: if ``policy`` or ``rollout_buffer_class`` is of a class that cannot be used
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": ActorCriticPolicy,
        "CnnPolicy": ActorCriticCnnPolicy,
        "MultiInputPolicy": MultiInputActorCriticPolicy,
        "ImpalaCnnPolicy": ImpalaCnnPolicy,
        "ImpoolaCnnPolicy": ImpoolaCnnPolicy,
        "StridedCnnPolicy": StridedCnnPolicy,
    }
    policy_class: MemberClass  # type: ignore[assignment]
    # What members must be, and the classes that hold them and their rollouts
    member_base: ClassVar[type[BasePolicy]] = ActorCriticPolicy
    mutual_policy_class: ClassVar[type[MutualPolicy]] = MutualPolicy
    default_buffer_class: ClassVar[type[MutualRolloutBuffer]] = MutualRolloutBuffer
    supported_action_spaces: ClassVar[tuple[type[spaces.Space[Any]], ...]] = (
        spaces.Box,
        spaces.Discrete,
        spaces.MultiDiscrete,
        spaces.MultiBinary,
    )

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy] | Sequence[str | type[ActorCriticPolicy]],
        env: GymEnv | str | Callable[[], gym.Env[Any, Any]],
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
        policy_kwargs: dict[str, Any] | Sequence[dict[str, Any]] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        n_policies: int = 2,
        distill_coef: float | Schedule = 1.0,
        detach_peers: bool = False,
        distill_mode: str = "all",
        precision: str = "fp32",
        chunk_size: int | None = None,
        compile: bool = False,
        predict_with: PredictWith = 0,
        check_finite: bool = True,
        _init_setup_model: bool = True,
    ) -> None:
        check_ranges({"n_policies": n_policies})
        self.batch_size = batch_size
        self.n_epochs = n_epochs
        self.clip_range = clip_range
        self.clip_range_vf = clip_range_vf
        self.normalize_advantage = normalize_advantage
        self.target_kl = target_kl
        self.n_policies = int(n_policies)
        self.distill_coef = distill_coef
        self.detach_peers = detach_peers
        self.distill_mode = distill_mode
        self.precision = precision
        self.chunk_size = chunk_size
        self.compile = compile
        self.predict_with = predict_with
        self.check_finite = check_finite
        super().__init__(
            self._member_class(policy),  # type: ignore[arg-type]
            copies_of(env, self.n_policies) if _init_setup_model else env,  # type: ignore[arg-type]
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
            policy_kwargs=common_policy_kwargs(policy_kwargs),
            verbose=verbose,
            device=device,
            seed=seed,
            _init_setup_model=False,
            supported_action_spaces=self.supported_action_spaces,
        )
        if _init_setup_model:
            self._setup_model()
            if self.env is not None:
                self._check_rollout()

    def _get_policy_from_name(self, policy_name: str) -> type[BasePolicy]:
        if policy_name not in self.policy_aliases and "Lstm" in policy_name:
            raise ValueError(
                f"policy={policy_name!r} is recurrent: use RecurrentMDPO, or one of {', '.join(self.policy_aliases)}."
            )
        return super()._get_policy_from_name(policy_name)

    def _member_class(
        self, policy: str | type[ActorCriticPolicy] | Sequence[str | type[ActorCriticPolicy]]
    ) -> str | MemberClass:
        if not isinstance(policy, (list, tuple)):
            return policy  # type: ignore[return-value] # SB3 resolves aliases; check_arguments() refuses all other
        return [self._get_policy_from_name(one) if isinstance(one, str) else one for one in policy]  # type: ignore[misc]

    def _setup_model(self) -> None:
        self.format_version, self.saved_by = FORMAT_VERSION, self.algorithm
        check_members(self.n_policies, self.policy_class, self.policy_kwargs)
        check_arguments(
            vars(self), self.each_member(), self.observation_space, self.member_base, self.default_buffer_class
        )
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        settings: dict[str, Any] = {
            "device": self.device,
            "gamma": self.gamma,
            "gae_lambda": self.gae_lambda,
            "n_envs": self.n_envs,
            "n_policies": self.n_policies,
        }
        self.rollout_buffer = (self.rollout_buffer_class or self.default_buffer_class)(  # type: ignore[call-arg, assignment]
            self.n_steps, self.observation_space, self.action_space, **settings | self.rollout_buffer_kwargs
        )
        self.policy = self.mutual_policy_class(
            self.observation_space,
            self.action_space,
            self.lr_schedule,
            member_class=self.policy_class,
            n_policies=self.n_policies,
            use_sde=self.use_sde,
            predict_with=self.predict_with,
            **self.policy_kwargs,
        ).to(self.device)
        accelerate(self.policy, resolve_precision(self.precision, self.device, self.observation_space))
        if isinstance(self.policy_class, type):  # SB3 asks for its name
            self._maybe_recommend_cpu()
        self.ranks.spread_seed(self.seed, self.env)

    def _check_rollout(self) -> None:
        check_rollout(
            n_envs=self.n_envs,
            n_steps=self.n_steps,
            n_policies=self.n_policies,
            batch_size=self.batch_size,
            normalize_advantage=self.normalize_advantage,
            ranks=self.ranks,
        )
        check_normalization(self._vec_normalize_env, self.n_policies)

    # Schedules of what the settings are now: as with PPO, a callback may assign new ones

    @property
    def clip_range_schedule(self) -> Schedule:
        """``clip_range`` as a function of the progress remaining."""
        return FloatSchedule(self.clip_range)

    @property
    def clip_range_vf_schedule(self) -> Schedule | None:
        """``clip_range_vf`` as a function of the progress remaining, None for no clipping."""
        return None if self.clip_range_vf is None else FloatSchedule(self.clip_range_vf)

    @property
    def distill_coef_schedule(self) -> Schedule:
        """``distill_coef`` as a function of the progress remaining."""
        return FloatSchedule(self.distill_coef)

    def train(self) -> None:
        """Update all members with the rollouts gathered last."""
        check_distill_mode(self.distill_mode, self.action_space)  # it may have been assigned after construction
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        settings = self._loss_settings()
        constant_peers = self.detach_peers or settings.to_maximum or not settings.distills
        step = partial(
            minibatch_step,
            self.policy,
            settings=settings.as_tensors(self.device) if self.compile else settings,
            max_grad_norm=self.max_grad_norm,
            detach_peers=constant_peers,
            target_kl=self.target_kl,
            chunk_size=automatic_chunk_size(self.policy) if self.chunk_size is None else self.chunk_size,
            ranks=self.ranks,
            compile=self.compile,
        )
        history = UpdateHistory()
        active = set(range(self.n_policies))  # members leave it when they reach target_kl
        batch_size = self.ranks.share(self.batch_size, "batch_size")
        peers_generator = self.ranks.peers_generator()
        with distribution_checks(False):  # check_update() replaces them
            for epoch in range(self.n_epochs):
                for minibatch in self.rollout_buffer.get(batch_size, self.device):
                    peers = draw_peers(self.n_policies, self.distill_mode, peers_generator)
                    took_part = frozenset(active)
                    metrics = step(minibatch, peers, active=active)
                    history.append(epoch, metrics, took_part, frozenset(active))
                    passes = n_differentiated(peers, took_part, frozenset(active), constant_peers)
                    self.trained_samples += passes * n_samples_per_member(minibatch) * self.ranks.size
                    if not active:
                        break
                self._n_updates += 1
                if not active:
                    if self.verbose >= 1:
                        print(f"Early stopping at step {epoch}: all policies have reached target_kl={self.target_kl}")
                    break
        # Batch normalisation's statistics, which each process has computed from its own samples
        self.ranks.average([buffer for buffer in self.policy.buffers() if buffer.is_floating_point()])
        self._log_update(history, settings)

    def _loss_settings(self) -> LossSettings:
        progress = self._current_progress_remaining
        vf_schedule = self.clip_range_vf_schedule
        distill_coef = self.distill_coef_schedule(progress)
        if not distill_coef >= 0:  # negative or NaN
            raise ValueError(
                f"The schedule of distill_coef gave {distill_coef} at progress_remaining={progress}: it must not be "
                "negative, which would drive the members apart."
            )
        return LossSettings(
            clip_range=self.clip_range_schedule(progress),
            clip_range_vf=None if vf_schedule is None else vf_schedule(progress),
            ent_coef=self.ent_coef,
            vf_coef=self.vf_coef,
            distill_coef=distill_coef,
            normalize_advantage=self.normalize_advantage,
            to_maximum=self.distill_mode == "max",
        )

    def _log_update(self, history: UpdateHistory, settings: LossSettings) -> None:
        buffer = self.rollout_buffer
        values, returns = buffer.by_member(buffer.values), buffer.by_member(buffer.returns)
        at_the_end = {"explained_variance": explained_variance(values, returns, self.ranks)}
        if all(hasattr(member, "log_std") for member in self.policy.members):
            at_the_end["std"] = th.stack([th.exp(member.log_std.detach()).mean() for member in self.policy.members])
        update = history.fetch(at_the_end)
        if self.check_finite:
            check_update(update, self.policy, self.num_timesteps)
        for key, value in update.summary().items():
            # The table on stdout has PPO's lines and, of each member, what its peers are about
            brief = not key.startswith("policy_") or key.endswith("/distill_kl")
            self.logger.record(key, value, exclude=None if brief else "stdout")
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/clip_range", settings.clip_range)
        if settings.clip_range_vf is not None:
            self.logger.record("train/clip_range_vf", settings.clip_range_vf)
        self.logger.record("train/distill_coef", settings.distill_coef)

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
        :raises ValueError: if the number of environments is not a multiple of ``n_policies``, or
            ``batch_size`` is larger than a member's rollout
        :raises NonFiniteError: if ``check_finite`` is set and NaN or infinity occurs
        """
        self._check_rollout()
        if self.member_base is ActorCriticPolicy and self.env is not None and is_masking_supported(self.env):
            warnings.warn("The environments have action_masks(), which MDPO ignores: use MaskableMDPO.", stacklevel=2)
        keep_freed_memory(self.policy)
        return super().learn(
            total_timesteps=total_timesteps,
            callback=callback,
            log_interval=log_interval,  # type: ignore[arg-type]
            tb_log_name=tb_log_name,
            reset_num_timesteps=reset_num_timesteps,
            progress_bar=progress_bar,
        )
