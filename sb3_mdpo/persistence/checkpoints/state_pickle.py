"""Pickles of objects' attributes, which are restored into other objects that a program has created in the same way.

Environments, wrappers and callbacks are not pickled whole: only their attributes are saved and restored. References
from one of them to another are saved as the other's name.
"""

import io
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from sb3_mdpo.utils.terminal import one_line

# The random generator of Gymnasium's environments, which get_state() may not include
GENERATOR = "_np_random"
# Raised by pickle and by classes' methods for it
FAILURES = (pickle.PicklingError, TypeError, ValueError, AttributeError, RuntimeError, NotImplementedError)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    def __init__(self, file: io.BytesIO, names: Mapping[int, str]) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self._names = names

    def persistent_id(self, obj: Any) -> str | None:
        return self._names.get(id(obj))

    def reducer_override(self, obj: Any) -> Any:
        base = obj.base if type(obj) is np.ndarray and not obj.dtype.hasobject else None
        if type(base) is np.ndarray and base.flags.c_contiguous and not base.dtype.hasobject:
            offset = obj.__array_interface__["data"][0] - base.__array_interface__["data"][0]
            # So that both still share memory
            return _view, (base, obj.dtype, obj.shape, offset, obj.strides, obj.flags.writeable)
        if type(obj) is np.ndarray and not obj.flags.c_contiguous and not obj.dtype.hasobject:
            # Pickle would change the memory layout, on which the last bit of a convolution depends
            axes = sorted(range(obj.ndim), key=lambda axis: -obj.strides[axis])
            return _in_axes, (np.ascontiguousarray(obj.transpose(axes)), axes)
        if isinstance(obj, gym.utils.EzPickle):
            raise pickle.PicklingError(f"{type(obj).__name__} is an EzPickle, whose pickle lacks its current state")
        return super().reducer_override(obj)


def _view(base: NDArray[Any], dtype: np.dtype[Any], shape: Any, offset: int, strides: Any, writeable: bool) -> Any:
    array: NDArray[Any] = np.ndarray(shape, dtype, base, offset, strides)
    array.flags.writeable = writeable
    return array


def _in_axes(array: NDArray[Any], axes: list[int]) -> NDArray[Any]:
    return array.transpose(np.argsort(axes))


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, objects: Mapping[str, Any]) -> None:
        super().__init__(file)
        self._objects = objects

    def persistent_load(self, pid: str) -> Any:
        return self._objects[pid]


def dumps(state: Any, objects: Mapping[str, Any]) -> bytes:
    """Pickle a state; the objects are saved as references by their names."""
    file = io.BytesIO()
    _Pickler(file, {id(obj): name for name, obj in objects.items()}).dump(state)
    return file.getvalue()


def loads(pickled: bytes, objects: Mapping[str, Any]) -> Any:
    """Unpickle, which can execute code; the objects replace references by their names."""
    return _Unpickler(io.BytesIO(pickled), objects).load()


def has_state_methods(obj: Any) -> bool:
    """Whether the class has ``get_state()`` and ``set_state(state)``; wrappers only forward those of what they wrap."""
    return all(callable(getattr(type(obj), name, None)) for name in ("get_state", "set_state"))


def state_of(obj: Any, leave_out: frozenset[str] = frozenset()) -> Any:
    """Its ``get_state()``, or else its attributes by name."""
    if has_state_methods(obj):
        return {"own": obj.get_state(), GENERATOR: vars(obj).get(GENERATOR)}
    # Windows and surfaces of pygame are created anew when they are needed
    return {
        name: value
        for name, value in vars(obj).items()
        if name not in leave_out and type(value).__module__.partition(".")[0] != "pygame"
    }


def restore(obj: Any, state: Any) -> None:
    """Restore a state that :func:`state_of` returned."""
    if not has_state_methods(obj):
        vars(obj).update(state)
        return
    obj.set_state(state["own"])
    if state[GENERATOR] is not None:
        setattr(obj, GENERATOR, state[GENERATOR])


def problems_of(obj: Any, objects: Mapping[str, Any], leave_out: frozenset[str] = frozenset()) -> dict[str, str]:
    """Attributes that cannot be pickled, and why."""
    owner = type(obj).__name__
    if reason := _failure(state_of, obj, leave_out):
        return {"get_state": f"{owner} cannot be copied: {reason}"}
    return {
        name: f"{owner}.{name} ({type(value).__name__}) cannot be copied: {reason}"
        for name, value in state_of(obj, leave_out).items()
        if (reason := _failure(dumps, value, objects))
    }


def _failure(function: Callable[..., Any], *args: Any) -> str:
    try:
        function(*args)
    except FAILURES as error:
        return one_line(error)
    return ""
