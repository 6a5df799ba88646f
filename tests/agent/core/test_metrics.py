"""Durations as a histogram."""

from edge_agent.core.metrics import BOUNDS_S, Durations


def test_each_duration_is_in_the_first_class_that_reaches_it() -> None:
    durations = Durations()
    for seconds in (0.0005, 0.001, 0.002, 100.0):
        durations.observe(seconds)
    counts, sum_s = durations.read()
    assert len(counts) == len(BOUNDS_S) + 1
    assert (counts[0], counts[1], counts[-1], sum(counts)) == (2, 1, 1, 4)
    assert abs(sum_s - 100.0035) < 1e-9
