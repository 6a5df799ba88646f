"""How hot the board is."""

import contextlib
from pathlib import Path

from edge_agent.core.clock import Clock

ZONES = Path("/sys/class/thermal")
FRESH_S = 5.0  # some sensors take milliseconds to read
COLDEST_C, HOTTEST_C = -100.0, 1000.0  # beyond it a sensor says that it has no value


class Thermometer:
    """Of the hottest zone the kernel names. Reading it from several threads is harmless."""

    def __init__(self, clock: Clock, zones: Path = ZONES) -> None:
        self._clock, self._zones = clock, zones
        self._read: tuple[float, float | None] | None = None  # when, and what

    def celsius(self) -> float | None:
        """At most ``FRESH_S`` old; None where the board does not say."""
        now = self._clock.monotonic()
        if self._read is None or now - self._read[0] >= FRESH_S:
            self._read = (now, max(self._all(), default=None))
        return self._read[1]

    def _all(self) -> list[float]:
        found = []
        for zone in self._zones.glob("thermal_zone*/temp"):
            with contextlib.suppress(OSError, ValueError):  # a zone that is switched off cannot be read
                found.append(int(zone.read_text()) / 1000)
        return [value for value in found if COLDEST_C < value < HOTTEST_C]
