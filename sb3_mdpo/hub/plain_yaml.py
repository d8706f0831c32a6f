"""YAML files of somebody else, read as plain data or not at all."""

from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import Node

from sb3_mdpo.utils.yaml_files import PlainLoader, read_yaml

LARGEST = 2**20  # bytes
DEEPEST = 32  # lists and mappings inside each other


class StrictLoader(PlainLoader):
    """
    Refuses tags and aliases as well, which ``yaml.safe_dump`` of settings never writes. Tags are how YAML names the
    code to run; a few of them crash PyYAML's own constructors. A few lines of aliases are gigabytes of data.
    """

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise ValueError(f"it has the alias or anchor {event.anchor!r}")
        if event.tag is not None:
            raise ValueError(f"it has the tag {event.tag!r}")
        return super().compose_node(parent, index)


def read_mapping(path: Path) -> dict[str, Any]:
    """
    :param path: YAML file
    :return: its content: a mapping from texts to numbers, texts, booleans, nothing, lists and mappings of them
    :raises ValueError: where it is anything else
    """
    if not path.is_file():
        raise ValueError(f"The repository has no {path.name}: it was not made by sb3-mdpo push.")
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path.name} has more than {LARGEST} bytes: these are no settings.")
    try:
        content = read_yaml(path, StrictLoader)
    except ValueError as error:
        problem = str(error).replace(f"{path}", path.name)  # which is in a temporary folder
        raise ValueError(
            f"{path.name} is no plain YAML, which could run code when it is loaded: nothing was kept ({problem})."
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} must be a mapping, not {type(content).__name__}.")
    for key, value in content.items():
        if not isinstance(key, str):
            raise ValueError(f"{path.name}: the key {key!r} must be a text.")
        _check_plain(value, f"{path.name}: {key}", DEEPEST)
    return content


def _check_plain(value: Any, where: str, depth: int) -> None:
    if depth == 0:
        raise ValueError(f"{where} is too deeply nested.")
    if isinstance(value, list):
        for item in value:
            _check_plain(item, where, depth - 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_plain(key, where, 1)  # no tuples
            _check_plain(item, where, depth - 1)
    elif not (value is None or isinstance(value, bool | int | float | str)):
        raise ValueError(f"{where} holds {value!r}: only numbers, texts, lists and mappings may be there.")
