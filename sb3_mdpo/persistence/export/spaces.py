"""Observation and action spaces as JSON and back."""

from collections import OrderedDict
from math import isfinite
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from sb3_mdpo.persistence.export.format import MOST_PARTS, MOST_SPACE_ELEMENTS

_DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
)


def encode_space(space: spaces.Space[Any], where: str) -> dict[str, Any]:
    """A space as plain JSON; ``where`` is its name, for messages. A ``ValueError`` if an export cannot hold it."""
    fields: dict[str, Any]
    if type(space) is spaces.Dict:
        fields = {"spaces": {key: encode_space(part, f"{where}[{key!r}]") for key, part in space.spaces.items()}}
    elif type(space) is spaces.Box:
        fields = {"low": _bounds(space.low), "high": _bounds(space.high)}
        fields |= {"shape": list(space.shape), "dtype": str(space.dtype)}
    elif type(space) is spaces.Discrete:
        fields = {"n": int(space.n), "start": int(space.start)}
    elif type(space) is spaces.MultiDiscrete:
        fields = {"nvec": space.nvec.tolist(), "start": space.start.tolist(), "dtype": str(space.dtype)}
    elif type(space) is spaces.MultiBinary:
        fields = {"n": np.array(space.n).tolist()}  # a number or a list
    else:
        raise ValueError(
            f"{where} is {space}, which an export cannot hold: use Box, Discrete, MultiDiscrete, MultiBinary or a "
            "Dict of these."
        )
    encoded = {"type": type(space).__name__, **fields}
    if decode_space(encoded) != space:
        raise ValueError(f"{where} is {space}, whose bounds or types an export cannot hold.")
    return encoded


def _bounds(values: NDArray[Any]) -> Any:
    flat = [value if isfinite(value) else str(value) for value in values.ravel().tolist()]
    return flat[0] if flat and all(value == flat[0] for value in flat) else flat


def decode_space(value: Any) -> spaces.Space[Any]:
    """The space in JSON that :func:`encode_space` returned; a ``ValueError`` if it is not one, or too large."""
    try:
        if value["type"] != "Dict":
            return _decode(value, MOST_SPACE_ELEMENTS)
        parts: OrderedDict[str, spaces.Space[Any]] = OrderedDict()  # of which Gymnasium keeps the order
        left = MOST_SPACE_ELEMENTS
        _check_number(len(value["spaces"]), 1)
        for key, part in value["spaces"].items():
            parts[key] = _decode(part, left)
            left -= _size(parts[key])
        return spaces.Dict(parts)
    except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError) as error:
        raise ValueError(f"it describes a space that exports do not have ({error})") from error


def check_parts(observation_space: spaces.Space[Any], n_policies: int) -> None:
    """A ``ValueError`` if the policies would have too many layers for the parts of observations."""
    _check_number(len(observation_space.spaces) if isinstance(observation_space, spaces.Dict) else 1, n_policies)


def _check_number(parts: int, n_policies: int) -> None:
    if parts * n_policies > MOST_PARTS:
        raise ValueError(
            f"{parts} part(s) of observations times {n_policies} policies are more than the {MOST_PARTS} of an export"
        )


def _decode(value: Any, most: int) -> spaces.Space[Any]:
    kind = value["type"]
    if kind == "Discrete":
        return spaces.Discrete(_limited(value["n"], most), start=value["start"])
    if kind == "MultiDiscrete":
        nvec, start = (np.array(value[name], np.int64) for name in ("nvec", "start"))
        _limited(sum(nvec.ravel().tolist()), most)
        space = spaces.MultiDiscrete(nvec, _dtype(value["dtype"]), start=start)
        if np.any(space.nvec != nvec) or np.any(space.start != start):  # Gymnasium lets them overflow
            raise ValueError(f"the counts or the start of a space in it do not fit its data type {space.dtype}")
        return space
    if kind == "MultiBinary":
        n = value["n"]
        _shape(n if isinstance(n, list) else [n], most)
        return spaces.MultiBinary(n)
    if kind != "Box":
        raise ValueError(f"{kind!r} is not a kind of space that exports have")
    shape = _shape(value["shape"], most)
    dtype = _dtype(value["dtype"])
    low, high = (_array(value[name], shape, dtype) for name in ("low", "high"))
    if not np.all(low <= high):  # NaN is refused, too
        raise ValueError("a box in it has a low above its high")
    return spaces.Box(low, high, shape, dtype.type)


def _size(space: spaces.Space[Any]) -> int:
    choices = {spaces.Discrete: "n", spaces.MultiDiscrete: "nvec"}.get(type(space))
    return int(np.sum(getattr(space, choices)) if choices else np.prod(space.shape or ()))


def _shape(lengths: Any, most: int) -> tuple[int, ...]:
    size = 1
    for length in lengths:
        size = _limited(size * _limited(length, most), most)
    return tuple(lengths)


def _limited(size: Any, most: int) -> int:
    if type(size) is not int or not 1 <= size <= most:
        raise ValueError(f"a space in it has {size!r} elements, not an integer from 1 to {most}")
    return size


def _dtype(name: Any) -> Any:
    if name not in _DTYPES:
        raise ValueError(f"{name!r} is not a data type of spaces in exports")
    return np.dtype(name)


def _array(value: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    array = np.array(value, dtype)
    return array.reshape(shape) if isinstance(value, list) else np.full(shape, array)
