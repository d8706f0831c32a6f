"""The settings in an export, and their types."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sb3_mdpo.common.on_policy_algorithm import MutualOnPolicyAlgorithm
from sb3_mdpo.persistence.export.encoding import SCHEDULES, is_number
from sb3_mdpo.persistence.export.format import LARGEST_INTEGER


@dataclass(frozen=True)
class Kind:
    """Words for the allowed values, and the function that recognizes them."""

    what: str
    holds: Callable[[Any], bool]
    nullable: bool = False


def _is_integer(value: Any, least: int = -LARGEST_INTEGER) -> bool:
    return type(value) is int and least <= value <= LARGEST_INTEGER


def _is_schedule(value: Any) -> bool:
    return is_number(value) or type(value) in SCHEDULES


def _are_classes(value: Any) -> bool:
    return isinstance(value, type) or (isinstance(value, (list, tuple)) and all(isinstance(one, type) for one in value))


COUNT = Kind("a positive integer", lambda value: _is_integer(value, 1))
SO_MANY = Kind("a count", lambda value: _is_integer(value, 0))
NUMBER = Kind("a number", is_number)
SCHEDULE = Kind("a number or a schedule", _is_schedule)
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
TEXT = Kind("a text", lambda value: isinstance(value, str))
DICT = Kind("an object", lambda value: isinstance(value, dict))

# Attribute of the model -> its type; MDPO checks ranges itself. tensorboard_log, verbose and the device belong to the
# machine and are not exported
SETTINGS: dict[str, Kind] = {
    "policy_class": Kind("a class or a list of classes", _are_classes),
    "policy_kwargs": DICT,
    "n_policies": COUNT,
    "predict_with": Kind("a member or 'ensemble'", lambda value: value == "ensemble" or _is_integer(value, 0)),
    "learning_rate": SCHEDULE,
    "n_steps": COUNT,
    "batch_size": COUNT,
    "n_epochs": COUNT,
    "gamma": NUMBER,
    "gae_lambda": NUMBER,
    "clip_range": SCHEDULE,
    "clip_range_vf": Kind("a number, a schedule or null", _is_schedule, nullable=True),
    "normalize_advantage": FLAG,
    "ent_coef": NUMBER,
    "vf_coef": NUMBER,
    "max_grad_norm": NUMBER,
    "use_sde": FLAG,
    "sde_sample_freq": Kind("an integer", _is_integer),
    "rollout_buffer_class": Kind("a class or null", lambda value: isinstance(value, type), nullable=True),
    "rollout_buffer_kwargs": DICT,
    "target_kl": Kind("a number or null", is_number, nullable=True),
    "_stats_window_size": COUNT,
    "seed": Kind("an integer or null", lambda value: _is_integer(value, 0), nullable=True),
    "distill_coef": SCHEDULE,
    "detach_peers": FLAG,
    "distill_mode": TEXT,
    "precision": TEXT,
    "chunk_size": Kind("a positive integer or null", COUNT.holds, nullable=True),
    "compile": FLAG,
    "n_envs": COUNT,
    "num_timesteps": SO_MANY,
    "trained_samples": SO_MANY,
    "_n_updates": SO_MANY,
}
# from_export() cannot change the first ones, which the weights and the spaces depend on; it can set the second ones
FIXED = ("policy_class", "policy_kwargs", "n_policies", "n_envs")
OF_THE_MACHINE = ("tensorboard_log", "verbose")


def settings_of(model: MutualOnPolicyAlgorithm) -> dict[str, Any]:
    """The settings to export."""
    settings = {name: getattr(model, name) for name in SETTINGS}
    # A search for hyperparameters sets NumPy's numbers
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in settings.items()}


def check_settings(settings: dict[str, Any]) -> None:
    """
    :param settings: settings read from a file
    :raises ValueError: if one is missing, unknown or of the wrong type
    """
    if settings.keys() != SETTINGS.keys():
        name = min(settings.keys() ^ SETTINGS.keys())
        raise ValueError(f"the setting {name!r} is {'unknown' if name in settings else 'missing'}")
    for name, kind in SETTINGS.items():
        if not (kind.nullable and settings[name] is None) and not kind.holds(settings[name]):
            raise ValueError(f"{name}={settings[name]!r} is not {kind.what}")
