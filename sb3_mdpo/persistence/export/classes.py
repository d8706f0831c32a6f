"""The classes that an export may name. Nothing is imported by a name out of a file: it is looked up here."""

from collections.abc import Mapping

import torch as th
from stable_baselines3.common.policies import (
    ActorCriticCnnPolicy,
    ActorCriticPolicy,
    MultiInputActorCriticPolicy,
)
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor, NatureCNN
from torch import nn

from sb3_mdpo.common.buffers import MutualRolloutBuffer
from sb3_mdpo.common.policies import ImpalaCnnPolicy, StridedCnnPolicy
from sb3_mdpo.common.torch_layers import ImpalaCNN, StridedCNN
from sb3_mdpo.persistence.export.names import ACTIVATIONS, OPTIMIZERS

_SB3 = (
    ActorCriticPolicy,
    ActorCriticCnnPolicy,
    MultiInputActorCriticPolicy,
    FlattenExtractor,
    NatureCNN,
    CombinedExtractor,
    RMSpropTFLike,
)
_OURS = (ImpalaCnnPolicy, StridedCnnPolicy, ImpalaCNN, StridedCNN, MutualRolloutBuffer)
_ACTIVATIONS = tuple(getattr(nn, name) for name in ACTIVATIONS)
_OPTIMIZERS = tuple(getattr(th.optim, name) for name in OPTIMIZERS)

#: Name in an export -> class. The names are ours, so that they stay when a library moves its modules
ALLOWED: dict[str, type] = {
    f"{prefix}.{cls.__name__}": cls
    for prefix, classes in (
        ("stable_baselines3", _SB3),
        ("sb3_mdpo", _OURS),
        ("torch.nn", _ACTIVATIONS),
        ("torch.optim", _OPTIMIZERS),
    )
    for cls in classes
}
_NAMES = {cls: name for name, cls in ALLOWED.items()}


def name_of(cls: type) -> str:
    """
    :param cls: a class
    :return: its name in an export: that of :data:`ALLOWED`, or else its dotted name
    """
    return _NAMES.get(cls) or f"{cls.__module__}.{cls.__qualname__}"


def class_of(name: object, custom_objects: Mapping[str, type]) -> type:
    """
    :param name: name out of an export
    :param custom_objects: name -> class, what the caller allows beyond :data:`ALLOWED`
    :return: the class
    :raises ValueError: where neither has it
    """
    if not isinstance(name, str):
        raise ValueError(f"{name!r} is no name of a class")
    cls = ALLOWED.get(name) or custom_objects.get(name)
    if cls is None:
        raise ValueError(
            f"it names the class {name!r}, which is not among those that exports may use: if it is yours, import it "
            f"and pass it, MDPO.from_export(path, custom_objects={{{name!r}: ...}})"
        )
    return cls
