"""Observation and action spaces as JSON and back."""

from math import prod
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

# Of all parts of a space together: four images of 2048x2048 pixels. A space has arrays of this size
MOST_ELEMENTS = 2**24
_DTYPES = {
    np.dtype(name) for name in ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
} | {np.dtype(name) for name in ("float16", "float32", "float64")}
_FIELDS = {
    "Box": {"low", "high", "shape", "dtype"},
    "Discrete": {"n", "start"},
    "MultiDiscrete": {"nvec", "start", "dtype"},
    "MultiBinary": {"shape"},
    "Dict": {"keys", "spaces"},
}


def encode_space(space: spaces.Space[Any], where: str) -> dict[str, Any]:
    """
    :param space: a space
    :param where: what it is of, for messages
    :return: the same as plain JSON
    :raises ValueError: where an export cannot hold it
    """
    fields: dict[str, Any]
    if type(space) is spaces.Box and space.dtype in _DTYPES:
        fields = {"low": _array(space.low), "high": _array(space.high)}
        fields |= {"shape": list(space.shape), "dtype": space.dtype.name}
    elif type(space) is spaces.Discrete:
        fields = {"n": int(space.n), "start": int(space.start)}
    elif type(space) is spaces.MultiDiscrete:
        fields = {"nvec": space.nvec.tolist(), "start": space.start.tolist(), "dtype": np.dtype(space.dtype).name}
    elif type(space) is spaces.MultiBinary:
        fields = {"shape": list(space.shape)}
    elif type(space) is spaces.Dict:
        parts = [encode_space(part, f"{where}[{key!r}]") for key, part in space.spaces.items()]
        fields = {"keys": list(space.spaces), "spaces": parts}
    else:
        raise ValueError(
            f"{where} is {space}, which an export cannot hold: use Box, Discrete, MultiDiscrete, MultiBinary or a "
            "Dict of these."
        )
    encoded = {"type": type(space).__name__, **fields}
    if not isinstance(space, spaces.Dict) and decode_space(encoded) != space:  # its parts were asked
        raise ValueError(f"{where} is {space}, whose limits or types are none that an export can hold.")
    return encoded


def _array(values: NDArray[Any]) -> Any:
    flat = [str(value) if value in (np.inf, -np.inf) else value for value in values.ravel().tolist()]
    return flat[0] if flat and all(value == flat[0] for value in flat) else flat


def decode_space(value: Any, nested: bool = False) -> spaces.Space[Any]:
    """
    :param value: what :func:`encode_space` gave, out of a file
    :param nested: whether it is a part of a dictionary, in which no other dictionary is
    :return: the space
    :raises ValueError: where it is something else, or too large
    """
    kind = _kind(value)
    if kind == "Box":
        dtype, shape = _dtype(value["dtype"]), _shape(value["shape"])
        low, high = (_bound(value[side], shape, dtype) for side in ("low", "high"))
        if not np.all(low <= high):  # NaN neither
            raise ValueError("a box in it has a low above its high")
        return spaces.Box(low, high, shape, dtype.type)
    if kind == "Discrete":
        return spaces.Discrete(_size(value["n"]), start=_integer(value["start"]))
    if kind == "MultiDiscrete":
        nvec, start = _integers(value["nvec"]), _integers(value["start"])
        if nvec.shape != start.shape or not nvec.size or nvec.min() < 1 or sum(nvec.ravel().tolist()) > MOST_ELEMENTS:
            raise ValueError(f"MultiDiscrete in it has {value['nvec']} actions")
        return spaces.MultiDiscrete(nvec, dtype=_dtype(value["dtype"]).type, start=start)
    if kind == "MultiBinary":
        shape = _shape(value["shape"])
        return spaces.MultiBinary(shape[0] if len(shape) == 1 else list(shape))
    keys, parts = value["keys"], value["spaces"]
    if nested or not isinstance(keys, list) or not isinstance(parts, list) or len(keys) != len(parts) or not keys:
        raise ValueError("it has a dictionary of spaces that exports do not have")
    if not all(isinstance(key, str) for key in keys) or len(set(keys)) != len(keys):
        raise ValueError(f"a dictionary of spaces in it has the keys {keys}")
    if sum(map(_n_elements, parts)) > MOST_ELEMENTS:
        raise ValueError(f"a space in it has more than {MOST_ELEMENTS} elements")
    space = spaces.Dict({})
    space.spaces = dict(zip(keys, (decode_space(part, nested=True) for part in parts), strict=True))  # in this order
    return space


def _kind(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else None
    if not isinstance(kind, str) or set(value) != _FIELDS.get(kind, set()) | {"type"}:
        raise ValueError("it has a space that exports do not have")
    return kind


def _n_elements(value: Any) -> int:
    """What a part of a dictionary would have, before it is made."""
    kind = _kind(value)
    if kind == "Discrete":
        return _size(value["n"])
    if kind == "MultiDiscrete":  # no larger than the file
        return _integers(value["nvec"]).size
    return prod(_shape(value["shape"])) if kind in ("Box", "MultiBinary") else 0


def _integer(value: Any) -> int:
    if type(value) is not int or not -(2**31) <= value < 2**31:
        raise ValueError(f"{value!r} in a space is no integer of 32 bits")
    return value


def _size(value: Any) -> int:
    if not 1 <= _integer(value) <= MOST_ELEMENTS:
        raise ValueError(f"{value} elements in a space are not between 1 and {MOST_ELEMENTS}")
    return int(value)


def _shape(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > 8 or prod(shape := tuple(map(_size, value))) > MOST_ELEMENTS:
        raise ValueError(f"{value!r} is no shape of a space")
    return shape


def _dtype(value: Any) -> np.dtype[Any]:
    for dtype in _DTYPES:
        if dtype.name == value:
            return dtype
    raise ValueError(f"{value!r} is no data type of a space")


def _integers(value: Any) -> NDArray[np.int64]:
    """MultiDiscrete's numbers may have any shape."""
    if not isinstance(value, list):
        raise ValueError(f"{value!r} are no numbers of actions")
    rows = [_integers(item) if isinstance(item, list) else np.int64(_integer(item)) for item in value]
    if len({np.shape(row) for row in rows}) > 1:
        raise ValueError(f"{value!r} are no numbers of actions")
    return np.array(rows, dtype=np.int64)


def _bound(value: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    numbers = value if isinstance(value, list) else [value]
    infinities = {"inf": np.inf, "-inf": -np.inf} if dtype.kind == "f" else {}
    # float32's largest is a float64 as well; an integer that is none of its type would become another one
    limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(np.int8 if dtype.kind == "b" else dtype)
    exact = (int, float) if dtype.kind == "f" else (int, bool)
    plain = []
    for number in numbers:
        number = infinities.get(number, number) if isinstance(number, str) else number
        finite = number in infinities.values() or (type(number) in exact and limits.min <= number <= limits.max)
        if isinstance(number, str) or not finite:
            raise ValueError(f"{number!r} is no bound of a box of {dtype.name}")
        plain.append(number)
    if isinstance(value, list) and len(plain) != prod(shape):
        raise ValueError(f"{len(plain)} bounds are not those of a box of shape {list(shape)}")
    return np.array(plain, dtype).reshape(shape) if isinstance(value, list) else np.full(shape, plain[0], dtype)
