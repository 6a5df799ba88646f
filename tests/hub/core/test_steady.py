"""A clock that leaps is not believed at once."""

from datetime import timedelta

import pytest

from cloud_hub.core.steady import SETTLES_S, SteadyClock
from tests.agent.clocks import ManualClock

YEAR = timedelta(days=365)


class LeapingClock(ManualClock):
    def leap(self, by: timedelta) -> None:
        self._start += by


@pytest.mark.parametrize("leap", [YEAR, -YEAR])
def test_a_leap_that_ends_within_the_hour_was_never_there(leap: timedelta) -> None:
    wall = LeapingClock()
    steady = SteadyClock(wall)
    began = steady.now()
    wall.leap(leap)
    wall.advance(60)
    assert steady.now() - began == timedelta(seconds=60)
    wall.leap(-leap)
    wall.advance(60)
    assert steady.now() == wall.now() == began + timedelta(seconds=120)


@pytest.mark.parametrize("leap", [YEAR, -YEAR])
def test_a_leap_is_believed_once_the_clock_has_gone_evenly_for_an_hour(leap: timedelta) -> None:
    wall = LeapingClock()
    steady = SteadyClock(wall)
    wall.leap(leap)
    for _ in range(59):
        assert steady.now() != wall.now()
        wall.advance(60)
    wall.leap(leap)  # and another one: the hour begins anew
    assert steady.now() != wall.now()
    wall.advance(SETTLES_S)
    assert steady.now() == wall.now()


def test_what_a_time_server_corrects_is_taken_as_it_comes() -> None:
    wall = LeapingClock()
    steady = SteadyClock(wall)
    for _ in range(100):
        wall.leap(timedelta(seconds=200))
        assert steady.now() == wall.now()
