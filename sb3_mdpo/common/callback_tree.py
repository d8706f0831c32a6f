"""Nested callbacks, and their notification if an error ends the training."""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from stable_baselines3.common.callbacks import BaseCallback, CallbackList, EventCallback


@runtime_checkable
class TrainingErrorListener(Protocol):
    """A callback that is notified of the error or interrupt that ends a training."""

    def on_training_error(self, error: BaseException) -> None:
        """
        Called once, before the error leaves ``learn()``, instead of ``on_training_end()``.

        :param error: the error
        """


def walk_callbacks(callback: BaseCallback) -> Iterator[BaseCallback]:
    """The callback and all callbacks inside it, each once, in the order of their calls."""
    seen: set[int] = set()
    waiting: list[BaseCallback | None] = [callback]
    while waiting:
        one = waiting.pop(0)
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting[:0] = _children(one)


def _children(callback: BaseCallback) -> list[BaseCallback | None]:
    if isinstance(callback, CallbackList):
        return [*callback.callbacks]
    if isinstance(callback, EventCallback):  # EvalCallback has two
        return [getattr(callback, "callback_on_new_best", None), callback.callback]
    return []


def tell_of_error(callback: BaseCallback, error: BaseException) -> None:
    """Call ``on_training_error(error)`` of all callbacks inside this one that define it."""
    for one in walk_callbacks(callback):
        if isinstance(one, TrainingErrorListener):
            one.on_training_error(error)
