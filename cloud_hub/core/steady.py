"""Whether the wall clock can be believed: by those who delete what is old, and by those who sign."""

import logging
import threading
from datetime import UTC, datetime

from edge_agent.core.clock import Clock

log = logging.getLogger(__name__)

SETTLES_S = 3600.0
SLACK_S = 300.0  # what time servers correct without a word


class SteadyTime:
    """A clock that leaps a year ahead must not make everything a year older: it is believed once it has gone evenly."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset: float | None = None  # of the wall clock from the monotonic one
        self._since = 0.0

    def believes(self, now: datetime) -> bool:
        """Ask often: a leap that nobody looked at is seen at the next look."""
        monotonic = self._clock.monotonic()
        offset = now.timestamp() - monotonic
        if self._offset is None or abs(offset - self._offset) > SLACK_S:
            self._offset, self._since = offset, monotonic
        return monotonic - self._since >= SETTLES_S


class SteadyClock(Clock):
    """The time of day for those who sign: a leap of the wall clock counts only once it has gone evenly for an hour.

    What is dated a year ahead is worth nothing to others when the clock comes back, and whoever is judged by such a clock has
    expired. In between time goes on from what it was. Thread-safe.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._offset = clock.now().timestamp() - clock.monotonic()  # of the time that is told from the monotonic one
        self._leapt_to: float | None = None  # another offset, not believed yet
        self._since = 0.0

    def now(self) -> datetime:
        wall, monotonic = self._clock.now(), self._clock.monotonic()
        with self._lock:
            offset = wall.timestamp() - monotonic
            if abs(offset - self._offset) > SLACK_S and not self._settled(offset, monotonic):
                return datetime.fromtimestamp(self._offset + monotonic, UTC)
            self._offset, self._leapt_to = offset, None
            return wall

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def _settled(self, offset: float, monotonic: float) -> bool:
        if self._leapt_to is None or abs(offset - self._leapt_to) > SLACK_S:
            log.warning("the clock leapt: it is not believed for an hour", extra={"leap_s": round(offset - self._offset)})
            self._leapt_to, self._since = offset, monotonic
        return monotonic - self._since >= SETTLES_S
