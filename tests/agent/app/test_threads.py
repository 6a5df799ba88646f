"""The agent's loops, each by itself."""

import os
import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from edge_agent.app.keep import Keeper
from edge_agent.app.perceive import Perceiver
from edge_agent.app.uploads import Uploader
from edge_agent.app.wakeup import StopSignals, Wakeup
from edge_agent.app.watch import Watcher
from edge_agent.core.backoff import Backoff
from edge_agent.core.budget import Budget
from edge_agent.core.clock import SystemClock
from edge_agent.core.config import SpoolConfig
from edge_agent.core.errors import Corrupt, LinkDown, Refused, SourceUnavailable
from edge_agent.core.model import Capture
from protos.contract.ids import digest_of
from protos.contract.inputs import SampleKind
from tests.agent.app.test_perceive import active
from tests.agent.fakes import FakeCaptures, FakeSource
from tests.agent.fakes_spool import MemorySpool

PIXELS = np.zeros((12, 12, 3), np.uint8)
SOON = Backoff(0.001, 0.001)


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.005)


def perceiver() -> Perceiver:
    spool, clock = MemorySpool(SpoolConfig(), SystemClock()), SystemClock()
    return Perceiver(spool, Keeper(FakeCaptures(), spool, Budget(0, clock)), clock)


# -- watching -------------------------------------------------------------------------------------------------------------


def test_no_frame_is_read_before_there_is_a_model() -> None:
    mind = perceiver()
    watcher = Watcher(FakeSource([PIXELS] * 5), mind, max_frames=None)
    thread = threading.Thread(target=watcher.run)
    thread.start()
    thread.join(0.7)
    assert thread.is_alive()
    mind.swap(active())
    thread.join(10)
    assert (mind.total.inferences, mind.skipped_frames) == (5, 0)
    assert watcher.problem == "the source has ended"


def test_it_ends_after_as_many_frames_as_were_asked_for() -> None:
    mind = perceiver()
    mind.swap(active())
    Watcher(FakeSource([PIXELS] * 5, stay=True), mind, max_frames=3).run()
    assert mind.total.inferences == 3


def test_stopping_ends_a_source_that_waits() -> None:
    mind = perceiver()
    mind.swap(active())
    watcher = Watcher(FakeSource([PIXELS], stay=True), mind, max_frames=None)
    thread = threading.Thread(target=watcher.run)
    thread.start()
    wait_until(lambda: mind.total.inferences == 1)
    watcher.stop()
    thread.join(10)
    assert not thread.is_alive()


class Breaking(FakeSource):
    """Breaks once with each of ``faults``, then works."""

    def __init__(self, *faults: Exception) -> None:
        super().__init__([PIXELS])
        self._faults = list(faults)

    def frames(self):  # type: ignore[no-untyped-def]
        if self._faults:
            raise self._faults.pop(0)
        yield from super().observations()


@pytest.mark.parametrize("fault", [SourceUnavailable("camera is gone"), RuntimeError("a bug")])
def test_a_source_that_breaks_is_opened_again(fault: Exception) -> None:
    mind = perceiver()
    mind.swap(active())
    Watcher(Breaking(fault), mind, max_frames=None).run()
    assert mind.total.inferences == 1


# -- uploading ------------------------------------------------------------------------------------------------------------


def capture(name: str) -> Capture:
    data = name.encode()
    return Capture(
        digest=digest_of(data), content=data, kind=SampleKind.IMAGE, captured_at=datetime.now(UTC), source="cam", name=name,
        reason="control",
        model=digest_of(b"m"), predicted="car", confidence=0.5,
    )  # fmt: skip


class FakeHub:
    def __init__(self, faults: list[Exception]) -> None:
        self.faults = faults
        self.got: list[str] = []
        self.closed = 0

    def upload(self, capture: Capture) -> None:
        if self.faults:
            raise self.faults.pop(0)
        self.got.append(capture.name)

    def download(self, blob: object, path: Path) -> None:
        raise AssertionError("uploads download nothing")

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize(
    ("faults", "arrived"),
    [
        ([], ["a", "b", "c"]),
        ([LinkDown("gone"), LinkDown("still")], ["a", "b", "c"]),
        ([Corrupt("on its way"), RuntimeError("a bug")], ["a", "b", "c"]),
        ([Refused("not an image")], ["b", "c"]),
    ],
)
def test_captures_leave_the_disk_once_the_hub_has_them_or_never_will(faults: list[Exception], arrived: list[str]) -> None:
    captures, hub = FakeCaptures(), FakeHub(faults)
    for name in "abc":
        captures.add(capture(name))
    uploader = Uploader(captures, lambda: hub, SOON)
    thread = threading.Thread(target=uploader.run)
    thread.start()
    wait_until(lambda: captures.count() == 0)
    uploader.stop()
    thread.join(10)
    assert hub.got == arrived
    assert hub.closed > 0
    assert not thread.is_alive()


def test_a_hub_that_cannot_be_dialled_keeps_every_capture() -> None:
    captures = FakeCaptures()
    captures.add(capture("a"))
    tried = threading.Event()

    def connect() -> FakeHub:
        tried.set()
        raise LinkDown("not enrolled")

    uploader = Uploader(captures, connect, SOON)
    thread = threading.Thread(target=uploader.run)
    thread.start()
    assert tried.wait(10)
    uploader.stop()
    thread.join(10)
    assert captures.count() == 1


# -- the process ----------------------------------------------------------------------------------------------------------


def test_a_signal_wakes_the_main_thread_and_is_remembered() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        wakeup = Wakeup()
        signals = StopSignals(wakeup)
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
        started = time.monotonic()
        wakeup.wait(30)
        assert time.monotonic() - started < 20
        assert signals.received == "SIGTERM"
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_wakeup_that_was_set_often_wakes_once() -> None:
    wakeup = Wakeup()
    for _ in range(100_000):
        wakeup.set()
    wakeup.wait(30)
    started = time.monotonic()
    wakeup.wait(0.05)
    assert time.monotonic() - started >= 0.05
