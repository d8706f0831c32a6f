"""Checks of MDPO's arguments: early, naming what was given and what to pass instead."""

import sys
import warnings
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

from gymnasium import spaces
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticCnnPolicy, ActorCriticPolicy
from stable_baselines3.common.preprocessing import is_image_space

from sb3_mdpo.common.buffers import MutualRolloutBuffer
from sb3_mdpo.common.distributions import starts_at_zero
from sb3_mdpo.common.policies import ImpalaCnnPolicy, check_predict_with
from sb3_mdpo.common.ranks import Ranks
from sb3_mdpo.mdpo.update import check_distill_mode

PRECISIONS = ("fp32", "bf16", "auto")


def check_n_policies(n_policies: int) -> None:
    """
    :param n_policies: number of members
    :raises ValueError: where it is no positive integer
    """
    if not isinstance(n_policies, Integral) or n_policies < 1:
        raise ValueError(f"n_policies={n_policies!r} must be an integer of at least 1 (1 is PPO, the paper uses 2).")


def check_arguments(model: Any) -> None:
    """
    Check what does not depend on the number of environments, for models new and loaded.

    :param model: the model, its attributes set
    :raises ValueError: where an argument is outside its range
    :raises TypeError: where a class that was passed cannot be used
    """
    check_n_policies(model.n_policies)
    check_predict_with(model.predict_with, model.n_policies)
    coef = model.distill_coef
    if not callable(coef) and not (isinstance(coef, Real) and 0 <= coef <= sys.float_info.max):  # type: ignore[operator]
        raise ValueError(
            f"distill_coef={coef!r} must be a number, finite and not negative, or a function of the progress "
            "remaining: 1.0 is the paper's, 0 switches distillation off. In the zoo's files also 'lin_1.0' or "
            "'warmup_1.0_0.1'."
        )
    check_distill_mode(model.distill_mode)
    if model.precision not in PRECISIONS:
        raise ValueError(f"precision={model.precision!r} is unknown: use one of {', '.join(map(repr, PRECISIONS))}.")
    if model.chunk_size is not None and not (isinstance(model.chunk_size, Integral) and int(model.chunk_size) >= 1):
        raise ValueError(
            f"chunk_size={model.chunk_size!r} must be an integer of at least 1, or None to have it chosen."
        )
    for name in ("compile", "check_finite"):
        if not isinstance(getattr(model, name), bool):
            raise TypeError(f"{name}={getattr(model, name)!r} must be True or False.")
    vf_range = model.clip_range_vf
    if vf_range is not None and not callable(vf_range) and vf_range <= 0:
        raise ValueError(
            f"clip_range_vf={vf_range!r} must be positive: pass None for no clipping of the value function."
        )
    if model.batch_size < 1:
        raise ValueError(f"batch_size={model.batch_size} must be at least 1.")
    if model.normalize_advantage and model.batch_size < 2:
        raise ValueError(
            f"batch_size={model.batch_size} must be at least 2, or pass normalize_advantage=False "
            "(see https://github.com/DLR-RM/stable-baselines3/issues/440)."
        )
    _check_members(model)
    _check_buffer_class(model)
    _check_observations(model.observation_space)


def _check_members(model: Any) -> None:
    own_kwargs = model.policy_kwargs.get("member_kwargs")
    for name, given in (("policy", model.policy_class), ("policy_kwargs", own_kwargs)):
        if isinstance(given, Sequence) and len(given) != model.n_policies:
            raise ValueError(
                f"{name} lists {len(given)} members, but n_policies={model.n_policies}: pass one for each member or a "
                "single one for all of them."
            )
    if not all(isinstance(kwargs, dict) for kwargs in own_kwargs or []):
        raise TypeError(f"policy_kwargs={own_kwargs!r} must be a dict for all members, or a list of dicts.")
    for member_class, member_kwargs in model.each_member():
        _check_member(model, member_class, member_kwargs)


def _check_member(model: Any, member_class: type, member_kwargs: dict[str, Any]) -> None:
    if not (isinstance(member_class, type) and issubclass(member_class, ActorCriticPolicy)):
        raise TypeError(f"policy={member_class!r} must be a subclass of ActorCriticPolicy, the class of the members.")
    if issubclass(member_class, RecurrentActorCriticPolicy):
        raise TypeError(f"policy={member_class.__name__} is recurrent, which MDPO's members cannot be.")
    if "features_extractor_class" in member_kwargs:
        return
    if issubclass(member_class, (ActorCriticCnnPolicy, ImpalaCnnPolicy)):
        are_floats = not member_kwargs.get("normalize_images", True)
        if not is_image_space(model.observation_space, check_channels=False, normalized_image=are_floats):
            raise ValueError(
                f"{member_class.__name__} needs images, but the observation space is {model.observation_space}. Use "
                "MlpPolicy for vectors, MultiInputPolicy for dictionaries, or policy_kwargs=dict(normalize_images="
                "False) for images that are floats in [0, 1]."
            )
    elif member_class is ActorCriticPolicy and isinstance(model.observation_space, spaces.Dict):
        raise ValueError(
            f"MlpPolicy needs vectors, but the observation space is {model.observation_space}: use MultiInputPolicy."
        )


def _check_observations(space: spaces.Space[Any]) -> None:
    for part in space.spaces.values() if isinstance(space, spaces.Dict) else [space]:
        if not starts_at_zero(part):
            raise ValueError(
                f"Observations of the space {part} do not start at 0, but SB3's one-hot encoding does: subtract the "
                "start in a gymnasium.ObservationWrapper."
            )


def _check_buffer_class(model: Any) -> None:
    buffer_class = model.rollout_buffer_class
    if buffer_class is not None and not issubclass(buffer_class, MutualRolloutBuffer):  # type: ignore[unreachable]
        raise TypeError(f"rollout_buffer_class={buffer_class!r} must be a subclass of MutualRolloutBuffer.")


def check_rollout(
    *, n_envs: int, n_steps: int, n_policies: int, batch_size: int, normalize_advantage: bool, ranks: Ranks
) -> None:
    """
    Check that the environments can be shared out and the minibatches filled.

    Models may be loaded with any number of environments, to record a video with a single one
    for example: only those that learn need this.

    :param n_envs: environments of this process
    :param n_steps: steps per environment and update
    :param n_policies: number of members
    :param batch_size: minibatch size per policy, of all processes together
    :param normalize_advantage: whether advantages are normalised
    :param ranks: the processes of the training
    :raises ValueError: if the environments cannot be shared out, or a minibatch cannot be filled
    """
    if n_envs % n_policies:
        raise ValueError(
            f"{n_envs} environment(s) cannot be shared out equally among n_policies={n_policies}: pass a "
            f"multiple of {n_policies}, e.g. make_vec_env(env_id, n_envs={n_policies * 4}) "
            f"in Python or -params n_envs:{n_policies * 4} to rl_zoo3 train"
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
