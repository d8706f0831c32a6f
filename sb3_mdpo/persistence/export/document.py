"""The file ``config.json``: strict JSON that knows its own digest."""

import json
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

CONFIG, TENSORS = "config.json", "model.safetensors"
LARGEST_CONFIG = 2**24  # bytes; bounds of large boxes are what takes room


def to_bytes(content: dict[str, Any]) -> bytes:
    """
    :param content: what the file shall hold
    :return: the file, with a digest of the content
    """
    return "".join(_pieces(content)).encode()


def from_bytes(data: bytes) -> dict[str, Any]:
    """
    :param data: what :func:`to_bytes` gave
    :return: the content
    :raises ValueError: where the file was changed, in whatever way
    """
    try:
        found = json.loads(data.decode("utf-8"), parse_constant=_refuse, object_pairs_hook=_without_twins)
        content = {key: value for key, value in found.items() if key != "sha256"}
        # Not the digest alone: 1E-5 and 1e-5 are one number, but only one of them is what was written
        if _is_written_as(content, data):
            return content
    except UnicodeDecodeError:
        raise ValueError(f"{CONFIG} is not UTF-8") from None
    except RecursionError:
        raise ValueError(f"{CONFIG} is nested too deeply") from None
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{CONFIG} is not JSON as an export has it ({error})") from None
    raise ValueError(f"{CONFIG} is damaged or was changed: its digest is of other content")


def _pieces(content: dict[str, Any]) -> Iterator[str]:
    yield from json.JSONEncoder(indent=1, allow_nan=False).iterencode({**content, "sha256": _digest(content)})
    yield "\n"


def _is_written_as(content: dict[str, Any], data: bytes) -> bool:
    """Piece by piece: deeply nested lists would be many times as long as the file that they come from."""
    position = 0
    for piece in map(str.encode, _pieces(content)):
        if not data.startswith(piece, position):
            return False
        position += len(piece)
    return position == len(data)


def _digest(content: dict[str, Any]) -> str:
    return sha256(json.dumps(content, separators=(",", ":"), allow_nan=False).encode()).hexdigest()


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found
