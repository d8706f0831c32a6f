"""The members of MDPO in one SB3 policy."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch as th
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import nn

from sb3_mdpo.common.distributions import distribution_checks, is_valid, mixture_mode, mixture_sample, with_start
from sb3_mdpo.common.stacked import can_stack, values_and_distribution

PredictWith = int | Literal["ensemble"]
MemberClass = type[ActorCriticPolicy] | Sequence[type[ActorCriticPolicy]]


class MutualPolicy(BasePolicy):
    """
    Two or more actor-critic members that share nothing but one optimizer.

    Members are built one after the other from torch's global generator: they start from different weights, and the
    first one from those of SB3's PPO with the same seed. Each is a complete policy:
    ``evaluate_policy(policy.members[1], env)`` works.

    :param observation_space: observation space of every member
    :param action_space: action space of every member
    :param lr_schedule: learning rate schedule of the optimizer
    :param member_class: class of the members, or a list with one class for each
    :param n_policies: number of members
    :param use_sde: whether members explore with gSDE
    :param predict_with: the index of the member that acts in :meth:`predict`, or ``"ensemble"`` for the average of all
        members' action distributions
    :param member_kwargs: arguments of single members, one dict for each, which override the common ones
    :param common_kwargs: arguments of every member; ``optimizer_class`` and ``optimizer_kwargs`` also define the common
        optimizer
    :raises ValueError: if members differ in the kind of their action distributions or in the optimizer
    """

    members: Sequence[ActorCriticPolicy]  # a ModuleList, which does not know what it holds
    stacked: bool  # whether the members act and learn in one batched pass

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        member_class: MemberClass = ActorCriticPolicy,
        n_policies: int = 2,
        use_sde: bool = False,
        predict_with: PredictWith = 0,
        member_kwargs: Sequence[dict[str, Any]] | None = None,
        **common_kwargs: Any,
    ) -> None:
        sde: dict[str, Any] = {"use_sde": use_sde} if use_sde else {}  # maskable policies have no such argument
        members = [
            cls(observation_space, action_space, lr_schedule, **sde, **kwargs)
            for cls, kwargs in each_member(member_class, n_policies, member_kwargs, common_kwargs)
        ]
        check_agreement(members)
        first = members[0]
        super().__init__(
            observation_space,
            action_space,
            normalize_images=first.normalize_images,
            optimizer_class=first.optimizer_class,
            optimizer_kwargs=first.optimizer_kwargs,
            squash_output=first.squash_output,
        )
        self.member_class = member_class
        self.use_sde = use_sde
        self.predict_with: PredictWith = predict_with
        self.member_kwargs = member_kwargs
        self.common_kwargs = common_kwargs
        for member in members:
            member.action_dist = with_start(member.action_dist, action_space)
            del member.optimizer  # only the common one may step
        self.members = nn.ModuleList(members)  # type: ignore[assignment]
        kwargs = self.optimizer_kwargs
        if self.optimizer_class in (th.optim.Adam, th.optim.AdamW) and not kwargs.get("fused"):
            kwargs = {"foreach": True} | kwargs  # the same numbers in fewer calls, also on a CPU
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **kwargs)  # type: ignore[call-arg]
        self.stack_if_possible()

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            members = self.__dict__.get("_modules", {}).get("members")
            if members is None or not hasattr(members[0], name):
                raise
        raise AttributeError(f"MutualPolicy has no {name}, but each member has: use policy.members[k].{name}.")

    @property
    def n_policies(self) -> int:
        return len(self.members)

    def stack_if_possible(self) -> None:
        """Decide whether the members act and learn in one batched pass; to be repeated if their layers change."""
        self.stacked = can_stack(self.members)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return dict(
            observation_space=self.observation_space,
            action_space=self.action_space,
            lr_schedule=self._dummy_schedule,  # as SB3: a policy that was loaded alone does not learn
            member_class=self.member_class,
            n_policies=self.n_policies,
            use_sde=self.use_sde,
            predict_with=self.predict_with,
            member_kwargs=self.member_kwargs,
            **self.common_kwargs,
        )

    def forward(
        self, obs: PyTorchObs, deterministic: bool = False, check_finite: bool = False, **inputs: Any
    ) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        """
        Every member acts in its own group of environments.

        :param obs: observations of all environments, one contiguous group of equal size per member
        :param deterministic: whether to take the mode of the distributions instead of a sample
        :param check_finite: whether the distributions are checked before they are sampled, which can crash an
            accelerator otherwise; the host waits for the device once
        :param inputs: what members take besides observations, by name; first axis the environments
        :return: actions, values and log probabilities, in the order of the environments
        :raises ValueError: if ``check_finite`` is set and a distribution is not finite
        """
        if any(type(member).forward is not ActorCriticPolicy.forward for member in self.members):
            with distribution_checks(check_finite):
                outputs = [member(group, deterministic, **own) for member, group, own in self._with_groups(obs, inputs)]
            actions, values, log_probs = (th.cat(parts) for parts in zip(*outputs, strict=True))
            return actions, values, log_probs
        with distribution_checks(False):
            if self.stacked:
                evaluated = [values_and_distribution(self.members, obs)]
            else:
                evaluated = [_values_and_distribution(member, group) for member, group, _ in self._with_groups(obs)]
            if check_finite and not is_valid([distribution for _, distribution in evaluated]):
                raise ValueError("An action distribution is not finite.")
            samples = [distribution.get_actions(deterministic) for _, distribution in evaluated]
            log_prob = [one.log_prob(taken) for (_, one), taken in zip(evaluated, samples, strict=True)]
        taken = _cat(samples).reshape((-1, *self.action_space.shape))  # type: ignore[misc]
        return taken, _cat([values for values, _ in evaluated]), _cat(log_prob)

    def predict_values(self, obs: PyTorchObs) -> th.Tensor:
        """
        :param obs: observations of all environments, one contiguous group of equal size per member
        :return: each member's values of its own group, in the order of the environments
        """
        return th.cat([member.predict_values(group) for member, group, _ in self._with_groups(obs)])

    def environment_actions(self, actions: NDArray[Any]) -> NDArray[Any]:
        """
        :param actions: actions from :meth:`forward`
        :return: actions for the environments: boxes clipped to their limits or, with ``squash_output``, scaled to them
        """
        if not isinstance(self.action_space, spaces.Box):
            return actions
        if self.squash_output:
            unscaled: NDArray[Any] = self.unscale_action(actions)
            return unscaled
        return np.clip(actions, self.action_space.low, self.action_space.high)

    def own_distributions(self, obs: PyTorchObs, **inputs: Any) -> list[Distribution]:
        """
        :param obs: observations of all environments, one contiguous group of equal size per member
        :param inputs: as in :meth:`forward`
        :return: each member's action distribution on its own group
        """
        return [member.get_distribution(group, **own) for member, group, own in self._with_groups(obs, inputs)]

    def _with_groups(
        self, obs: PyTorchObs, inputs: dict[str, Any] | None = None
    ) -> list[tuple[Any, Any, dict[str, Any]]]:
        """Each member, its group of the observations, and its shares of the inputs."""
        if self.n_policies == 1:
            return [(self.members[0], obs, inputs or {})]
        n_envs = len(next(iter(obs.values())) if isinstance(obs, dict) else obs)
        return [
            (member, rows_of(obs, envs), {name: data[envs] for name, data in (inputs or {}).items()})
            for member, envs in zip(self.members, self.groups(n_envs), strict=True)
        ]

    def groups(self, n_envs: int) -> list[slice]:
        """
        :param n_envs: number of environments
        :return: the environments of each member
        """
        ends = [k * n_envs // self.n_policies for k in range(self.n_policies + 1)]
        return [slice(*pair) for pair in pairwise(ends)]

    def evaluate_member(self, k: int, samples: Any) -> tuple[th.Tensor, th.Tensor, th.Tensor | None]:
        """
        :param k: a member's index
        :param samples: of its own rollouts
        :return: its values, shape ``(B, 1)``, the log probabilities of the actions taken and the entropy; its
            distribution object is that of these samples
        """
        return self.members[k].evaluate_actions(samples.observations, samples.actions)

    def peer_distribution(self, j: int, samples: Any) -> Distribution:
        """
        :param j: a member's index
        :param samples: of another member's rollouts
        :return: the action distribution of member ``j`` in their states
        """
        return self.members[j].get_distribution(samples.observations)

    def reset_noise(self, n_envs: int | None = None) -> None:
        """
        Sample new exploration matrices for gSDE.

        :param n_envs: number of environments of all members together, one per member by default
        """
        n_envs = self.n_policies if n_envs is None else n_envs
        for member in self.members:
            member.reset_noise(max(n_envs // self.n_policies, 1))

    def get_distributions(self, obs: PyTorchObs, **inputs: Any) -> list[Distribution]:
        """
        :param obs: observations, batch size ``B``
        :param inputs: as in :meth:`forward`
        :return: every member's action distribution on all of them
        """
        return [member.get_distribution(obs, **inputs) for member in self.members]

    def _predict(self, observation: PyTorchObs, deterministic: bool = False, **inputs: Any) -> th.Tensor:
        check_predict_with(self.predict_with, self.n_policies)
        if self.predict_with != "ensemble":
            actions: th.Tensor = self.members[self.predict_with]._predict(observation, deterministic, **inputs)
            return actions
        distributions = self.get_distributions(observation, **inputs)
        return mixture_mode(distributions) if deterministic else mixture_sample(distributions)


def rows_of(obs: PyTorchObs, envs: slice) -> Any:
    """The observations of some environments."""
    return {key: part[envs] for key, part in obs.items()} if isinstance(obs, dict) else obs[envs]


def latents(member: ActorCriticPolicy, obs: PyTorchObs) -> tuple[th.Tensor, th.Tensor]:
    """What the action network and the value network of a policy get, as in SB3's ``ActorCriticPolicy.forward()``."""
    features = member.extract_features(obs)
    if member.share_features_extractor:
        latent_pi, latent_vf = member.mlp_extractor(features)
        return latent_pi, latent_vf
    return member.mlp_extractor.forward_actor(features[0]), member.mlp_extractor.forward_critic(features[1])


def _values_and_distribution(member: ActorCriticPolicy, obs: PyTorchObs) -> tuple[th.Tensor, Distribution]:
    """The first half of SB3's ``ActorCriticPolicy.forward()``, before it samples."""
    latent_pi, latent_vf = latents(member, obs)
    return member.value_net(latent_vf), member._get_action_dist_from_latent(latent_pi)


def _cat(parts: list[th.Tensor]) -> th.Tensor:
    return parts[0] if len(parts) == 1 else th.cat(parts)


def common_policy_kwargs(policy_kwargs: dict[str, Any] | Sequence[dict[str, Any]] | None) -> dict[str, Any] | None:
    """Convert a list with one dict per member to arguments of :class:`MutualPolicy`: SB3 saves and loads only dicts."""
    if policy_kwargs is None or isinstance(policy_kwargs, dict):
        return policy_kwargs
    return {"member_kwargs": list(policy_kwargs)}


def each_member(
    member_class: MemberClass,
    n_policies: int,
    member_kwargs: Sequence[dict[str, Any]] | None,
    common_kwargs: dict[str, Any],
) -> list[tuple[type[ActorCriticPolicy], dict[str, Any]]]:
    """
    :param member_class: class of all members, or a list with one class for each
    :param n_policies: number of members
    :param member_kwargs: arguments of single members, which override the common ones
    :param common_kwargs: arguments of every member
    :return: every member's class and arguments
    """
    classes = member_class if isinstance(member_class, (list, tuple)) else [member_class] * n_policies
    own_kwargs = [{}] * n_policies if member_kwargs is None else member_kwargs
    return [(cls, common_kwargs | own) for cls, own in zip(classes, own_kwargs, strict=True)]


def check_agreement(members: Sequence[ActorCriticPolicy]) -> None:
    """Raise a ``ValueError`` if members have no KL between them or different optimizers."""
    first = members[0]
    for k, member in enumerate(members):
        for what, mine, its in (
            ("the kind of action distribution", type(member.action_dist), type(first.action_dist)),
            ("squash_output", member.squash_output, first.squash_output),
            ("optimizer_class", member.optimizer_class, first.optimizer_class),
            ("optimizer_kwargs", member.optimizer_kwargs, first.optimizer_kwargs),
        ):
            if mine != its:
                raise ValueError(
                    f"Members 0 and {k} differ in {what}, {its!r} and {mine!r}, but have a KL between them and one "
                    "common optimizer: pass the same to both."
                )


def check_predict_with(predict_with: PredictWith, n_policies: int) -> None:
    """Raise a ``ValueError`` if the setting is neither ``"ensemble"`` nor the index of a member."""
    if predict_with != "ensemble" and not (isinstance(predict_with, int) and 0 <= predict_with < n_policies):
        raise ValueError(
            f"predict_with={predict_with!r} is unknown: use a member's index, 0 to {n_policies - 1}, or 'ensemble'."
        )
