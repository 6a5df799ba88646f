"""The calls that time brings about."""

import logging
import threading
from datetime import datetime

import pytest

from cloud_hub.app import scheduler
from cloud_hub.core.errors import Unavailable
from cloud_hub.core.metrics import HubMetrics
from edge_agent.core.beats import Beats
from edge_agent.core.clock import SystemClock
from tests.agent.clocks import ManualClock
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
    [failure] = [record for record in caplog.records if record.message == "scheduled call failed"]  # once a minute at most
    assert vars(failure)["tick"] == "broken"
    assert "no luck" in caplog.text


def test_a_database_that_is_away_puts_a_call_off_without_a_stack_trace(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[datetime] = []

    def away(now: datetime) -> None:
        calls.append(now)
        raise Unavailable("the database is not available: connection refused")

    caplog.set_level(logging.CRITICAL, logger="apscheduler")  # it says each time that it leaves one out
    with caplog.at_level(logging.WARNING):
        running = scheduler.start({"away": (OFTEN_S, away)}, SystemClock())
        wait_for(lambda: len(calls) >= 3, "calls")
        running.shutdown()
    assert [record.message for record in caplog.records] == ["scheduled call put off"]  # once a minute at most
    assert "connection refused" in vars(caplog.records[0])["reason"] and "Traceback" not in caplog.text


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


def test_calls_are_timed_and_failures_counted() -> None:
    metrics = HubMetrics()

    def broken(_: datetime) -> None:
        raise RuntimeError("no luck")

    running = scheduler.start({"well": (OFTEN_S, lambda _: None), "broken": (OFTEN_S, broken)}, SystemClock(), metrics=metrics)
    value = metrics.registry.get_sample_value
    wait_for(lambda: (value("tideline_hub_tick_failures_total", {"tick": "broken"}) or 0) >= 2, "failures")
    wait_for(lambda: (value("tideline_hub_tick_seconds_count", {"tick": "well"}) or 0) >= 2, "calls")
    running.shutdown()
    assert value("tideline_hub_tick_failures_total", {"tick": "well"}) == 0


def test_a_call_that_hangs_is_noticed() -> None:
    clock, go = ManualClock(), threading.Event()
    beats = Beats(clock)
    begun = threading.Event()

    def hang(_: datetime) -> None:
        begun.set()
        go.wait(20)

    running = scheduler.start({"hang": (OFTEN_S, hang)}, clock, beats=beats)
    assert begun.wait(10)
    clock.advance(1000)
    assert list(beats.late()) == ["tick hang"]
    go.set()
    wait_for(lambda: not beats.late(), "a turn")
    running.shutdown()
