"""Copies of objects' attributes while the objects themselves stay in use.

Environments, wrappers and callbacks are not copied whole: they remain what the program has made of them, and only their
attributes come and go. Where one of them refers to another, the copy holds the other's name instead.
"""

import io
import pickle
from collections.abc import Mapping
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from sb3_mdpo.utils.terminal import one_line

# Where Gymnasium's environments keep their random generator, which their own methods may leave out
GENERATOR = "_np_random"
# What pickle, and the methods by which classes take part in it, raise
FAILURES = (pickle.PicklingError, TypeError, ValueError, AttributeError, RuntimeError, NotImplementedError)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    def __init__(self, file: io.BytesIO, names: Mapping[int, str]) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self._names = names

    def persistent_id(self, obj: Any) -> str | None:
        return self._names.get(id(obj))

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is np.ndarray and type(obj.base) is np.ndarray and _can_be_seen(obj, obj.base):
            return _view, (obj.base, *_place(obj, obj.base))  # else what is written to one no longer shows in the other
        if type(obj) is np.ndarray and not obj.flags.c_contiguous and not obj.dtype.hasobject:
            # Pickle would lay it out anew, and the layout of images decides about the last bit of a convolution
            axes = sorted(range(obj.ndim), key=lambda axis: -obj.strides[axis])
            return _in_axes, (np.ascontiguousarray(obj.transpose(axes)), axes)
        if isinstance(obj, gym.utils.EzPickle):
            raise pickle.PicklingError(f"{type(obj).__name__} is pickled as it was made, not as it is")
        return super().reducer_override(obj)


def _can_be_seen(view: NDArray[Any], base: NDArray[Any]) -> bool:
    return base.flags.c_contiguous and not view.dtype.hasobject and not base.dtype.hasobject


def _place(view: NDArray[Any], base: NDArray[Any]) -> tuple[Any, ...]:
    offset = view.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    return view.dtype, view.shape, offset, view.strides, view.flags.writeable


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
    """
    :param state: what to copy
    :param objects: objects that are not copied but referred to by their names
    :return: the copy
    """
    file = io.BytesIO()
    _Pickler(file, {id(obj): name for name, obj in objects.items()}).dump(state)
    return file.getvalue()


def loads(copy: bytes, objects: Mapping[str, Any]) -> Any:
    """
    This can execute what is in the copy.

    :param copy: from :func:`dumps`
    :param objects: what the names mean now
    :return: what was copied
    """
    return _Unpickler(io.BytesIO(copy), objects).load()


def state_of(obj: Any, leave_out: frozenset[str] = frozenset()) -> Any:
    """
    :param obj: an object in use
    :param leave_out: attributes that are not wanted
    :return: what it says its state is, where it has such methods, and else its attributes, by name
    """
    if has_own_methods(obj):
        return {"own": obj.get_state(), GENERATOR: vars(obj).get(GENERATOR)}
    return {name: value for name, value in vars(obj).items() if name not in leave_out and not _is_drawing(value)}


def put_back(obj: Any, state: Any) -> None:
    """
    :param obj: object in use
    :param state: what :func:`state_of` gave
    """
    if not has_own_methods(obj):
        vars(obj).update(state)
        return
    obj.set_state(state["own"])
    if state[GENERATOR] is not None:
        setattr(obj, GENERATOR, state[GENERATOR])


def has_own_methods(obj: Any) -> bool:
    """
    :param obj: any object
    :return: whether its class has ``get_state()`` and ``set_state(state)``, which copy and restore it; wrappers merely
        pass on those of what is inside
    """
    return all(callable(getattr(type(obj), name, None)) for name in ("get_state", "set_state"))


def _is_drawing(value: Any) -> bool:
    """Whether it belongs to a window or picture, which is made anew when somebody looks."""
    return type(value).__module__.partition(".")[0] == "pygame"


def problems_of(obj: Any, objects: Mapping[str, Any], leave_out: frozenset[str] = frozenset()) -> dict[str, str]:
    """
    :param obj: an object in use
    :param objects: objects that are referred to by their names
    :param leave_out: attributes that are not wanted
    :return: of each attribute that cannot be copied, why
    """
    try:
        state = state_of(obj, leave_out)
    except FAILURES as error:
        return {"get_state": _problem(type(obj).__name__, error)}
    what = f"{type(obj).__name__}.{{}} ({{}})".format
    reasons = {name: _why_not(what(name, type(value).__name__), value, objects) for name, value in state.items()}
    return {name: reason for name, reason in reasons.items() if reason}


def _why_not(what: str, value: Any, objects: Mapping[str, Any]) -> str:
    try:
        dumps(value, objects)
    except FAILURES as error:
        return _problem(what, error)
    return ""


def _problem(what: str, error: Exception) -> str:
    return f"{what} cannot be copied: {one_line(error)}"
