"""Settings of somebody else: whatever the zoo would evaluate or import is checked before it gets to see them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from reprlib import Repr
from typing import Any

from sb3_mdpo.hub import layout
from sb3_mdpo.hub.allowed import ENV_PACKAGES, EVALUATED, IMPORTED
from sb3_mdpo.hub.expressions import checked_expression, is_dictionary

ENV_ID = re.compile(r"(?:(?P<package>[A-Za-z0-9_.]+):)?[A-Za-z0-9][A-Za-z0-9._/-]*")
Settings = dict[str, Any]

_shown = Repr()
_shown.maxstring = _shown.maxother = 100


def checked_env_id(env_id: Any, trust: bool = False) -> str:
    """
    :param env_id: what ``args.yml`` says the environment is
    :param trust: whether Gymnasium may import any package for it
    :return: the same, a text
    :raises ValueError: where it is no id, or Gymnasium would import a package for it that is not known
    """
    match = ENV_ID.fullmatch(env_id) if isinstance(env_id, str) else None
    if match is None:
        raise ValueError(f"{layout.ARGS}: {_shown.repr(env_id)} is no id of an environment: the run is not sound.")
    with _refused(f"{layout.ARGS}: env", env_id):
        if not trust and match["package"] not in (None, *ENV_PACKAGES):
            raise ValueError(f"Gymnasium would import {match['package']}")
    return str(env_id)


def folder_name(env_id: str) -> str:
    """
    :param env_id: id of an environment, ``package:ALE/Pong-v5`` for one
    :return: what the zoo calls its folders, ``ALE-Pong-v5``
    """
    return env_id.split(":")[-1].replace("/", "-")


def check_args(args: Settings) -> Settings:
    """
    :param args: content of ``args.yml``, the arguments of ``rl_zoo3 train``
    :return: the same, with expressions written anew
    :raises ValueError: where something in them could run code
    """
    with _refused(f"{layout.ARGS}: gym_packages", args["gym_packages"]):
        if args["gym_packages"]:
            raise ValueError("these packages would be imported")
    hyperparams = args.get("hyperparams")
    if not isinstance(hyperparams, dict | None):
        raise ValueError(f"{layout.ARGS}: hyperparams must be a mapping, not {_shown.repr(hyperparams)}.")
    for key in ("env_kwargs", "eval_env_kwargs"):
        _check_arguments(args.get(key), f"{layout.ARGS}: {key}")
    return args | {"hyperparams": hyperparams and check_hyperparams(hyperparams, f"{layout.ARGS}: hyperparams")}


def check_hyperparams(hyperparams: Settings, where: str = layout.CONFIG) -> Settings:
    """
    :param hyperparams: content of ``config.yml``, or what of it came from the command line
    :param where: where they are from, for messages
    :return: the same, with expressions written anew
    :raises ValueError: where something in them could run code
    """
    _check_arguments(hyperparams.get("env_kwargs"), f"{where}: env_kwargs")
    for key in IMPORTED.keys() & hyperparams.keys():
        _check_imports(hyperparams[key], key, f"{where}: {key}")
    evaluated = {key: _evaluated(hyperparams[key], f"{where}: {key}") for key in EVALUATED if key in hyperparams}
    normalize = evaluated.get("normalize", False)
    if not (is_dictionary(normalize) if isinstance(normalize, str) else isinstance(normalize, bool | dict)):
        raise ValueError(f"{where}: normalize must be true, false or a mapping, not {_shown.repr(normalize)}.")
    return hyperparams | evaluated


def _evaluated(value: Any, where: str) -> Any:
    if not isinstance(value, str):
        return value
    with _refused(where, value):
        return checked_expression(value)


def _check_imports(value: Any, key: str, where: str) -> None:
    """A dotted name, a mapping from one to its arguments, or a list of such things."""
    for entry in value if isinstance(value, list) else [value]:
        if entry is None:
            continue
        name, arguments = entry, None
        if isinstance(entry, dict) and len(entry) == 1:
            ((name, arguments),) = entry.items()
        if not isinstance(name, str):
            raise ValueError(f"{where} must be a dotted name or a mapping from one, not {_shown.repr(entry)}.")
        known = name in IMPORTED[key] or (key == "policy" and name.isidentifier())  # MlpPolicy is not imported
        with _refused(where, name):
            if not known:
                raise ValueError("it would be imported, and is not one of the names that sb3-mdpo knows")
        _check_arguments(arguments, where)


def _check_arguments(arguments: Any, where: str) -> None:
    """
    Arguments of an environment, a wrapper or a callback. They get data, but Gymnasium imports ``package`` for an
    environment ``package:id``, and there are environments that make the one that their arguments name.
    """
    if not isinstance(arguments, dict | None):
        raise ValueError(f"{where} must be a mapping, not {_shown.repr(arguments)}.")
    for text in _texts(arguments):
        with _refused(where, text):
            if ":" in text:
                raise ValueError("text with a colon may name a package to import")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in [*value, *value.values()] if isinstance(value, dict) else value:
            yield from _texts(part)


@contextmanager
def _refused(where: str, value: Any) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(
            f"{where}: {_shown.repr(value)} could run code ({error}): use --trust if you trust who shared it."
        ) from error
