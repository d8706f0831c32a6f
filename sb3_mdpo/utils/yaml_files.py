"""YAML files written by users: all errors are a ``ValueError`` that names the file."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

# Limits, because aliases and merge keys (<<) can expand a small file without end
MOST_VALUES, DEEPEST = 100_000, 50
# Raised by YAML and its constructors, e.g. ValueError for the 99th of a month
ERRORS = (yaml.YAMLError, ValueError, TypeError, AttributeError, KeyError, OverflowError)


class PlainLoader(yaml.SafeLoader):  # type: ignore[misc] # yaml has no types
    """YAML's safe loader, which also refuses duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys: set[str] = set()
        for key in (key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key in keys:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is there twice", node.start_mark)
            keys.add(key)
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return mapping

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > MOST_VALUES:
            problem = f"a mapping has more than {MOST_VALUES} keys with its merge keys written out"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def read_text(path: Path) -> str:
    """Read a text file. A ``ValueError`` if it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8 ({error}).") from error


def read_yaml(path: Path, loader: type[Any] = PlainLoader) -> Any:
    """The content of a YAML file; ``yaml.UnsafeLoader`` is for files of the zoo, which can execute code."""
    text = read_text(path)
    try:
        document = yaml.load(text, Loader=loader)
    except RecursionError as error:
        raise ValueError(_endless(path)) from error
    except ERRORS as error:
        problem = str(error).replace('in "<unicode string>", ', "in ")
        raise ValueError(f"{path} is not YAML: {problem}") from error
    _check_extent(document, path)
    return document


def read_mapping(path: Path, loader: type[Any] = PlainLoader) -> dict[str, Any]:
    """The content of a YAML file that is a mapping whose keys are text."""
    document = read_yaml(path, loader)
    if not isinstance(document, dict):
        raise ValueError(f"{path} must be a mapping, not {type(document).__name__}.")
    for key in document:
        if not isinstance(key, str):
            raise ValueError(f"{path} has the key {key!r}, which is not text: write the name of a setting.")
    return document


def _endless(path: Path) -> str:
    return f"{path} is nested more than {DEEPEST} levels deep, or contains itself."


def _check_extent(document: Any, path: Path) -> None:
    values = [(document, 0)]
    for _ in range(MOST_VALUES):
        if not values:
            return
        value, depth = values.pop()
        if depth > DEEPEST:
            raise ValueError(_endless(path))
        inside = value.items() if isinstance(value, dict) else value if isinstance(value, list | tuple | set) else ()
        values += [(entry, depth + 1) for entry in inside]
    raise ValueError(f"{path} has more than {MOST_VALUES} values with its aliases written out.")
