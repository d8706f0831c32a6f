"""The callbacks of a training, which SB3 puts into each other, and what they hear when it ends with an error."""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from stable_baselines3.common.callbacks import BaseCallback, CallbackList, EventCallback


@runtime_checkable
class TrainingErrorListener(Protocol):
    """A callback that is told of the error that ends a training, interrupts included."""

    def on_training_error(self, error: BaseException) -> None:
        """
        Called once, before the error leaves ``learn()``; neither ``on_training_end()`` nor anything else follows.

        :param error: what ends the training
        """


def walk_callbacks(callback: BaseCallback) -> Iterator[BaseCallback]:
    """
    :param callback: the callback of a training
    :return: it and all that it calls, in the order in which they are called, each once
    """
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
    if isinstance(callback, EventCallback):  # those that evaluate have two
        return [getattr(callback, "callback_on_new_best", None), callback.callback]
    return []


def tell_of_error(callback: BaseCallback, error: BaseException) -> None:
    """
    :param callback: the callback of a training; those in it that define ``on_training_error(error)`` are told
    :param error: what ends the training
    """
    for one in walk_callbacks(callback):
        if isinstance(one, TrainingErrorListener):
            one.on_training_error(error)
