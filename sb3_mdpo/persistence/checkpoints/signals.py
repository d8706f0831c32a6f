"""Signals that end a training after a last checkpoint."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

ENDING = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """
    While installed, the first SIGTERM or SIGINT calls a function and then ends the program as usual: ``SystemExit``
    with 128 plus the signal's number, or ``KeyboardInterrupt``. A second one goes to the previous handler, which by
    default ends the program at once.
    """

    def __init__(self, on_signal: Callable[[signal.Signals], None]) -> None:
        self._on_signal = on_signal
        self._before: dict[signal.Signals, Any] = {}
        self._held = False
        self._pending: signal.Signals | None = None

    def install(self) -> None:
        """Handle the signals that are not ignored. Outside of the main thread, Python allows no handlers."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in ENDING:
            before = signal.getsignal(number)
            if before not in (signal.SIG_IGN, None):  # None: not installed from Python
                self._before[number] = before
                signal.signal(number, self._handle)

    def uninstall(self) -> None:
        """Restore the previous handlers."""
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before = {}

    @contextmanager
    def held(self) -> Iterator[None]:
        """Context that delays signals to its end."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
            if self._pending is not None:
                self._end(self._pending)

    def _handle(self, number: int, _: Any) -> None:
        if self._held and self._pending is None:
            self._pending = signal.Signals(number)
        elif self._held:
            self.uninstall()
            signal.raise_signal(number)
        else:
            self._end(signal.Signals(number))

    def _end(self, number: signal.Signals) -> None:
        self._pending = None
        self.uninstall()
        self._on_signal(number)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)
