"""Frames come no faster than asked."""

from threading import Event

from edge_agent.sense.pace import Pace
from tests.agent.clocks import ManualClock


class WaitingEvent(Event):
    """Time passes on the clock, not on the wall."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self._clock = clock
        self.waited: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.waited.append(round(timeout, 6))
        self._clock.advance(timeout)
        return self.is_set()


def test_each_frame_waits_for_its_turn() -> None:
    clock = ManualClock()
    stop = WaitingEvent(clock)
    pace = Pace(10, clock, stop)
    assert [pace.wait() for _ in range(4)] == [True] * 4
    assert stop.waited == [0.1, 0.1, 0.1]


def test_time_spent_on_a_frame_counts_and_a_long_pause_is_not_caught_up() -> None:
    clock = ManualClock()
    stop = WaitingEvent(clock)
    pace = Pace(10, clock, stop)
    pace.wait()
    clock.advance(0.04)
    pace.wait()
    assert stop.waited == [0.06]
    clock.advance(5)
    pace.wait()
    pace.wait()
    assert stop.waited == [0.06, 0.1]


def test_no_limit_never_waits_and_a_stop_is_seen() -> None:
    clock = ManualClock()
    stop = WaitingEvent(clock)
    pace = Pace(0, clock, stop)
    assert pace.wait()
    assert pace.wait()
    assert stop.waited == []
    stop.set()
    assert not pace.wait()
