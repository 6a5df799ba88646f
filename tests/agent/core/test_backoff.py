"""Pauses between tries."""

from edge_agent.core.backoff import Backoff


def test_pauses_double_up_to_the_longest_and_begin_anew_after_a_reset() -> None:
    backoff = Backoff(0.5, 4.0, jitter=lambda: 1.0)
    assert [backoff.next() for _ in range(5)] == [0.5, 1.0, 2.0, 4.0, 4.0]
    backoff.reset()
    assert backoff.next() == 0.5


def test_jitter_takes_away_up_to_half() -> None:
    assert Backoff(8.0, 60.0, jitter=lambda: 0.0).next() == 4.0


def test_a_fleet_that_loses_its_broker_comes_back_spread_over_twice_the_first_pause() -> None:
    pauses = []
    for i in range(100):
        backoff = Backoff(0.5, 60.0, jitter=lambda i=i: i / 100)  # type: ignore[misc]
        backoff.next()
        pauses.append(backoff.after_loss())
        assert backoff.next() <= 0.5, "failures before count no more"
    assert pauses == [i / 100 for i in range(100)]
