"""Whether the wall clock can be believed by those who delete what is old."""

from datetime import datetime

from edge_agent.core.clock import Clock

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
