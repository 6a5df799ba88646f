"""What inference has done so far."""

from collections import deque

import numpy as np

from edge_agent.core.metrics import Durations
from edge_agent.update.probation import Vitals

RING = 512  # latencies remembered


class Meter:
    """Written by the one thread that infers, read by any: every field is replaced whole."""

    def __init__(self) -> None:
        self.inferences = 0
        self.errors = 0
        self.failing = 0  # errors in a row
        self.last_error = ""
        self.seconds = Durations()  # of all
        self._latencies: deque[float] = deque(maxlen=RING)

    def succeeded(self, latency_ms: float) -> None:
        self._latencies.append(latency_ms)
        self.seconds.observe(latency_ms / 1000)
        self.failing = 0
        self.inferences += 1

    def failed(self, reason: str) -> None:
        self.last_error = reason
        self.failing += 1
        self.errors += 1

    def latency_ms(self) -> tuple[float, float]:
        """p50 and p95 of the last ``RING`` inferences; zeros before the first."""
        latencies = self._latencies.copy()  # one step under the interpreter's lock
        if not latencies:
            return 0.0, 0.0
        p50, p95 = np.percentile(latencies, (50, 95))
        return float(p50), float(p95)

    def vitals(self, *, busy_s: float = 0.0) -> Vitals:
        return Vitals(
            inferences=self.inferences,
            errors=self.errors,
            latency_p95_ms=self.latency_ms()[1],
            last_error=self.last_error,
            busy_s=busy_s,
        )
