"""Checks of what a YAML file holds; each error names the key, what was given and what is allowed."""

import re
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

PLAIN_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*", re.ASCII)


def mapping(value: Any, where: str, allowed: Collection[str]) -> dict[str, Any]:
    """
    :param value: what the file has
    :param where: what it is, for messages
    :param allowed: keys that it may have
    :return: a copy
    :raises ValueError: where it is no mapping or has another key
    """
    if not isinstance(value, dict):
        raise ValueError(f"{where} is a mapping with the keys {', '.join(allowed)}, not {value!r}.")
    for key in value:
        if key not in allowed:
            hint = did_you_mean(str(key), allowed)
            raise ValueError(f"{where} has no key {key!r}{hint}; allowed are {', '.join(allowed)}.")
    return dict(value)


def items(given: Mapping[str, Any], key: str) -> list[Any]:
    """
    :param given: mapping of the file
    :param key: a key of it
    :return: the list that it has there
    :raises ValueError: where that is no list, empty, or has something twice
    """
    entries = given.get(key)
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{key} is a list with at least one entry, e.g. {key}: [...], not {entries!r}.")
    no_duplicates(entries, key)
    return entries


def no_duplicates(entries: list[Any], key: str) -> None:
    """
    :param entries: entries of a list
    :param key: its key
    :raises ValueError: where one is there twice
    """
    for index, entry in enumerate(entries):
        if entry in entries[:index]:
            raise ValueError(f"{key}: {entry!r} is there twice.")


def whole(value: Any, key: str, least: int = 1, most: int | None = None) -> int:
    """
    :param value: what the file has
    :param key: its key
    :param least: the smallest number allowed
    :param most: the largest number allowed, if any
    :return: the number
    :raises ValueError: where it is no whole number, or outside this range
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # !!float 1e6
    if not isinstance(value, int) or isinstance(value, bool) or value < least or (most is not None and value > most):
        hint = " (without quotes; YAML reads 1e6 as text, 1_000_000 as a number)" if isinstance(value, str) else ""
        allowed = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{key}: {value!r} is no whole number {allowed}{hint}.")
    return value


def share(value: Any, key: str, zero: bool) -> float:
    """
    :param value: what the file has
    :param key: its key
    :param zero: whether it may be 0
    :return: the number
    :raises ValueError: where it is neither a fraction nor a whole number
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not (0 < value <= 1 or (value > 1 and float(value).is_integer()) or (zero and value == 0)):
        raise ValueError(f"{key}: {value!r} is neither a fraction like 0.25 nor a whole number{' from 0' * zero}.")
    return float(value)


def text(value: Any, key: str) -> str:
    """
    :param value: what the file has
    :param key: its key
    :return: the text
    :raises ValueError: where it is no text, or empty
    """
    if not isinstance(value, str) or not value:
        raise ValueError(f"{key}: {value!r} is no text.")
    return value


def plain_name(value: Any, key: str) -> str:
    """
    :param value: what the file has
    :param key: its key
    :return: the name, which can be part of a folder's
    :raises ValueError: where it has other characters than letters, digits and ``. _ + -``
    """
    if not PLAIN_NAME.fullmatch(text(value, key)):
        raise ValueError(f"{key}: {value!r} becomes part of a folder's name: use letters, digits and . _ + -.")
    return str(value)


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """
    :param given: a name that does not exist
    :param allowed: those that do
    :return: the closest one as an addition to a message, empty where none is close
    """
    matches = get_close_matches(given, list(allowed), n=1)
    return f" (did you mean {matches[0]}?)" if matches else ""
