"""Reading an export. Nothing is imported, evaluated or unpickled; anything unexpected is refused."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch as th
from gymnasium import spaces
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.utils import check_for_correct_spaces

from sb3_mdpo._version import __version__
from sb3_mdpo.common.on_policy_algorithm import MutualOnPolicyAlgorithm
from sb3_mdpo.persistence.export.encoding import FIXED, RUNTIME_SETTINGS, SETTINGS, check_settings, decode
from sb3_mdpo.persistence.export.format import CONFIG, EXPORT_VERSION, MOST_CONFIG_BYTES, TENSORS
from sb3_mdpo.persistence.export.spaces import check_parts, decode_space
from sb3_mdpo.persistence.export.weights import (
    OPTIMIZER,
    WEIGHTS,
    Tensors,
    check_weights,
    load_optimizer,
    load_weights,
    read_tensors,
)
from sb3_mdpo.utils.terminal import one_line

Model = TypeVar("Model", bound=MutualOnPolicyAlgorithm)
LONGEST_REASON = 500  # characters
_TYPES = {
    "format": str,
    "format_version": int,
    "version": str,
    "algorithm": str,
    "observation_space": dict,
    "action_space": dict,
    "settings": dict,
    "includes_optimizer": bool,
}


class Export(NamedTuple):
    """The checked content of an export; ``optimizer`` is None if it does not include the optimizer's state."""

    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]
    settings: dict[str, Any]
    weights: Tensors
    optimizer: Tensors | None


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Settings from a file can make constructors of SB3, Gymnasium and PyTorch fail in any way."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"{path} is refused: {one_line(error, LONGEST_REASON)}") from error


def _read(path: Path, algorithm: str, custom_objects: Mapping[str, type]) -> Export:
    content = _read_config(path / CONFIG)
    _check_head(content, algorithm)
    observation_space, action_space = map(decode_space, (content["observation_space"], content["action_space"]))
    if isinstance(action_space, spaces.Dict):
        raise ValueError("its action space is a dictionary")
    settings = decode(content["settings"], custom_objects)
    check_settings(settings)
    check_parts(observation_space, settings["n_policies"])
    tensors = read_tensors(_existing(path / TENSORS).read_bytes())
    weights, optimizer = (
        {name: tensor for name, tensor in tensors.items() if name.startswith(kind)} for kind in (WEIGHTS, OPTIMIZER)
    )
    includes_optimizer = content["includes_optimizer"]
    if len(weights) + len(optimizer) < len(tensors) or (optimizer and not includes_optimizer):
        raise ValueError(f"{TENSORS} holds tensors that are not the model's")
    check_weights(settings, observation_space, action_space, weights)
    return Export(observation_space, action_space, settings, weights, optimizer if includes_optimizer else None)


def _read_config(path: Path) -> dict[str, Any]:
    if _existing(path).stat().st_size > MOST_CONFIG_BYTES:
        raise ValueError(f"{CONFIG} has more than {MOST_CONFIG_BYTES} bytes")
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{CONFIG} is not JSON ({error})") from error
    return content


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"{path.name} is missing")
    return path


def _check_head(content: Any, algorithm: str) -> None:
    version = content.get("format_version") if isinstance(content, dict) else None
    if type(version) is not int or content.get("format") != "sb3-mdpo export":
        raise ValueError(f"{CONFIG} is not that of an export")
    if version > EXPORT_VERSION:
        raise ValueError(
            f"it has format version {version}, but sb3-mdpo {__version__} reads versions up to {EXPORT_VERSION}: "
            "install a newer sb3-mdpo (pip install --upgrade sb3-mdpo)"
        )
    if version < 1 or {name: type(value) for name, value in content.items()} != _TYPES:
        raise ValueError(f"{CONFIG} does not have the keys {', '.join(sorted(_TYPES))} with values of their types")
    if content["algorithm"] != algorithm:
        raise ValueError(f"it holds a model of {content['algorithm']!r}, not of {algorithm}")


def load_export(
    cls: type[Model],
    path: str | Path,
    env: GymEnv | None,
    device: th.device | str,
    custom_objects: Mapping[str, type] | None,
    changed: dict[str, Any],
) -> Model:
    """See :meth:`sb3_mdpo.MDPO.from_export`."""
    changeable = (SETTINGS.keys() - set(FIXED)) | set(RUNTIME_SETTINGS)
    for name in changed.keys() - changeable:
        raise TypeError(f"from_export() cannot change {name!r}: use some of {', '.join(sorted(changeable))}.")
    with _refusing(Path(path)):
        export = _read(Path(path), cls.__name__, custom_objects or {})
    settings = dict(export.settings)
    if env is not None:
        env = cls._wrap_env(env, changed.get("verbose", 0))
        check_for_correct_spaces(env, export.observation_space, export.action_space)
        settings["n_envs"] = env.num_envs
    make: Callable[..., Model] = cls  # the abstract class has other arguments
    model = make(settings["policy_class"], env, device=device, _init_setup_model=False)
    model.__dict__.update(settings)
    model.observation_space, model.action_space = export.observation_space, export.action_space
    model.__dict__.update(changed)
    with _refusing(Path(path)):
        model._setup_model()
        if export.optimizer is not None:
            load_optimizer(model.policy.optimizer, export.optimizer)
        load_weights(model.policy, export.weights)
    if model.use_sde:  # as in SB3's load(): noise for the loaded weights
        model.policy.reset_noise()
    return model
