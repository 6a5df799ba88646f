"""What the uplink sends and when it goes back, without a network."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from edge_agent.core.budget import Budget
from edge_agent.core.clock import SystemClock
from edge_agent.core.config import SpoolConfig, SyncConfig
from edge_agent.core.errors import LinkDown
from edge_agent.sync.uplink import SEND_AHEAD_BYTES, Uplink
from protos.contract.codec import decode_batch
from protos.contract.telemetry import Lane, Mark
from tests.agent.clocks import ManualClock
from tests.agent.fakes_spool import MemorySpool
from tests.agent.spool.parts import happening, outcome

SYNC = SyncConfig(in_flight=3, stall_s=60.0)


class FakeLink:
    def __init__(self) -> None:
        self.connected = True
        self.connects = self.traffic_bytes = self.unacknowledged_bytes = self.sent = 0
        self.lagging = False  # the broker answers for nothing more
        self.acknowledged = 0
        self.taken: queue.Queue[tuple[Lane, bytes]] = queue.Queue()
        self.refusing = False
        self.refused = threading.Event()
        self.watermark: Callable[[tuple[Mark, ...]], None]
        self.reconnect: Callable[[], None]
        self.answer: Callable[[], None]

    def publish_telemetry(self, lane: Lane, payload: bytes) -> int:
        if self.refusing:
            self.refused.set()
            raise LinkDown("not now")
        self.sent += 1
        self.traffic_bytes += len(payload)
        if self.lagging:
            self.unacknowledged_bytes += len(payload)
        else:
            self.acknowledged = self.sent
        self.taken.put((lane, payload))
        return self.sent

    def catch_up(self) -> None:
        self.unacknowledged_bytes, self.acknowledged, self.lagging = 0, self.sent, False
        self.answer()

    def on_watermark(self, listener: Callable[[tuple[Mark, ...]], None]) -> None:
        self.watermark = listener

    def on_connected(self, listener: Callable[[], None]) -> None:
        self.reconnect = listener

    def on_acknowledged(self, listener: Callable[[], None]) -> None:
        self.answer = listener

    def next(self) -> int:
        """First sequence of the next batch sent."""
        return decode_batch(self.taken.get(timeout=20)[1]).first_sequence


@pytest.fixture
def link() -> FakeLink:
    return FakeLink()


@pytest.fixture
def spool() -> MemorySpool:
    return MemorySpool(SpoolConfig(batch_records=1), SystemClock())


@pytest.fixture
def uplink(spool: MemorySpool, link: FakeLink) -> Iterator[Uplink]:
    made = Uplink(spool, link, SYNC, SystemClock())
    made.start()
    yield made
    made.stop()


def mark(spool: MemorySpool, through: int, lane: Lane = Lane.NORMAL) -> tuple[Mark, ...]:
    return (Mark(epoch=spool.epoch, lane=lane, committed_through=through),)


def test_a_new_batch_is_sent_at_once(spool: MemorySpool, link: FakeLink, uplink: Uplink) -> None:
    spool.append(outcome())
    assert link.next() == 0
    spool.append(outcome())
    assert link.next() == 1


def test_the_window_opens_with_the_watermark(spool: MemorySpool, link: FakeLink, uplink: Uplink) -> None:
    for _ in range(6):
        spool.append(outcome())
    assert [link.next() for _ in range(3)] == [0, 1, 2]
    spool.append(outcome(), Lane.CRITICAL)
    assert link.taken.get(timeout=20)[0] is Lane.CRITICAL  # a turn later the closed window has sent nothing more
    link.watermark(mark(spool, 1))
    assert [link.next() for _ in range(2)] == [3, 4]
    assert spool.stats().records == 5


def test_a_reconnect_sends_everything_uncommitted_again(spool: MemorySpool, link: FakeLink, uplink: Uplink) -> None:
    for _ in range(3):
        spool.append(outcome())
    sent = [link.taken.get(timeout=20) for _ in range(3)]
    link.watermark(mark(spool, 0))
    link.reconnect()
    assert [link.taken.get(timeout=20) for _ in range(2)] == sent[1:]


def test_nothing_is_sent_or_lost_while_the_line_is_down(spool: MemorySpool, link: FakeLink, uplink: Uplink) -> None:
    link.connected = False
    spool.append(outcome())
    spool.append(outcome())
    link.connected = True
    link.reconnect()
    assert [link.next() for _ in range(2)] == [0, 1]


def test_what_the_line_did_not_take_is_offered_again(spool: MemorySpool, link: FakeLink, uplink: Uplink) -> None:
    link.refusing = True
    spool.append(outcome())
    assert link.refused.wait(20)
    link.refusing = False
    spool.append(outcome())
    assert [link.next() for _ in range(2)] == [0, 1]


def test_a_watermark_from_before_a_restart_covers_what_was_not_sent_since(
    spool: MemorySpool, link: FakeLink, uplink: Uplink
) -> None:
    link.connected = False
    for _ in range(5):
        spool.append(outcome())
    link.watermark(mark(spool, 3))
    link.connected = True
    link.reconnect()
    assert link.next() == 4


def test_a_new_epoch_starts_with_an_open_window(spool: MemorySpool, link: FakeLink, uplink: Uplink) -> None:
    for _ in range(3):
        spool.append(outcome())
    old = [decode_batch(link.taken.get(timeout=20)[1]) for _ in range(3)]
    spool.lose_everything()
    spool.append(outcome())
    new = decode_batch(link.taken.get(timeout=20)[1])
    assert new.epoch == spool.epoch != old[0].epoch
    assert new.first_sequence == 0


# -- turn by turn, on a clock of our own ---------------------------------------------------------------------------------


class Bench:
    """An uplink whose turns are taken by hand."""

    def __init__(self, config: SyncConfig, budget_bytes: int | None = None) -> None:
        self.clock = ManualClock()
        self.spool = MemorySpool(SpoolConfig(batch_records=1), self.clock)
        self.link = FakeLink()
        self.budget = None if budget_bytes is None else Budget(budget_bytes, self.clock)
        self.uplink = Uplink(self.spool, self.link, config, self.clock, self.budget)

    def turn(self, *marks: Mark, reconnected: bool = False) -> list[tuple[Lane, int]]:
        """What it sent: lane and first sequence."""
        self.uplink._turn(marks, reconnected=reconnected)
        return [(lane, decode_batch(payload).first_sequence) for lane, payload in self._taken()]

    def _taken(self) -> Iterator[tuple[Lane, bytes]]:
        while not self.link.taken.empty():
            yield self.link.taken.get()

    def fill(self, count: int, lane: Lane = Lane.NORMAL) -> None:
        for _ in range(count):
            self.spool.append(happening(detail="x" * 900), lane)


def test_a_stall_sends_the_window_again_and_the_pauses_grow_until_there_is_progress() -> None:
    bench = Bench(SyncConfig(in_flight=2, stall_s=15.0, stall_max_s=600.0))
    bench.fill(3)
    assert bench.turn() == [(Lane.NORMAL, 0), (Lane.NORMAL, 1)]

    def pause() -> float:
        passed = 0.0
        while not bench.turn():
            bench.clock.advance(1.0)
            passed += 1.0
            assert passed < 700
        return passed

    pauses = [pause() for _ in range(9)]
    assert 15 <= pauses[0] <= 31
    assert all(300 <= late <= 601 for late in pauses[-2:]), pauses
    assert bench.uplink.stats().stalls == 9 and bench.uplink.stats().repeated_batches == 18
    assert bench.turn(*mark(bench.spool, 0)) == [(Lane.NORMAL, 2)]
    assert 15 <= pause() <= 31


def test_damage_that_reading_the_spool_brings_to_light_leaves_nothing_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(SYNC)
    bench.fill(2)
    assert bench.turn() == [(Lane.NORMAL, 0), (Lane.NORMAL, 1)]
    read = bench.spool.batches

    def damaged(**wanted: Any) -> Any:
        monkeypatch.undo()
        bench.spool.lose_everything()
        bench.fill(4)
        return read(**wanted)

    reads = [damaged, read]
    monkeypatch.setattr(bench.spool, "batches", lambda **wanted: reads[wanted["lane"] is not Lane.NORMAL](**wanted))
    assert bench.turn() == [(Lane.NORMAL, 0)]
    assert bench.turn() == [(Lane.NORMAL, 1), (Lane.NORMAL, 2)], "batches of the old epoch take no room"


def test_what_a_slow_link_has_not_delivered_is_no_stall() -> None:
    bench = Bench(SyncConfig(in_flight=4, stall_s=15.0))
    bench.link.lagging = True
    bench.fill(2)
    assert len(bench.turn()) == 2
    for _ in range(100):
        bench.clock.advance(10.0)
        assert bench.turn() == []
    bench.link.catch_up()
    bench.clock.advance(14.0)
    assert bench.turn() == []
    bench.clock.advance(17.0)
    assert len(bench.turn()) == 2


def test_a_broker_that_takes_nothing_is_owed_a_bounded_number_of_bytes() -> None:
    bench = Bench(SyncConfig(in_flight=10_000, in_flight_bytes=1 << 20))
    bench.link.lagging = True
    bench.fill(500)
    bench.fill(500, Lane.BULK)
    for _ in range(20):
        bench.turn()
    assert SEND_AHEAD_BYTES <= bench.link.unacknowledged_bytes < SEND_AHEAD_BYTES + 2000


def test_a_critical_record_does_not_wait_behind_a_full_line() -> None:
    bench = Bench(SyncConfig(in_flight=10_000, in_flight_bytes=1 << 20))
    bench.link.lagging = True
    bench.fill(500)
    bench.turn()
    bench.fill(1, Lane.CRITICAL)
    assert bench.turn() == [(Lane.CRITICAL, 0)]


def test_the_window_is_bounded_in_bytes_too() -> None:
    bench = Bench(SyncConfig(in_flight=100, in_flight_bytes=500))
    bench.fill(50)
    while bench.turn():
        pass
    under_way = bench.uplink.stats()
    assert 500 <= under_way.in_flight_bytes < 650, "no more than one batch beyond it"
    assert len(bench.turn(*mark(bench.spool, 0))) == 1


def test_bulk_gets_its_share_of_a_narrow_link_and_normal_the_most() -> None:
    bench = Bench(SyncConfig(in_flight=3000, in_flight_bytes=1 << 20))
    for lane in (Lane.NORMAL, Lane.BULK):
        for _ in range(2000):
            bench.spool.append(outcome(), lane)
    sent: list[Lane] = []
    for _ in range(3):
        bench.link.lagging = True
        sent += [lane for lane, _ in bench.turn()]
        bench.link.catch_up()
    assert 3.5 < sent.count(Lane.NORMAL) / sent.count(Lane.BULK) < 4.5


def test_a_lane_that_was_silent_saves_up_no_turns() -> None:
    bench = Bench(SyncConfig(in_flight=1000, in_flight_bytes=1 << 20))
    for _ in range(300):
        bench.spool.append(outcome(), Lane.NORMAL)
    bench.turn()
    for lane in (Lane.NORMAL, Lane.BULK):
        for _ in range(300):
            bench.spool.append(outcome(), lane)
    bench.link.lagging = True
    sent = [lane for lane, _ in bench.turn()]
    assert Lane.NORMAL in sent[:3]


def test_a_used_up_budget_holds_all_but_the_critical_lane_until_it_refills() -> None:
    bench = Bench(SyncConfig(in_flight=100), budget_bytes=3600)
    bench.fill(30, Lane.BULK)
    bench.fill(30)
    bench.link.traffic_bytes = 3400
    sent = bench.turn()
    assert sent and all(lane is Lane.NORMAL for lane, _ in sent), "normal goes before bulk where bytes cost"
    assert len(sent) < 30
    assert bench.turn() == []
    bench.fill(2, Lane.CRITICAL)
    assert bench.turn() == [(Lane.CRITICAL, 0), (Lane.CRITICAL, 1)]
    stats = bench.uplink.stats()
    assert stats.over_budget_bytes > 0 and stats.metered and stats.budget_left_bytes is not None
    assert stats.stalls == 0
    bench.clock.advance(3600.0)
    assert bench.turn(), "it goes on by itself"


def test_waiting_for_the_budget_is_no_stall() -> None:
    bench = Bench(SyncConfig(in_flight=100, stall_s=1.0), budget_bytes=100)
    bench.fill(3)
    bench.link.traffic_bytes = 150
    for _ in range(20):
        bench.clock.advance(0.5)
        bench.turn()
    assert bench.uplink.stats().stalls == 0


def test_stopping_twice_is_harmless(uplink: Uplink) -> None:
    uplink.stop()
    uplink.stop()
