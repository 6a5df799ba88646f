"""What a challenger may take, and what is made of its answers."""

from datetime import UTC, datetime

import pytest

from edge_agent.decide.shadow import Tally, TimeShare
from protos.contract.ids import digest_of, model_name
from protos.contract.twin import ModelAssignment, ShadowReport

MODEL = ModelAssignment(name=model_name("street"), version=2, manifest_digest=digest_of(b"m"), manifest_size_bytes=1)


def run(share: float, champion_ms: float, challenger_ms: float, frames: int) -> float:
    """The milliseconds that a challenger has taken which was asked for at every frame."""
    time, spent = TimeShare(share), 0.0
    for _ in range(frames):
        time.earn(champion_ms)
        if time.affords():
            time.spend(challenger_ms)
            spent += challenger_ms
    return spent


@pytest.mark.parametrize("challenger_ms", [0.5, 10.0, 80.0, 3000.0])
@pytest.mark.parametrize("share", [0.05, 0.25, 0.5])
def test_a_challenger_takes_its_share_of_the_time_and_no_more_however_slow_it_is(share: float, challenger_ms: float) -> None:
    taken, champion = run(share, 10.0, challenger_ms, 20_000), 20_000 * 10.0
    if challenger_ms / (challenger_ms + 10.0) <= share:
        assert taken == pytest.approx(20_000 * challenger_ms), "it is fast enough to see every frame"
    else:
        assert abs(taken - champion * share / (1 - share)) <= 2 * challenger_ms, "but for the one that is owed or saved for"


def test_a_share_of_all_time_is_no_bound() -> None:
    assert run(1.0, 1.0, 50.0, 100) == pytest.approx(100 * 50.0)


def test_time_that_was_not_used_is_not_hoarded() -> None:
    time = TimeShare(0.5)
    for _ in range(100_000):
        time.earn(10.0)
    runs = 0
    while time.affords():
        time.spend(100.0)
        runs += 1
    assert runs == 10, "a second at most"


def test_a_tally_says_what_both_saw() -> None:
    tally = Tally().compared(agree=True, champion=0.9, challenger=0.7).compared(agree=False, champion=0.5, challenger=0.9)
    tally = tally.counted(skipped=3).counted(errors=1, captured=1)
    assert (tally.frames, tally.agreed, tally.skipped, tally.errors, tally.captured) == (2, 1, 3, 1, 1)
    assert tally.means() == (pytest.approx(0.7), pytest.approx(0.8))
    assert Tally().means() == (0.0, 0.0)
    told = tally.told(ShadowReport(model=MODEL, since=datetime(2026, 3, 1, tzinfo=UTC)))
    assert (told.frames, told.agreed, told.captured, told.champion_confidence) == (2, 1, 1, pytest.approx(0.7))
    again = Tally.of(told).compared(agree=True, champion=1.0, challenger=1.0)
    assert (again.frames, again.agreed) == (3, 2) and again.means() == (pytest.approx(0.8), pytest.approx(2.6 / 3))
