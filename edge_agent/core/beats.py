"""Which loops still turn."""

import threading

from edge_agent.core.clock import Clock


class Beats:
    """Each loop says at every turn that it turns. Thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._limits: dict[str, float] = {}  # seconds a turn may take
        self._last: dict[str, float] = {}  # monotonic

    def expect(self, name: str, *, within_s: float) -> None:
        """From now on ``name`` must beat again and again."""
        with self._lock:
            self._limits[name] = within_s
            self._last[name] = self._clock.monotonic()

    def beat(self, name: str) -> None:
        """For a loop that is expected."""
        with self._lock:
            self._last[name] = self._clock.monotonic()

    def late(self) -> dict[str, str]:
        """What has not beaten for too long, and for how long."""
        with self._lock:
            now = self._clock.monotonic()
            silent = {name: now - at for name, at in self._last.items() if now - at > self._limits[name]}
        return {name: f"has not turned for {seconds:.0f} s" for name, seconds in silent.items()}
