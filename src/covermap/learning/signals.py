"""Asking a training to stop at the next step instead of tearing it apart."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Turns Ctrl-C and SIGTERM into a request; a second Ctrl-C interrupts at once.

    Attributes:
        requested: whether a signal has come.
    """

    def __init__(self) -> None:
        """Begin without a request and without catching signals."""
        self.requested = False
        self._before: dict[signal.Signals, Any] = {}

    def install(self) -> None:
        """Catch signals from now on; does nothing outside the main thread."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in _SIGNALS}
            for number in _SIGNALS:
                signal.signal(number, self._catch)

    def restore(self) -> None:
        """Give the signals back to who had them before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _catch(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
