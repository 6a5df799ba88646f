"""Uploads on a link that is paid for by the byte."""

import threading

from edge_agent.app.uploads import UPLOAD_BYTES, Uploader
from edge_agent.core.backoff import Backoff
from edge_agent.core.budget import Budget
from tests.agent.app.test_threads import FakeHub, capture, wait_until
from tests.agent.clocks import ManualClock
from tests.agent.fakes import FakeCaptures


def test_captures_wait_while_the_budget_is_used_up_and_go_on_once_it_refills() -> None:
    clock, captures, hub = ManualClock(), FakeCaptures(), FakeHub([])
    for name in "abc":
        captures.add(capture(name))
    size = len(capture("a").content) + UPLOAD_BYTES
    budget = Budget(size + 1, clock)  # one, and the second on credit
    uploader = Uploader(captures, lambda: hub, Backoff(0.001, 0.001), budget)
    thread = threading.Thread(target=uploader.run)
    thread.start()
    wait_until(lambda: captures.count() == 1)
    assert budget.left < 0
    clock.advance(2 * 3600)
    wait_until(lambda: captures.count() == 0)
    uploader.stop()
    thread.join(10)
    assert hub.got == ["a", "b", "c"]
