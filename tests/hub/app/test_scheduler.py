"""The calls that time brings about."""

import logging
import threading
from datetime import datetime

import pytest

from cloud_hub.app import scheduler
from edge_agent.core.clock import SystemClock
from tests.e2e.system import wait_for

OFTEN_S = 0.02


def test_a_call_that_fails_is_logged_and_comes_again_and_harms_no_other(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[str] = []

    def broken(_: datetime) -> None:
        calls.append("broken")
        raise RuntimeError("no luck")

    ticks = {"broken": (OFTEN_S, broken), "well": (OFTEN_S, lambda _: calls.append("well"))}
    with caplog.at_level(logging.ERROR):
        running = scheduler.start(ticks, SystemClock())
        wait_for(lambda: calls.count("broken") >= 3 and calls.count("well") >= 3, "calls")
        running.shutdown()
    failures = [record for record in caplog.records if record.message == "scheduled call failed"]
    assert len(failures) >= 3
    assert vars(failures[0])["tick"] == "broken"
    assert "no luck" in caplog.text


def test_a_slow_call_is_never_made_twice_at_once(caplog: pytest.LogCaptureFixture) -> None:
    inside, most, calls = 0, 0, 0
    lock, pause = threading.Lock(), threading.Event()

    def slow(_: datetime) -> None:
        nonlocal inside, most, calls
        with lock:
            inside, calls = inside + 1, calls + 1
            most = max(most, inside)
        pause.wait(5 * OFTEN_S)
        with lock:
            inside -= 1

    with caplog.at_level(logging.CRITICAL, logger="apscheduler"):  # it says each time that it leaves one out
        running = scheduler.start({"slow": (OFTEN_S, slow)}, SystemClock())
        wait_for(lambda: calls >= 4, "calls")
        running.shutdown()
    assert most == 1


def test_shutting_down_waits_for_the_call_under_way() -> None:
    begun, ended, go = threading.Event(), threading.Event(), threading.Event()

    def long(_: datetime) -> None:
        begun.set()
        go.wait(10)
        ended.set()

    running = scheduler.start({"long": (OFTEN_S, long)}, SystemClock())
    assert begun.wait(10)
    threading.Timer(0.1, go.set).start()
    running.shutdown()
    assert ended.is_set()


def test_a_call_is_told_the_time() -> None:
    times: list[datetime] = []
    running = scheduler.start({"clock": (OFTEN_S, times.append)}, SystemClock())
    wait_for(lambda: times, "a call")
    running.shutdown()
    assert times[0].tzinfo is not None
