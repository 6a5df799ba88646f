"""What the uplink sends and when it goes back, without a network."""

import queue
import threading
from collections.abc import Callable, Iterator

import pytest

from edge_agent.core.clock import SystemClock
from edge_agent.core.config import SpoolConfig, SyncConfig
from edge_agent.core.errors import LinkDown
from edge_agent.sync.uplink import Uplink
from protos.contract.codec import decode_batch
from protos.contract.telemetry import Lane, Mark
from tests.agent.fakes_spool import MemorySpool
from tests.agent.spool.parts import outcome

SYNC = SyncConfig(in_flight=3, stall_s=60.0)


class FakeLink:
    def __init__(self) -> None:
        self.connected = True
        self.taken: queue.Queue[tuple[Lane, bytes]] = queue.Queue()
        self.refusing = False
        self.refused = threading.Event()
        self.watermark: Callable[[tuple[Mark, ...]], None]
        self.reconnect: Callable[[], None]

    def publish_telemetry(self, lane: Lane, payload: bytes) -> None:
        if self.refusing:
            self.refused.set()
            raise LinkDown("not now")
        self.taken.put((lane, payload))

    def on_watermark(self, listener: Callable[[tuple[Mark, ...]], None]) -> None:
        self.watermark = listener

    def on_connected(self, listener: Callable[[], None]) -> None:
        self.reconnect = listener

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


def test_stopping_twice_is_harmless(uplink: Uplink) -> None:
    uplink.stop()
    uplink.stop()
