"""What the agent measures while it works. ``app.monitor`` exposes it: the Prometheus client takes 50 ms to load, and a device
whose metrics nobody scrapes need not have it in memory."""

from bisect import bisect_left

BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)  # upper ends of all classes but the last


class Durations:
    """How long something took, as a histogram. Written by one thread at a time, read by any."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_S) + 1)
        self._sum_s = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(BOUNDS_S, seconds)] += 1
        self._sum_s += seconds

    def read(self) -> tuple[list[int], float]:
        """How many in each class, and the sum of all in seconds."""
        return self._counts.copy(), self._sum_s
