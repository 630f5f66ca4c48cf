"""Signals: SIGTERM and SIGINT end a run after the step it is at, not within it.

Law: a run that was told to stop has saved the step it stopped at.
"""

import signal
import threading
from typing import Any


class Stopped(Exception):  # noqa: N818 - what happened is no error
    """The run was told to stop, and has saved where it was.

    Attributes:
      signal: that told it; a process ends with `128 + signal`.
    """

    def __init__(self, message: str, signal: signal.Signals):
        super().__init__(message)
        self.signal = signal


class Signals:
    """While entered, notes the first SIGTERM or SIGINT in `received`; a second one acts as it did before.

    Only the main thread can listen; in any other this does nothing.
    """

    def __init__(self):
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _note(self, number: int, _: object) -> None:
        self.received = signal.Signals(number)
        self.__exit__()
