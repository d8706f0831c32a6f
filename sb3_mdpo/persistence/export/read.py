"""Reading an export. Nothing is imported, evaluated or unpickled; what is not as it should be is refused."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch as th
from gymnasium import spaces
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.utils import check_for_correct_spaces

from sb3_mdpo._version import __version__
from sb3_mdpo.common.on_policy_algorithm import MutualOnPolicyAlgorithm
from sb3_mdpo.persistence.export.document import CONFIG, LARGEST_CONFIG, TENSORS, from_bytes
from sb3_mdpo.persistence.export.network import check_weights
from sb3_mdpo.persistence.export.settings import FIXED, RUNTIME_SETTINGS, SETTINGS, check_settings
from sb3_mdpo.persistence.export.space_json import decode_space
from sb3_mdpo.persistence.export.tensors import OPTIMIZER, WEIGHTS, load_optimizer, load_weights
from sb3_mdpo.persistence.export.values import decode
from sb3_mdpo.persistence.export.write import EXPORT_VERSION
from sb3_mdpo.utils.terminal import one_line

SelfMDPO = TypeVar("SelfMDPO", bound=MutualOnPolicyAlgorithm)
LONGEST_REASON = 500  # characters
_KEYS = {
    "format",
    "format_version",
    "version",
    "algorithm",
    "observation_space",
    "action_space",
    "settings",
    "includes_optimizer",
    "tensors_sha256",
}


@dataclass(frozen=True)
class Export:
    """
    What is in an export, checked.

    :param observation_space: observation space
    :param action_space: action space
    :param settings: attributes of the model
    :param weights: tensors of the policy
    :param optimizer: tensors of the optimizer's state; None where the export does not include it
    """

    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]
    settings: dict[str, Any]
    weights: dict[str, th.Tensor]
    optimizer: dict[str, th.Tensor] | None


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """
    A hostile file can make the constructors of SB3, Gymnasium and PyTorch fail in any of these ways: whoever
    opens it shall only have to expect one.
    """
    try:
        yield
    except (ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, RuntimeError) as error:
        raise ValueError(f"{path} describes a model that cannot be built: {one_line(error, LONGEST_REASON)}") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is refused: {one_line(error, LONGEST_REASON)}") from error


def read_export(path: str | Path, algorithm: str, custom_objects: Mapping[str, type] | None = None) -> Export:
    """
    :param path: folder that :meth:`sb3_mdpo.MDPO.export` wrote
    :param algorithm: name of the class that is wanted
    :param custom_objects: name -> class, what is allowed beyond :data:`~sb3_mdpo.persistence.export.classes.ALLOWED`
    :return: what is in it
    :raises ValueError: where anything in it is not as it should be
    """
    path = Path(path)
    with _refusing(path):
        content = from_bytes(_read(path / CONFIG, LARGEST_CONFIG))
        _check_head(content, algorithm)
        data = _read(path / TENSORS)
        if sha256(data).hexdigest() != content["tensors_sha256"]:
            raise ValueError(f"{TENSORS} is damaged or was changed: it is not the file that {CONFIG} was written for")
        try:
            tensors = safetensors.torch.load(data)
        except (safetensors.SafetensorError, KeyError) as error:
            raise ValueError(f"{TENSORS} is no file of tensors ({error})") from None
        observation_space, action_space = (
            decode_space(content["observation_space"]),
            decode_space(content["action_space"]),
        )
        if isinstance(action_space, spaces.Dict):
            raise ValueError("its action space is a dictionary")
        settings = decode(content["settings"], custom_objects or {})
        check_settings(settings)
        weights, optimizer = (
            {name: tensor for name, tensor in tensors.items() if name.startswith(kind)} for kind in (WEIGHTS, OPTIMIZER)
        )
        if len(weights) + len(optimizer) < len(tensors) or (optimizer and not content["includes_optimizer"]):
            raise ValueError(f"{TENSORS} holds tensors that are not the model's")
        check_weights(settings, observation_space, action_space, weights)
    return Export(
        observation_space, action_space, settings, weights, optimizer if content["includes_optimizer"] else None
    )


def _read(path: Path, largest: int | None = None) -> bytes:
    # A link could lead to any file of this machine
    if path.is_symlink() or not path.is_file():
        raise ValueError(f"{path.name} in it is missing, or a link and not a file: copy the file itself")
    if largest is not None and path.stat().st_size > largest:
        raise ValueError(f"{path.name} has more than {largest} bytes")
    return path.read_bytes()


def _check_head(content: dict[str, Any], algorithm: str) -> None:
    if content.get("format") != "sb3-mdpo export" or type(content.get("format_version")) is not int:
        raise ValueError(f"{CONFIG} is not of an export")
    if content["format_version"] > EXPORT_VERSION:
        raise ValueError(
            f"it has format version {content['format_version']}, but sb3-mdpo {__version__} reads versions up "
            f"to {EXPORT_VERSION}: install a newer sb3-mdpo (pip install --upgrade sb3-mdpo)"
        )
    if content["format_version"] < 1 or content.keys() != _KEYS:
        raise ValueError(f"{CONFIG} does not have the keys {', '.join(sorted(_KEYS))}")
    if content["algorithm"] != algorithm:
        raise ValueError(f"it is of {content['algorithm']!r}, not of {algorithm}")
    if not isinstance(content["settings"], dict) or not isinstance(content["includes_optimizer"], bool):
        raise ValueError(f"{CONFIG} has settings that exports do not have")


def load_export(
    cls: type[SelfMDPO],
    path: str | Path,
    env: GymEnv | None,
    device: th.device | str,
    custom_objects: Mapping[str, type] | None,
    changed: dict[str, Any],
) -> SelfMDPO:
    """
    :param cls: class of the model
    :param path: see :meth:`sb3_mdpo.MDPO.from_export`
    :param env: see there
    :param device: see there
    :param custom_objects: see there
    :param changed: settings to change
    :return: the model
    :raises ValueError: where the export is refused, or the spaces of ``env`` are not the model's
    :raises TypeError: where something shall be changed that cannot be
    """
    changeable = (SETTINGS.keys() - set(FIXED)) | set(RUNTIME_SETTINGS)
    for name in changed.keys() - changeable:
        raise TypeError(f"from_export() cannot change {name!r}: it is none of {', '.join(sorted(changeable))}.")
    export = read_export(path, cls.__name__, custom_objects)
    settings = dict(export.settings)
    if env is not None:
        env = cls._wrap_env(env, changed.get("verbose", 0))
        check_for_correct_spaces(env, export.observation_space, export.action_space)
        settings["n_envs"] = env.num_envs
    model = cls(settings["policy_class"], env, device=device, _init_setup_model=False)  # type: ignore[arg-type, call-arg]
    model.__dict__.update(settings)
    model.observation_space, model.action_space = export.observation_space, export.action_space
    model.__dict__.update(changed)
    with _refusing(Path(path)):
        model._setup_model()
        if export.optimizer is not None:
            load_optimizer(model.policy.optimizer, export.optimizer)
        load_weights(model.policy, export.weights)
    if model.use_sde:  # as SB3's load(): noise of the weights that were loaded
        model.policy.reset_noise()
    return model
