"""Waiting that can be ended."""

from threading import Event

from edge_agent.core.clock import Clock


class Pace:
    """At most ``fps`` frames a second; 0 means no limit. A late frame does not make the following ones hurry."""

    def __init__(self, fps: float, clock: Clock, stop: Event) -> None:
        self._interval_s = 1 / fps if fps > 0 else 0.0
        self._clock = clock
        self._stop = stop
        self._due: float | None = None

    def wait(self) -> bool:
        """Wait for the next frame's turn; False once ``stop`` is set."""
        now = self._clock.monotonic()
        if self._due is not None and self._due > now:
            self._stop.wait(self._due - now)
        else:
            self._due = now
        self._due += self._interval_s
        return not self._stop.is_set()
