"""A clock that moves when told to."""

from datetime import UTC, datetime, timedelta


class ManualClock:
    def __init__(self) -> None:
        self._start = datetime(2025, 1, 1, tzinfo=UTC)
        self._passed_s = 0.0

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._passed_s)

    def monotonic(self) -> float:
        return self._passed_s

    def advance(self, seconds: float) -> None:
        self._passed_s += seconds
