"""Waking the main thread, from other threads and from signals."""

import contextlib
import os
import select
import signal
from types import FrameType


class Wakeup:
    """An event over a pipe: ``threading.Event.set`` in a signal handler can deadlock with the thread it interrupts."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def set(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full: it is awake already
            os.write(self._write, b"\0")

    def wait(self, timeout_s: float) -> None:
        """Until ``set``, a signal, or the timeout."""
        select.select([self._read], [], [], max(0.0, timeout_s))
        with contextlib.suppress(BlockingIOError):
            while os.read(self._read, 4096):
                pass


class StopSignals:
    """SIGTERM and SIGINT, remembered; each wakes ``wakeup``. Only in the main thread."""

    def __init__(self, wakeup: Wakeup) -> None:
        self.received = ""
        self._wakeup = wakeup
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._remember)

    def _remember(self, number: int, _: FrameType | None) -> None:
        self.received = signal.Signals(number).name
        self._wakeup.set()
