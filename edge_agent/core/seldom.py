"""What may happen thousands of times a second is said only now and then, with how often it was kept back."""

import threading

from edge_agent.core.clock import Clock


class Seldom:
    """Gives a turn every ``every_s`` seconds at most. Thread-safe."""

    def __init__(self, every_s: float, clock: Clock) -> None:
        self._every_s = every_s
        self._clock = clock
        self._lock = threading.Lock()
        self._next_s = float("-inf")
        self._kept_back = 0

    def turn(self) -> int | None:
        """How many got none since the last turn; None: this one gets none either."""
        with self._lock:
            now_s = self._clock.monotonic()
            if now_s < self._next_s:
                self._kept_back += 1
                return None
            kept_back, self._kept_back = self._kept_back, 0
            self._next_s = now_s + self._every_s
            return kept_back
