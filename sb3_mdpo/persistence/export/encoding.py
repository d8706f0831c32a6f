"""Settings as JSON and back. A value that JSON lacks is an object with one key that starts with ``$``."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch as th
from rl_zoo3.utils import SimpleLinearSchedule
from sb3_contrib.common.maskable import policies as maskable
from sb3_contrib.common.recurrent import policies as recurrent
from stable_baselines3.common.policies import ActorCriticCnnPolicy, ActorCriticPolicy, MultiInputActorCriticPolicy
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor, NatureCNN
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule
from torch import nn

from sb3_mdpo.common.arguments import ARGUMENTS, Kind, is_number
from sb3_mdpo.common.buffers import MutualRolloutBuffer
from sb3_mdpo.common.policies import ImpalaCnnLstmPolicy, ImpalaCnnPolicy, ImpoolaCnnPolicy, StridedCnnPolicy
from sb3_mdpo.common.torch_layers import ImpalaCNN, ImpoolaCNN, StridedCNN
from sb3_mdpo.persistence.export.format import ACTIVATIONS, OPTIMIZERS

SETTINGS: dict[str, Kind] = {name: one.kind for name, one in ARGUMENTS.items() if one.kind is not None}
FIXED = tuple(name for name, one in ARGUMENTS.items() if one.fixed)
RUNTIME_SETTINGS = tuple(name for name, one in ARGUMENTS.items() if one.runtime)

_POLICIES = (ActorCriticPolicy, ActorCriticCnnPolicy, MultiInputActorCriticPolicy)
_CONTRIB = (
    maskable.MaskableActorCriticPolicy,
    maskable.MaskableActorCriticCnnPolicy,
    maskable.MaskableMultiInputActorCriticPolicy,
    recurrent.RecurrentActorCriticPolicy,
    recurrent.RecurrentActorCriticCnnPolicy,
    recurrent.RecurrentMultiInputActorCriticPolicy,
)
_EXTRACTORS = (FlattenExtractor, NatureCNN, CombinedExtractor)
_OURS = (
    *(ImpalaCnnLstmPolicy, ImpalaCnnPolicy, ImpoolaCnnPolicy, StridedCnnPolicy),
    *(ImpalaCNN, ImpoolaCNN, StridedCNN, MutualRolloutBuffer),
)

#: Name in an export -> class. Names are looked up here and never imported
ALLOWED: dict[str, type] = {
    **{f"stable_baselines3.{cls.__name__}": cls for cls in (*_POLICIES, *_EXTRACTORS, RMSpropTFLike)},
    **{f"sb3_contrib.{cls.__name__}": cls for cls in _CONTRIB},
    **{f"sb3_mdpo.{cls.__name__}": cls for cls in _OURS},
    **{f"torch.nn.{name}": getattr(nn, name) for name in ACTIVATIONS},
    **{f"torch.optim.{name}": getattr(th.optim, name) for name in OPTIMIZERS},
}
_NAMES = {cls: name for name, cls in ALLOWED.items()}

# Schedules and their attributes, which are the arguments of their constructors
SCHEDULES: dict[type, tuple[str, ...]] = {
    ConstantSchedule: ("val",),
    FloatSchedule: ("value_schedule",),
    LinearSchedule: ("start", "end", "end_fraction"),
    SimpleLinearSchedule: ("initial_value",),
}
_SCHEDULE_NAMES = {cls.__name__: cls for cls in SCHEDULES}


def check_settings(settings: dict[str, Any]) -> None:
    """Raise a ``ValueError`` if a setting is missing, unknown or of the wrong type."""
    if settings.keys() != SETTINGS.keys():
        name = min(settings.keys() ^ SETTINGS.keys())
        raise ValueError(f"the setting {name!r} is {'unknown' if name in settings else 'missing'}")
    for name, kind in SETTINGS.items():
        kind.check(name, settings[name])


def encode(value: Any, where: str) -> Any:
    """A setting as plain JSON; ``where`` is its name, for messages. A ``ValueError`` if an export cannot hold it."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if math.isnan(value):
            raise ValueError(f"{where} is NaN: set it to a number before the export.")
        return value if math.isfinite(value) else {"$float": str(value)}
    if isinstance(value, (list, tuple)):
        items = [encode(item, where) for item in value]
        return {"$tuple": items} if isinstance(value, tuple) else items
    if isinstance(value, type):
        return {"$class": _NAMES.get(value) or f"{value.__module__}.{value.__qualname__}"}
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str) or key.startswith("$"):
                raise ValueError(f"{where} has the key {key!r}: use strings that do not start with $.")
        return {key: encode(item, f"{where}[{key!r}]") for key, item in value.items()}
    if type(value) in SCHEDULES:
        arguments = {name: encode(getattr(value, name), where) for name in SCHEDULES[type(value)]}
        return {"$schedule": type(value).__name__, **arguments}
    if callable(value):
        raise ValueError(
            f"{where}={value!r} is code, which an export cannot hold. Before the export set it to a number or one of "
            f"the schedules {', '.join(_SCHEDULE_NAMES)}, e.g. model.learning_rate = LinearSchedule(3e-4, 0, 1)."
        )
    raise ValueError(f"{where}={value!r} is a {type(value).__name__}, which an export cannot hold: use plain values.")


def decode(value: Any, custom_objects: Mapping[str, type]) -> Any:
    """
    The setting in JSON that :func:`encode` returned; a ``ValueError`` if it never returns such JSON.

    :param custom_objects: name -> class, allowed in addition to :data:`ALLOWED`
    """
    if isinstance(value, list):
        return [decode(item, custom_objects) for item in value]
    if not isinstance(value, dict):
        return value
    match value:
        case {"$float": "inf" | "-inf" as infinity, **rest} if not rest:
            return float(infinity)
        case {"$tuple": [*items], **rest} if not rest:
            return tuple(decode(items, custom_objects))
        case {"$class": str(name), **rest} if not rest:
            return _class_of(name, custom_objects)
        case {"$schedule": str(name), **arguments} if name in _SCHEDULE_NAMES:
            return _schedule(_SCHEDULE_NAMES[name], decode(arguments, {}))
    if any(key.startswith("$") for key in value):
        raise ValueError(f"{value} is not a setting of an export")
    return {key: decode(item, custom_objects) for key, item in value.items()}


def _class_of(name: str, custom_objects: Mapping[str, type]) -> type:
    cls = ALLOWED.get(name) or custom_objects.get(name)
    if cls is None:
        raise ValueError(
            f"it names the class {name!r}, which exports may not use by default: if it is yours, import it and pass "
            f"MDPO.from_export(path, custom_objects={{{name!r}: ...}})"
        )
    return cls


def _schedule(cls: type, arguments: dict[str, Any]) -> Any:
    inner = tuple(SCHEDULES) if cls is FloatSchedule else ()
    valid = all(is_number(argument) or isinstance(argument, inner) for argument in arguments.values())
    if not valid or arguments.keys() != set(SCHEDULES[cls]):
        raise ValueError(f"{cls.__name__} with {arguments} is not a schedule of an export")
    return cls(**arguments)
