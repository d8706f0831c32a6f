"""The table of MDPO's arguments: ranges, types in exports, and uses."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

LARGEST = 2**53  # the largest integer up to which every JSON reader is exact


@dataclass(frozen=True)
class Kind:
    """
    :param what: description for error messages
    :param holds: whether a value is of this kind
    :param nullable: whether None is allowed
    """

    what: str
    holds: Callable[[Any], bool]
    nullable: bool = False

    def check(self, name: str, value: Any) -> None:
        """Raise a ``ValueError`` if the value is not of this kind."""
        if not (self.nullable and value is None) and not self.holds(value):
            raise ValueError(f"{name}={value!r} is not {self.what}")


def _is_integer(value: Any, least: int = -LARGEST) -> bool:
    return type(value) is int and least <= value <= LARGEST


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_schedule(value: Any) -> bool:  # the reader and writer of exports restrict schedules further
    return is_number(value) or (callable(value) and not isinstance(value, type))


def _are_classes(value: Any) -> bool:
    return isinstance(value, type) or (isinstance(value, (list, tuple)) and all(isinstance(one, type) for one in value))


COUNT = Kind("a positive integer", lambda value: _is_integer(value, 1))
NON_NEGATIVE = Kind("a count", lambda value: _is_integer(value, 0))
NUMBER = Kind("a number", is_number)
SCHEDULE = Kind("a number or a schedule", _is_schedule)
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
TEXT = Kind("a text", lambda value: isinstance(value, str))
DICT = Kind("an object", lambda value: isinstance(value, dict))


@dataclass(frozen=True)
class Range:
    """
    :param holds: whether a value is allowed
    :param message: what is allowed, after "name=value "
    :param error: class of the error
    """

    holds: Callable[[Any], bool]
    message: str
    error: type[Exception] = ValueError


def _at_least_1(value: Any) -> bool:
    return isinstance(value, Integral) and int(value) >= 1


def _one_of(*values: str) -> Range:
    return Range(lambda value: value in values, f"is unknown: use one of {', '.join(map(repr, values))}.")


BOOLEAN = Range(lambda value: isinstance(value, bool), "must be True or False.", TypeError)


@dataclass(frozen=True)
class Argument:
    """
    :param kind: kind of the attribute in an export, None if exports leave it out
    :param range: range that MDPO checks when a model is made or loaded, None if SB3 does
    :param ppo: whether SB3's PPO has it under the same name and with the same meaning
    :param overview: whether it is shown among the hyperparameters
    :param fixed: whether it cannot be changed when an export is loaded, because the weights depend on it
    :param runtime: whether it is not exported but can be set when an export is loaded
    """

    kind: Kind | None
    range: Range | None = None
    ppo: bool = False
    overview: bool = False
    fixed: bool = False
    runtime: bool = False


# By the attribute's name
ARGUMENTS: dict[str, Argument] = {
    "policy_class": Argument(Kind("a class or a list of classes", _are_classes), fixed=True),
    "policy_kwargs": Argument(DICT, fixed=True),
    "n_policies": Argument(
        COUNT,
        Range(_at_least_1, "must be an integer of at least 1 (1 is PPO, the paper uses 2)."),
        overview=True,
        fixed=True,
    ),
    "predict_with": Argument(
        Kind("a member or 'ensemble'", lambda value: value == "ensemble" or _is_integer(value, 0))
    ),
    "learning_rate": Argument(SCHEDULE, ppo=True, overview=True),
    "n_steps": Argument(COUNT, ppo=True, overview=True),
    "batch_size": Argument(COUNT, Range(lambda value: value >= 1, "must be at least 1."), ppo=True, overview=True),
    "n_epochs": Argument(COUNT, ppo=True, overview=True),
    "gamma": Argument(NUMBER, ppo=True, overview=True),
    "gae_lambda": Argument(NUMBER, ppo=True, overview=True),
    "clip_range": Argument(SCHEDULE, ppo=True, overview=True),
    "clip_range_vf": Argument(
        Kind("a number, a schedule or null", _is_schedule, nullable=True),
        Range(
            lambda value: value is None or callable(value) or value > 0,
            "must be positive: pass None for no clipping of the value function.",
        ),
        ppo=True,
        overview=True,
    ),
    "normalize_advantage": Argument(FLAG, ppo=True),
    "ent_coef": Argument(NUMBER, ppo=True, overview=True),
    "vf_coef": Argument(NUMBER, ppo=True, overview=True),
    "max_grad_norm": Argument(NUMBER, ppo=True, overview=True),
    "use_sde": Argument(FLAG, ppo=True),
    "sde_sample_freq": Argument(Kind("an integer", _is_integer), ppo=True),
    "rollout_buffer_class": Argument(Kind("a class or null", lambda value: isinstance(value, type), nullable=True)),
    "rollout_buffer_kwargs": Argument(DICT),
    "target_kl": Argument(Kind("a number or null", is_number, nullable=True), ppo=True, overview=True),
    "_stats_window_size": Argument(COUNT),
    "seed": Argument(Kind("an integer or null", lambda value: _is_integer(value, 0), nullable=True), overview=True),
    "distill_coef": Argument(
        SCHEDULE,
        Range(
            lambda value: callable(value) or (isinstance(value, Real) and 0 <= value <= sys.float_info.max),  # type: ignore[operator]
            "must be a number, finite and not negative, or a function of the progress remaining: 1.0 is the paper's, 0 "
            "switches distillation off. In the zoo's files also 'lin_1.0' or 'warmup_1.0_0.1'.",
        ),
        overview=True,
    ),
    "detach_peers": Argument(FLAG, overview=True),
    "distill_mode": Argument(
        TEXT,
        Range(
            lambda value: value in ("all", "random", "max"),
            "is unknown: use 'all' for the mean over all peers, 'random' for one random peer per minibatch, or 'max' "
            "for the normalised maximum of all members.",
        ),
        overview=True,
    ),
    "precision": Argument(TEXT, _one_of("fp32", "bf16", "auto"), overview=True),
    "chunk_size": Argument(
        Kind("a positive integer or null", COUNT.holds, nullable=True),
        Range(
            lambda value: value is None or _at_least_1(value),
            "must be an integer of at least 1, or None to have it chosen.",
        ),
    ),
    "compile": Argument(FLAG, BOOLEAN),
    "check_finite": Argument(None, BOOLEAN),
    "n_envs": Argument(COUNT, overview=True, fixed=True),
    "num_timesteps": Argument(NON_NEGATIVE),
    "trained_samples": Argument(NON_NEGATIVE),
    "_n_updates": Argument(NON_NEGATIVE),
    "tensorboard_log": Argument(None, ppo=True, runtime=True),
    "verbose": Argument(None, ppo=True, runtime=True),
    "device": Argument(None, ppo=True),
}
HYPERPARAMETERS = tuple(name for name, argument in ARGUMENTS.items() if argument.overview)


def check_ranges(arguments: Mapping[str, Any]) -> None:
    """
    :param arguments: values by name; names that are not in the table are ignored
    :raises ValueError: if a value is outside its range
    :raises TypeError: if a flag is not a bool
    """
    for name, value in arguments.items():
        allowed = ARGUMENTS[name].range if name in ARGUMENTS else None
        if allowed is not None and not allowed.holds(value):
            raise allowed.error(f"{name}={value!r} {allowed.message}")
