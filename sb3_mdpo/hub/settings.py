"""
The settings of a shared run, ``args.yml`` and ``config.yml``: the few that ``rl_zoo3 enjoy`` needs.

Strangers write these files, and the zoo imports the wrappers that they name. They are read as plain data and checked
before the zoo sees them; nothing is imported or evaluated here.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from reprlib import Repr
from types import NoneType
from typing import Any

import yaml
from yaml.nodes import Node

from sb3_mdpo.utils.yaml_files import PlainLoader, read_yaml
from sb3_mdpo.zoo.run import ARGS, CONFIG

Settings = dict[str, Any]
LARGEST = 2**20  # bytes of a file
ENV_ID = re.compile(r"(?:(?P<package>[A-Za-z0-9_.]+):)?[A-Za-z0-9][A-Za-z0-9._/-]*")
ENV_PACKAGES = (None, "ale_py")  # that Gymnasium may import for ids like ale_py:ALE/Pong-v5
_WRAPPER: Any = (str, dict, list, NoneType)
KEYS: dict[str, dict[str, Any]] = {
    ARGS: {"algo": str, "env": str, "env_kwargs": (dict, NoneType), "gym_packages": list, "seed": int},
    CONFIG: {"env_wrapper": _WRAPPER, "vec_env_wrapper": _WRAPPER, "normalize": bool, "frame_stack": int},
}
# The wrappers that need no --trust. With plain data as arguments they only do what their name says: none takes a
# callable, writes files or imports what it is told to
WRAPPERS = {
    "gymnasium.wrappers": "AddRenderObservation AtariPreprocessing ClipAction ClipReward DelayObservation "
    "DiscretizeAction DiscretizeObservation DtypeObservation FilterObservation FlattenObservation "
    "FrameStackObservation GrayscaleObservation MaxAndSkipObservation RepeatAction RescaleAction RescaleObservation "
    "ReshapeObservation ResizeObservation StickyAction TimeAwareObservation TimeLimit",
    "minigrid.wrappers": "FlatObsWrapper",
    "rl_zoo3.wrappers": "ActionNoiseWrapper ActionSmoothingWrapper DelayedRewardWrapper FrameSkip HistoryWrapper "
    "HistoryWrapperObsDict MaskVelocityWrapper TruncatedOnSuccessWrapper YAMLCompatResizeObservation",
    "sb3_contrib.common.wrappers": "TimeFeatureWrapper",
    "sb3_mdpo.envs": "native_vec_env",
    "stable_baselines3.common.atari_wrappers": "AtariWrapper ClipRewardEnv EpisodicLifeEnv FireResetEnv "
    "MaxAndSkipEnv NoopResetEnv StickyActionEnv WarpFrame",
    "stable_baselines3.common.vec_env": "VecCheckNan VecExtractDictObs VecFrameStack VecTransposeImage",
}
_KNOWN = {f"{module}.{name}" for module, names in WRAPPERS.items() for name in names.split()}

_shown = Repr()
_shown.maxstring = _shown.maxother = 100


class _StrictLoader(PlainLoader):
    """Refuses aliases, which can make gigabytes of a few lines, and tags, with which YAML names code to run."""

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None or event.tag is not None:
            raise ValueError("it has an alias, an anchor or a tag")
        return super().compose_node(parent, index)


def read_settings(path: Path) -> Settings:
    """The mapping of texts, numbers, booleans, null, lists and mappings in a YAML file written by a stranger."""
    if not path.is_file():
        raise ValueError(f"The repository has no file {path.name}: it was not made by sb3-mdpo push.")
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path.name} has more than {LARGEST} bytes, too many for settings.")
    try:
        content = read_yaml(path, _StrictLoader)
    except ValueError as error:
        problem = str(error).replace(f"{path}", path.name)  # which is in a temporary folder
        raise ValueError(f"{path.name} is not plain YAML, so loading it could run code: {problem}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} must be a mapping, not {type(content).__name__}.")
    for leaf in _leaves(content):
        if not isinstance(leaf, str | int | float | None):
            raise ValueError(f"{path.name} holds {_shown.repr(leaf)}: use only texts, numbers, lists and mappings.")
    return content


def check_settings(args: Settings, config: Settings, trust: bool = False) -> None:
    """
    Raise ValueError if ``env`` is not an id, or without ``trust`` if a setting in ``args.yml`` or ``config.yml`` is
    unknown, of the wrong type, or could run code.
    """
    env_id = args.get("env")
    match = ENV_ID.fullmatch(env_id) if isinstance(env_id, str) else None
    if match is None:
        raise ValueError(f"{ARGS}: {_shown.repr(env_id)} is not the id of an environment.")
    if trust:
        return
    if match["package"] not in ENV_PACKAGES:
        raise _unsafe(f"{ARGS}: env", env_id, f"Gymnasium would import {match['package']}")
    for file, content in ((ARGS, args), (CONFIG, config)):
        for key, value in content.items():
            if key not in KEYS[file]:
                raise _unsafe(file, key, f"the settings of a shared run are {', '.join(KEYS[file])}")
            if not isinstance(value, KEYS[file][key]):
                raise ValueError(f"{file}: {key} must not be {_shown.repr(value)}: the run was not shared by push.")
    n_stack = config.get("frame_stack", 1)
    if isinstance(n_stack, bool) or n_stack < 1:
        raise ValueError(f"{CONFIG}: frame_stack must be a positive integer, not {_shown.repr(n_stack)}.")
    if packages := args.get("gym_packages"):
        raise _unsafe(f"{ARGS}: gym_packages", packages, "these packages would be imported")
    _check_arguments(args.get("env_kwargs"), f"{ARGS}: env_kwargs")
    for key in ("env_wrapper", "vec_env_wrapper"):
        wrappers = config.get(key) or []
        for wrapper in wrappers if isinstance(wrappers, list) else [wrappers]:
            _check_wrapper(wrapper, f"{CONFIG}: {key}")


def _check_wrapper(wrapper: Any, where: str) -> None:
    """A dotted name, or a mapping from one to the wrapper's arguments."""
    one = isinstance(wrapper, dict) and len(wrapper) == 1
    name, arguments = next(iter(wrapper.items())) if one else (wrapper, None)
    if not isinstance(name, str):
        raise ValueError(f"{where} must be a dotted name or a mapping from one, not {_shown.repr(wrapper)}.")
    if name not in _KNOWN:
        raise _unsafe(where, name, "it would be imported, and is not one of the names that sb3-mdpo knows")
    _check_arguments(arguments, where)


def _check_arguments(arguments: Any, where: str) -> None:
    """Some environments make the one that an argument names, and Gymnasium imports ``package`` for ``package:id``."""
    if not isinstance(arguments, dict | None) or not all(isinstance(key, str) for key in arguments or ()):
        raise ValueError(f"{where} must be a mapping from names to values, not {_shown.repr(arguments)}.")
    for leaf in _leaves(arguments):
        if isinstance(leaf, str) and ":" in leaf:
            raise _unsafe(where, leaf, "text with a colon may name a package to import")


def _leaves(value: Any) -> Iterator[Any]:
    """Everything in a document that is not a list or a mapping, keys included."""
    if isinstance(value, dict):
        yield from value
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _leaves(item)
    else:
        yield value


def _unsafe(where: str, value: Any, reason: str) -> ValueError:
    return ValueError(
        f"{where}: {_shown.repr(value)} could run code ({reason}): use --trust if you trust who shared it."
    )
