"""Which settings an export holds, and what each may be."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sb3_mdpo.common.on_policy_algorithm import MutualOnPolicyAlgorithm
from sb3_mdpo.persistence.export.encoding import SCHEDULES, is_number
from sb3_mdpo.persistence.export.format import LARGEST_INTEGER


@dataclass(frozen=True)
class Kind:
    """
    :param what: in words
    :param holds: whether a value is of it
    :param nullable: whether it may be None
    """

    what: str
    holds: Callable[[Any], bool]
    nullable: bool = False

    def check(self, name: str, value: Any) -> None:
        """
        :param name: name of a setting
        :param value: its value
        :raises ValueError: where the value is not of this kind
        """
        if not (self.nullable and value is None) and not self.holds(value):
            raise ValueError(f"{name}={value!r} is not {self.what}")


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

# Attribute of the model -> what it may be. Ranges are MDPO's own affair (check_arguments). Where a model logs, how
# much it prints and on what device it runs are of the machine, not of the model, and are left out
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
# What from_export() may change beside: of the machine. The first ones are what the weights and the spaces were made for
FIXED = ("policy_class", "policy_kwargs", "n_policies", "n_envs")
OF_THE_MACHINE = ("tensorboard_log", "verbose")


def settings_of(model: MutualOnPolicyAlgorithm) -> dict[str, Any]:
    """
    :param model: the model
    :return: what an export of it holds
    """
    settings = {name: getattr(model, name) for name in SETTINGS}
    # A search for hyperparameters gives NumPy's numbers
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in settings.items()}


def check_settings(settings: dict[str, Any]) -> None:
    """
    :param settings: settings out of a file
    :raises ValueError: where one is missing, unknown or of the wrong type
    """
    if settings.keys() != SETTINGS.keys():
        name = min(settings.keys() ^ SETTINGS.keys())
        raise ValueError(f"the setting {name!r} is {'unknown' if name in settings else 'missing'}")
    for name, kind in SETTINGS.items():
        kind.check(name, settings[name])
