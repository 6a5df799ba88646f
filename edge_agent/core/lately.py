"""The last value of a reading that may be slow or fail: nobody who asks for it waits long."""

import logging
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from edge_agent.core.clock import Clock

T = TypeVar("T")

log = logging.getLogger(__name__)


class Lately(Generic[T]):
    """Reads in a thread of its own, only when asked, one reading at a time. Thread-safe."""

    def __init__(
        self, what: str, read: Callable[[], T], clock: Clock, *, fresh_s: float, wait_s: float, share: int = 10
    ) -> None:
        """``what`` is for the log. A value is used for ``fresh_s``; ``get`` waits ``wait_s`` at most for a newer one.

        Reading takes a ``share``-th of the time at most: what takes long is read so much less often.
        """
        self._what, self._read, self._clock = what, read, clock
        self._fresh_s, self._wait_s, self._share = fresh_s, wait_s, share
        self._changed = threading.Condition()  # guards what follows
        self._value: T | None = None
        self._read_at = float("-inf")  # when the reading of the value began
        self._due_at = float("-inf")
        self._reading = False
        self._errors = 0
        self._problem = ""

    @property
    def errors(self) -> int:
        """Readings since the start that failed, or that somebody has waited for in vain."""
        return self._errors

    @property
    def problem(self) -> str:
        """Why there is no newer value; empty where nothing is wrong."""
        return self._problem

    @property
    def age_s(self) -> float:
        """Of the value; infinite while there is none."""
        return self._clock.monotonic() - self._read_at

    def get(self) -> T | None:
        """The newest value there is in time, however old; None before the first."""
        with self._changed:
            if self._reading or self._clock.monotonic() < self._due_at:
                if self._value is None and self._reading:
                    self._changed.wait_for(lambda: not self._reading, self._wait_s)
                return self._value
            self._reading = True
            threading.Thread(target=self._refresh, name="reading", daemon=True).start()
            if not self._changed.wait_for(lambda: not self._reading, self._wait_s):
                self._errors += 1
                self._problem = f"reading takes more than {self._wait_s:g} s"
            return self._value

    def _refresh(self) -> None:
        started = self._clock.monotonic()
        value, problem = None, ""
        try:
            value = self._read()
        except Exception as error:  # whatever it reads: the last value stands
            problem = f"{type(error).__name__}: {error}"[:200]
            if problem != self._problem:  # once, not at every look
                log.warning("reading failed", extra={"what": self._what}, exc_info=True)
        with self._changed:
            ended = self._clock.monotonic()
            if problem:
                self._errors += 1
            else:
                self._value, self._read_at = value, started
            self._problem = problem
            self._due_at = ended + max(self._fresh_s, self._share * (ended - started))
            self._reading = False
            self._changed.notify_all()
