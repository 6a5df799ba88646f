"""A slow reading holds nobody up, and a failing one takes nothing away."""

import threading

import pytest

from edge_agent.core.lately import Lately
from tests.agent.app.test_threads import wait_until
from tests.agent.clocks import ManualClock


class Reading:
    """Counts; fails or blocks as it is told."""

    def __init__(self) -> None:
        self.calls = 0
        self.error: Exception | None = None
        self.go = threading.Event()
        self.go.set()

    def __call__(self) -> int:
        self.go.wait(20)
        self.calls += 1
        if self.error is not None:
            raise self.error
        return self.calls


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def reading() -> Reading:
    return Reading()


def lately(reading: Reading, clock: ManualClock, wait_s: float = 10.0) -> Lately[int]:
    return Lately("count", reading, clock, fresh_s=5.0, wait_s=wait_s)


def test_a_value_is_read_when_it_is_asked_for_and_again_when_it_is_old(reading: Reading, clock: ManualClock) -> None:
    count = lately(reading, clock)
    assert reading.calls == 0 and count.age_s == float("inf")
    assert [count.get(), count.get()] == [1, 1]
    clock.advance(5.0)
    assert count.get() == 2


def test_while_a_reading_hangs_the_last_value_is_given_at_once(reading: Reading, clock: ManualClock) -> None:
    count = lately(reading, clock, wait_s=0.05)
    assert count.get() == 1
    clock.advance(6.0)
    reading.go.clear()
    assert [count.get(), count.get()] == [1, 1]
    assert (count.errors, "more than" in count.problem, count.age_s) == (1, True, 6.0)
    reading.go.set()
    wait_until(lambda: count.get() == 2)
    assert count.problem == ""


def test_a_failed_reading_is_counted_and_named_and_the_last_value_stands(reading: Reading, clock: ManualClock) -> None:
    count = lately(reading, clock)
    count.get()
    reading.error = ValueError("no luck")
    clock.advance(6.0)
    assert count.get() == 1
    assert (count.errors, count.problem) == (1, "ValueError: no luck")
    reading.error = None
    clock.advance(6.0)
    assert (count.get(), count.problem) == (3, "")


def test_a_reading_that_takes_long_is_taken_seldom(clock: ManualClock) -> None:
    calls: list[float] = []

    def slow() -> float:
        calls.append(clock.monotonic())
        clock.advance(4.0)
        return 4.0

    value = Lately("slow", slow, clock, fresh_s=5.0, wait_s=10.0)
    value.get()
    for _ in range(13):
        clock.advance(3.0)
        value.get()
    assert len(calls) == 1
    clock.advance(3.0)
    value.get()
    assert len(calls) == 2


def test_many_who_ask_at_once_cause_one_reading(reading: Reading, clock: ManualClock) -> None:
    count = lately(reading, clock)
    reading.go.clear()
    seen: list[int | None] = []
    threads = [threading.Thread(target=lambda: seen.append(count.get())) for _ in range(8)]
    for thread in threads:
        thread.start()
    reading.go.set()
    for thread in threads:
        thread.join(20)
    assert seen == [1] * 8 and reading.calls == 1
