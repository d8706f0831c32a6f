"""Checks of MDPO's arguments: early, naming what was given and what to pass instead."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticCnnPolicy, MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticCnnPolicy, RecurrentActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticCnnPolicy, ActorCriticPolicy, BasePolicy
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import VecNormalize

from sb3_mdpo.common.arguments import check_ranges
from sb3_mdpo.common.buffers import MutualRolloutBuffer
from sb3_mdpo.common.distributions import check_actions, starts_at_zero
from sb3_mdpo.common.mutual_policy import MemberClass, check_predict_with
from sb3_mdpo.common.policies import ImpalaCnnPolicy
from sb3_mdpo.common.ranks import Ranks
from sb3_mdpo.envs.vec_normalize import MutualVecNormalize

# What members are, and the algorithm that trains them
ALGORITHMS: dict[type[BasePolicy], str] = {
    ActorCriticPolicy: "MDPO",
    MaskableActorCriticPolicy: "MaskableMDPO",
    RecurrentActorCriticPolicy: "RecurrentMDPO",
}
IMAGES = (ActorCriticCnnPolicy, MaskableActorCriticCnnPolicy, RecurrentActorCriticCnnPolicy, ImpalaCnnPolicy)


def check_arguments(
    arguments: Mapping[str, Any],
    members: list[tuple[type, dict[str, Any]]],
    observation_space: spaces.Space[Any],
    member_base: type[BasePolicy],
    buffer_base: type[MutualRolloutBuffer],
) -> None:
    """
    Check the arguments of new and loaded models, except those that depend on the number of environments.

    :param arguments: the model's attributes by name
    :param members: class and ``policy_kwargs`` of each member
    :param observation_space: observation space
    :param member_base: what members must be
    :param buffer_base: what the rollout buffer must be
    :raises ValueError: if an argument is outside its range
    :raises TypeError: if a class cannot be used
    """
    check_ranges(arguments)
    check_predict_with(arguments["predict_with"], arguments["n_policies"])
    if arguments["normalize_advantage"] and arguments["batch_size"] < 2:
        raise ValueError(
            f"batch_size={arguments['batch_size']} must be at least 2, or pass normalize_advantage=False "
            "(see https://github.com/DLR-RM/stable-baselines3/issues/440)."
        )
    buffer_class = arguments["rollout_buffer_class"]
    if buffer_class is not None and not issubclass(buffer_class, buffer_base):
        raise TypeError(f"rollout_buffer_class={buffer_class!r} must be a subclass of {buffer_base.__name__}.")
    for member_class, member_kwargs in members:
        _check_member(member_class, member_kwargs, observation_space, member_base)
    _check_observations(observation_space)
    check_actions(arguments["action_space"])
    check_distill_mode(arguments["distill_mode"], arguments["action_space"])


def check_distill_mode(distill_mode: str, action_space: spaces.Space[Any]) -> None:
    """A ``ValueError`` if the mode is unknown, or not for these actions."""
    check_ranges({"distill_mode": distill_mode})
    if distill_mode == "max" and not isinstance(action_space, spaces.Discrete):
        raise ValueError(
            f"distill_mode='max' needs a Discrete action space, not {action_space}: use distill_mode='all'."
        )


def check_members(n_policies: int, policy_class: MemberClass, policy_kwargs: dict[str, Any]) -> None:
    """A ``ValueError`` if a list has not one entry per member, a ``TypeError`` if arguments are not a dict."""
    own_kwargs = policy_kwargs.get("member_kwargs")
    for name, given in (("policy", policy_class), ("policy_kwargs", own_kwargs)):
        if isinstance(given, Sequence) and len(given) != n_policies:
            raise ValueError(
                f"{name} lists {len(given)} members, but n_policies={n_policies}: pass one for each member or a single "
                "one for all of them."
            )
    if not all(isinstance(kwargs, dict) for kwargs in own_kwargs or []):
        raise TypeError(f"policy_kwargs={own_kwargs!r} must be a dict for all members, or a list of dicts.")


def _check_member(
    member_class: type, member_kwargs: dict[str, Any], observation_space: spaces.Space[Any], base: type[BasePolicy]
) -> None:
    if _base_of(member_class) is not base:
        other = ALGORITHMS.get(_base_of(member_class) or object)
        hint = f", or {other} for these members" if other else ""
        raise TypeError(f"policy={member_class!r} must be a subclass of {base.__name__}{hint}.")
    if "features_extractor_class" in member_kwargs:
        return
    if issubclass(member_class, IMAGES):
        are_floats = not member_kwargs.get("normalize_images", True)
        if not is_image_space(observation_space, check_channels=False, normalized_image=are_floats):
            raise ValueError(
                f"{member_class.__name__} needs images, but the observation space is {observation_space}. Use "
                "MlpPolicy for vectors, MultiInputPolicy for dictionaries, or policy_kwargs=dict(normalize_images="
                "False) for images that are floats in [0, 1]."
            )
    elif member_class in ALGORITHMS and isinstance(observation_space, spaces.Dict):
        lstm = "Lstm" if member_class is RecurrentActorCriticPolicy else ""
        raise ValueError(
            f"Mlp{lstm}Policy needs vectors, but the observation space is {observation_space}: use "
            f"MultiInput{lstm}Policy."
        )


def _base_of(member_class: Any) -> type | None:
    # From the most special: recurrent policies are also ActorCriticPolicies
    bases = reversed(ALGORITHMS)
    return next((base for base in bases if isinstance(member_class, type) and issubclass(member_class, base)), None)


def _check_observations(space: spaces.Space[Any]) -> None:
    for part in space.spaces.values() if isinstance(space, spaces.Dict) else [space]:
        if not starts_at_zero(part):
            raise ValueError(
                f"Observations of the space {part} do not start at 0, but SB3's one-hot encoding does: subtract the "
                "start in a gymnasium.ObservationWrapper."
            )


def check_rollout(
    *, n_envs: int, n_steps: int, n_policies: int, batch_size: int, normalize_advantage: bool, ranks: Ranks
) -> None:
    """
    Check before training that the environments can be divided among the members and the minibatches filled. Models may
    be loaded with any number of environments, e.g. with one to record a video.

    :param n_envs: environments of this process
    :param n_steps: steps per environment and update
    :param n_policies: number of members
    :param batch_size: minibatch size per policy, of all processes together
    :param normalize_advantage: whether advantages are normalised
    :param ranks: the processes of the training
    :raises ValueError: if the environments cannot be divided, or a minibatch cannot be filled
    """
    if n_envs % n_policies:
        raise ValueError(
            f"{n_envs} environment(s) cannot be shared out equally among n_policies={n_policies}: pass a "
            f"multiple of {n_policies}, e.g. make_vec_env(env_id, n_envs={n_policies * 4}) or "
            f"make_vec_env(MyEnv, n_envs={n_policies}) in Python, or -params n_envs:{n_policies * 4} to rl_zoo3 train"
            + (". Of several processes, each needs as many of its own." if ranks.size > 1 else ".")
        )
    ranks.share(batch_size, "batch_size")
    envs_per_policy = n_envs * ranks.size // n_policies
    samples = n_steps * envs_per_policy
    if normalize_advantage and samples < 2:
        raise ValueError(f"n_steps={n_steps} gives each policy one sample: advantages cannot be normalised.")
    if batch_size > samples:
        raise ValueError(
            f"batch_size={batch_size} is larger than a policy's rollout of {samples} samples (n_steps="
            f"{n_steps} x {envs_per_policy} environments per policy): pass batch_size={samples} "
            "or less, or more steps or environments."
        )
    if samples % batch_size:
        warnings.warn(
            f"batch_size={batch_size} does not divide a policy's rollout of {samples} samples: "
            f"the last minibatch of every epoch has {samples % batch_size} samples only.",
            stacklevel=4,
        )


def check_normalization(normalize: VecNormalize | None, n_policies: int) -> None:
    """A ``ValueError`` if rewards are normalized by the statistics of another number of policies."""
    if isinstance(normalize, MutualVecNormalize) and normalize.n_policies != n_policies:
        raise ValueError(
            f"MutualVecNormalize has statistics of {normalize.n_policies} policies, but n_policies={n_policies}: pass "
            f"MutualVecNormalize(env, n_policies={n_policies})."
        )
