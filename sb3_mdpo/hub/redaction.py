"""What is published of settings: plain data, without folders and logins of the author's machine."""

import re
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

# Absolute paths inside a text, up to their last part; a path in an SQLite address has a fourth slash
_FOLDERS = re.compile(
    r"(?:(?<![\w./~-])(?:/(?!/)|[A-Za-z]:[\\/])|(?<=sqlite:///)/)"  # where one starts
    r"(?:[^\s\\/'\",:;()=]+[\\/])+"  # its folders
)
_LOGIN = re.compile(r"(?<=://)[^\s/@]+@")


def without_places(text: str) -> str:
    """A command line or a setting with absolute paths cut down to their last part, and addresses without logins."""
    for path in (PurePosixPath(text), PureWindowsPath(text)):
        if path.is_absolute():
            return path.name
    return _LOGIN.sub("", _FOLDERS.sub("", text))


def plain(value: Any) -> Any:
    """
    Settings, in which the zoo writes any Python object, as dicts, lists, texts, numbers, booleans and None. Classes and
    functions become their dotted name, other objects their ``str``; texts pass through :func:`without_places`.
    """
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool):
        return value
    for kind in (int, float):  # subclasses as well
        if isinstance(value, kind):
            return kind(value)
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return without_places(str(value))


def plain_command(command: str) -> str:
    """The command to type, from the zoo's ``command.txt``, which starts with the paths of Python and of the script."""
    words = [without_places(word) for word in command.strip().split(" ")]
    return re.sub(r"^python\S* (?=rl_zoo3 )", "", " ".join(words))
