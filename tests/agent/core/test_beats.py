"""A loop that turns no more is noticed."""

from edge_agent.core.beats import Beats
from tests.agent.clocks import ManualClock


def test_a_loop_that_beats_in_time_is_not_late_and_one_that_stopped_is() -> None:
    clock = ManualClock()
    beats = Beats(clock)
    beats.expect("quick", within_s=10)
    beats.expect("slow", within_s=100)
    clock.advance(9)
    beats.beat("quick")
    clock.advance(9)
    assert beats.late() == {}
    clock.advance(2)
    assert beats.late() == {"quick": "has not turned for 11 s"}
    beats.beat("quick")
    assert beats.late() == {}
