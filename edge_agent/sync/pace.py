"""How slow a stream from the hub may be: a hub that keeps a device waiting must not hold it for ever."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol


class Cancellable(Protocol):
    def cancel(self) -> object: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The bounds. A link of 2G makes some 2,000 B/s; the lowest rate only ends what is made to last."""

    silence_s: float = 30.0  # longest time without a byte
    min_bytes_per_s: float = 256.0  # averaged over each window
    window_s: float = 60.0

    @property
    def rate(self) -> str:
        return f"{self.min_bytes_per_s:g} B/s over {self.window_s:g} s"


class Watch:
    """Of one call."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._changed = threading.Condition()
        self._done = False
        self._last = self._window_from = time.monotonic()
        self._in_window = 0  # bytes
        self.too_slow = False  # the call was cancelled for its rate, not for silence

    def heard(self, count: int) -> None:
        """So many bytes came; an empty message is silence."""
        if count:
            with self._changed:
                self._last = time.monotonic()
                self._in_window += count

    def end(self) -> None:
        with self._changed:
            self._done = True
            self._changed.notify()

    def broken(self) -> bool:
        """Wait until the pace is broken, or for the end: then False."""
        with self._changed:
            while not self._done:
                now = time.monotonic()
                window_ends = self._window_from + self._pace.window_s
                if now >= window_ends:
                    if self._in_window < self._pace.min_bytes_per_s * self._pace.window_s:
                        self.too_slow = True
                        return True
                    self._window_from, self._in_window, window_ends = now, 0, now + self._pace.window_s
                silent_at = self._last + self._pace.silence_s
                if now >= silent_at:
                    return True
                self._changed.wait(min(window_ends, silent_at) - now)
        return False


@contextlib.contextmanager
def paced(call: Cancellable, pace: Pace) -> Iterator[Watch]:
    """Cancel ``call`` once it breaks the ``pace``."""
    watch = Watch(pace)

    def run() -> None:
        if watch.broken():
            call.cancel()

    watcher = threading.Thread(target=run, name="hub-pace", daemon=True)
    watcher.start()
    try:
        yield watch
    finally:
        watch.end()
        watcher.join()
