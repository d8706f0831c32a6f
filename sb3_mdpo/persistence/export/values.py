"""Settings as JSON and back: what JSON lacks is an object with one tag that starts with ``$``."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from rl_zoo3.utils import SimpleLinearSchedule
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule

from sb3_mdpo.persistence.export.classes import class_of, name_of

# Name of a schedule -> its class and its attributes, which are the arguments of its constructor
SCHEDULES: dict[str, tuple[type, tuple[str, ...]]] = {
    "ConstantSchedule": (ConstantSchedule, ("val",)),
    "FloatSchedule": (FloatSchedule, ("value_schedule",)),
    "LinearSchedule": (LinearSchedule, ("start", "end", "end_fraction")),
    "SimpleLinearSchedule": (SimpleLinearSchedule, ("initial_value",)),
}
_INFINITE = {"inf": math.inf, "-inf": -math.inf}
# Lists in a file: a network has far fewer layers, and building one for every byte would take minutes
LONGEST = 1024


def encode(value: Any, where: str) -> Any:
    """
    :param value: a setting
    :param where: its name, for messages
    :return: the same as plain JSON
    :raises ValueError: where it is nothing that an export can hold
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if math.isnan(value):
            raise ValueError(f"{where} is NaN: set it to a number before the export.")
        return value if math.isfinite(value) else {"$float": str(value)}
    if isinstance(value, (list, tuple)) and len(value) > LONGEST:
        raise ValueError(f"{where} has {len(value)} entries, but an export holds lists of at most {LONGEST}.")
    if isinstance(value, list):
        return [encode(item, where) for item in value]
    if isinstance(value, tuple):
        return {"$tuple": [encode(item, where) for item in value]}
    if isinstance(value, type):
        return {"$class": name_of(value)}
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str) or key.startswith("$"):
                raise ValueError(f"{where} has the key {key!r}: an export holds texts without a $ at their start.")
        return {key: encode(item, f"{where}[{key!r}]") for key, item in value.items()}
    return _encode_schedule(value, where)


def _encode_schedule(value: Any, where: str) -> dict[str, Any]:
    for name, (cls, attributes) in SCHEDULES.items():
        if type(value) is cls:
            arguments = {attribute: encode(getattr(value, attribute), where) for attribute in attributes}
            return {"$schedule": name, **arguments}
    if callable(value):
        raise ValueError(
            f"{where}={value!r} is code, which an export cannot hold. Set it to a number or to one of the schedules "
            f"{', '.join(SCHEDULES)} before the export, e.g. model.learning_rate = LinearSchedule(3e-4, 0, 1)."
        )
    raise ValueError(f"{where}={value!r} is a {type(value).__name__}, which an export cannot hold: use plain values.")


def decode(value: Any, custom_objects: Mapping[str, type]) -> Any:
    """
    :param value: what :func:`encode` gave, out of a file
    :param custom_objects: name -> class, what the caller allows beyond the classes that are known
    :return: the setting
    :raises ValueError: where it is something else
    """
    if isinstance(value, list):
        if len(value) > LONGEST:
            raise ValueError(f"it has a list of {len(value)} settings, of at most {LONGEST}")
        return [decode(item, custom_objects) for item in value]
    if not isinstance(value, dict):
        return value
    tags = [key for key in value if key.startswith("$")]
    if not tags:
        return {key: decode(item, custom_objects) for key, item in value.items()}
    content = value[tags[0]]
    match tags[0], len(value):
        case "$float", 1 if isinstance(content, str) and content in _INFINITE:
            return _INFINITE[content]
        case "$tuple", 1 if isinstance(content, list):
            return tuple(decode(content, custom_objects))
        case "$class", 1:
            return class_of(content, custom_objects)
        case "$schedule", _:
            return _schedule(value)
    raise ValueError(f"{value} is no setting that exports have")


def _schedule(value: dict[str, Any]) -> Any:
    name = value.get("$schedule")
    arguments = {key: decode(argument, {}) for key, argument in value.items() if key != "$schedule"}
    cls, attributes = SCHEDULES.get(name, (None, ())) if isinstance(name, str) else (None, ())
    if cls is None or arguments.keys() != set(attributes):
        raise ValueError(f"{value} is no schedule that exports have")
    inner = tuple(one for one, _ in SCHEDULES.values()) if cls is FloatSchedule else ()
    if not all(is_number(argument) or isinstance(argument, inner) for argument in arguments.values()):
        raise ValueError(f"{value} is a schedule without numbers")
    return cls(**arguments)


def is_number(value: object) -> bool:
    """
    :param value: anything
    :return: whether it is a number, which True and False are not here
    """
    return isinstance(value, (int, float)) and not isinstance(value, bool)
