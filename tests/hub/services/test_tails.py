"""Readings as they are stored: each once, to every watcher, however slow, on databases that number rows out of order."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud_hub.archive.files import LocalFiles
from cloud_hub.core.errors import Exhausted, Invalid, Unavailable
from cloud_hub.core.model import StoredReading
from cloud_hub.services import tails as service
from cloud_hub.services.tails import Tail
from cloud_hub.store import arrivals, fleet
from cloud_hub.store.arrivals import Arrival, Arrivals
from cloud_hub.store.database import Database, Tx
from protos.contract.ids import DeviceId
from tests.hub.archive.parts import Store
from tests.hub.fleet_parts import ADMIN, STRANGER, TENANT, Clock
from tests.hub.mqtt_parts import wait_for
from tests.hub.telemetry_parts import CAM, START, batch, publish

CAM2 = DeviceId("cam-2")


@pytest.fixture
def store(db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr(service, "POLL_S", 0.02)
    made = Store(db=db, files=LocalFiles(tmp_path / "archive"), folder=tmp_path)
    yield made
    made.readings.close()


class Watcher:
    """Takes what there is whenever it is woken, as the RPC does."""

    def __init__(self, store: Store, who: Any = ADMIN, **wanted: Any) -> None:
        self.woken = threading.Event()
        self.tail: Tail = store.readings.tail(who, self.woken.set, **wanted)
        self.heard: list[StoredReading] = []

    def listen(self) -> None:
        self.woken.clear()
        while page := self.tail.take():
            self.heard += page

    def hears(self, count: int) -> list[int]:
        """Waits for so many in all; their sequences."""

        def enough() -> bool:
            self.listen()
            return len(self.heard) >= count

        wait_for(enough, f"{count} readings")
        return [reading.sequence for reading in self.heard]


def test_what_lands_is_told_once_and_what_was_there_is_not(store: Store) -> None:
    publish(store.db, 1)
    store.land(batch(0))
    one, other = Watcher(store), Watcher(store)
    assert not one.tail.take()
    store.land(batch(10, 5, events=3), batch(18))
    store.land(batch(28, 0, events=2))
    for watcher in (one, other):
        assert watcher.hears(15) == [*range(10, 15), *range(18, 28)]
    assert {(reading.device, reading.label_name, reading.lane) for reading in one.heard[:1]} == {(CAM, "0", "normal")}
    store.land(batch(30))
    assert one.hears(25)[15:] == list(range(30, 40))


def test_a_tail_begins_with_the_last_readings(store: Store) -> None:
    for first in range(0, 100, 10):
        store.land(batch(first))
    store.land(batch(0), device=CAM2)
    watcher = Watcher(store, last=15, device=CAM)
    store.land(batch(100))
    assert watcher.hears(25) == list(range(85, 110))
    assert Watcher(store, last=0).tail.take() == []
    assert len(Watcher(store, last=1000).hears(120)) == 120


def test_a_watcher_hears_its_devices_only(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_SELECT_EVERY_S", 0.0)
    with store.db.write() as tx:
        fleet.add(tx, CAM, TENANT, "camera-x86", {"group": "doors"}, START)
    by_device, by_label = Watcher(store, device=CAM2), Watcher(store, selector={"group": "doors"})
    stranger, everybody = Watcher(store, STRANGER), Watcher(store)
    store.land(batch(0))
    store.land(batch(100), device=CAM2)
    assert sorted(everybody.hears(20)) == [*range(10), *range(100, 110)]
    assert (by_device.hears(10), by_label.hears(10)) == (list(range(100, 110)), list(range(10)))
    with store.db.write() as tx:
        fleet.add(tx, CAM2, TENANT, "camera-x86", {"group": "doors"}, START)
    polls = store.readings._tails._selected_s
    store.clock.advance(1)
    wait_for(lambda: store.readings._tails._selected_s > polls, "another look at the labels")
    store.land(batch(110), device=CAM2)
    assert by_label.hears(20)[10:] == list(range(110, 120))
    assert stranger.tail.take() == []
    with pytest.raises(Invalid):
        Watcher(store, selector={"Not A Key": "x"})


def test_many_watchers_look_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []
    poll = Arrivals.poll

    def counted(self: Arrivals, tx: Tx) -> list[Arrival]:
        looks.append(time.monotonic())
        return poll(self, tx)

    watchers = [Watcher(store) for _ in range(20)]
    monkeypatch.setattr(Arrivals, "poll", counted)
    wait_for(lambda: len(looks) >= 5, "five looks")
    assert looks[4] - looks[0] >= 4 * service.POLL_S * 0.9, "one look a turn, not one for each watcher"
    store.land(batch(0))
    for watcher in watchers:
        assert watcher.hears(10) == list(range(10))


def test_a_slow_watcher_holds_up_nobody_and_misses_nothing(store: Store) -> None:
    slow, fast = Watcher(store), Watcher(store)
    for first in range(0, 2000, 100):
        store.land(batch(first, 100))
    assert fast.hears(2000) == list(range(2000))
    assert not slow.tail._ready, "what nobody has asked for is not in memory"
    assert slow.hears(2000) == list(range(2000))


def test_a_watcher_that_is_too_slow_is_told_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MAX_PENDING", 3)
    slow, fast = Watcher(store), Watcher(store)
    for first in range(0, 100, 10):
        store.land(batch(first))
        assert len(fast.hears(first + 10)) == first + 10
    with pytest.raises(Exhausted, match="before they could be told"):
        slow.listen()


def test_a_watcher_is_told_when_readings_were_archived_before_it_took_them(store: Store) -> None:
    slow = Watcher(store)
    store.land(batch(0))
    store.land(batch(10))
    assert slow.woken.wait(20)
    wait_for(lambda: len(slow.tail._pending) == 2, "both batches")
    store.archive()
    with pytest.raises(Exhausted, match="query them instead"):
        slow.hears(20)
    assert [reading.sequence for reading in slow.heard] == list(range(10, 20)), "what is still there is told first"


def test_nothing_is_told_twice_when_the_landing_empties_and_fills_again(store: Store) -> None:
    watcher = Watcher(store)
    for first in range(0, 100, 10):
        store.land(batch(first))
        watcher.hears(first + 10)
        store.archive()
    assert [reading.sequence for reading in watcher.heard] == list(range(100))


def test_the_thread_ends_with_the_last_watcher_and_comes_again(store: Store) -> None:
    def threads() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "tails"]

    watchers = [Watcher(store), Watcher(store)]
    [thread] = threads()
    for watcher in watchers:
        watcher.tail.close()
    wait_for(lambda: not thread.is_alive(), "the end of the thread")
    again = Watcher(store)
    store.land(batch(0))
    assert again.hears(10) == list(range(10))


def test_a_database_that_is_away_for_a_moment_costs_no_reading(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    watcher, away, real = Watcher(store), [True, True], Arrivals.poll

    def poll(self: Arrivals, tx: Tx) -> list[Arrival]:
        if away:
            away.pop()
            raise Unavailable("the server is being started again")
        return real(self, tx)

    monkeypatch.setattr(Arrivals, "poll", poll)
    store.land(batch(0))
    wait_for(lambda: not away, "the database to be back")
    store.land(batch(10))
    assert watcher.hears(20) == list(range(20))


@pytest.mark.parametrize("database_kind", ["postgres"])
def test_what_a_look_has_seen_that_failed_is_told_by_the_next(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(self: Arrivals, tx: Tx) -> None:
        raise Unavailable("the server is being started again")

    looking = Arrivals(Clock(), parallel=True)
    with store.db.read() as tx:
        looking.begin(tx)
    store.land(batch(0))
    with monkeypatch.context() as patched, store.db.read() as tx:
        patched.setattr(Arrivals, "_settle", away)
        with pytest.raises(Unavailable):
            looking.poll(tx)
    with store.db.read() as tx:
        assert len(looking.poll(tx)) == 1


def test_a_bug_in_the_looking_ends_the_tails_and_says_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Arrivals, tx: Tx) -> list[Arrival]:
        raise ZeroDivisionError

    watcher = Watcher(store)
    with monkeypatch.context() as patched:
        patched.setattr(Arrivals, "poll", broken)
        with pytest.raises(Exhausted, match="tail again"):
            watcher.hears(1)
    watcher.tail.close()
    again = Watcher(store)
    store.land(batch(0))
    assert again.hears(10) == list(range(10))


def test_too_many_watchers_are_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MAX_TAILS", 2)
    first = Watcher(store)
    Watcher(store)
    with pytest.raises(Exhausted, match="end one first"):
        Watcher(store)
    first.tail.close()
    Watcher(store)


def test_a_hub_that_stops_ends_its_tails(store: Store) -> None:
    watcher = Watcher(store)
    store.readings.close()
    assert watcher.woken.wait(20)
    with pytest.raises(Exhausted, match="stops"):
        watcher.listen()


@pytest.mark.parametrize("database_kind", ["postgres"])
def test_a_batch_committed_long_after_its_number_was_taken_is_told(store: Store, database_url: str) -> None:
    """An ingest process that is stopped between its insert and its commit, while others go on."""
    watcher = Watcher(store)
    stopped = Database(database_url)
    context = stopped.append()
    tx = context.__enter__()
    store.telemetry.land_many(tx, [store.incoming(batch(0), CAM2)])
    for first in range(0, 100, 10):
        with store.db.append() as other:
            store.telemetry.land_many(other, [store.incoming(batch(first))])
        watcher.hears(first + 10)
        store.clock.advance(60)
    late = Watcher(store)
    assert {reading.device for reading in watcher.heard} == {CAM}
    context.__exit__(None, None, None)
    watcher.hears(110)
    assert {reading.device for reading in late.heard} <= {CAM2}
    assert late.hears(10) == list(range(10))
    store.land(batch(100))
    watcher.hears(120)
    assert len({(reading.device, reading.sequence) for reading in watcher.heard}) == len(watcher.heard) == 120
    stopped.close()


@pytest.mark.parametrize("database_kind", ["postgres"])
def test_processes_that_land_at_once_are_all_heard(store: Store, database_url: str) -> None:
    watcher = Watcher(store)
    devices = [DeviceId(f"cam-{n}") for n in range(4)]

    def land(device: DeviceId) -> None:
        own = Database(database_url)
        for first in range(0, 300, 10):
            with own.append() as tx:
                store.telemetry.land_many(tx, [store.incoming(batch(first), device)])
        own.close()

    writers = [threading.Thread(target=land, args=(device,)) for device in devices]
    for writer in writers:
        writer.start()
    watcher.hears(1200)
    for writer in writers:
        writer.join(20)
    watcher.listen()
    heard = sorted((reading.device, reading.sequence) for reading in watcher.heard)
    assert heard == [(device, n) for device in devices for n in range(300)]


@pytest.mark.parametrize("database_kind", ["postgres"])
def test_what_was_told_is_forgotten_once_nothing_can_come_before_it(store: Store, database_url: str) -> None:
    clock = Clock()
    looking = Arrivals(clock, parallel=True)
    with store.db.read() as tx:
        looking.begin(tx)
    stopped = Database(database_url)
    context = stopped.append()
    store.telemetry.land_many(context.__enter__(), [store.incoming(batch(0), CAM2)])
    for first in range(0, 50, 10):
        store.land(batch(first))
        with store.db.read() as tx:
            assert len(looking.poll(tx)) == 1
        clock.advance(10)
    assert len(looking._seen) == 5
    context.__exit__(None, None, None)
    for _ in range(3):
        with store.db.read() as tx:
            looking.poll(tx)
        clock.advance(10)
    assert not looking._seen
    stopped.close()


@pytest.mark.parametrize("database_kind", ["postgres"])
def test_a_transaction_that_stands_open_for_ever_ends_the_tails(
    store: Store, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "MAX_REMEMBERED", 3)
    watcher = Watcher(store)
    stopped = Database(database_url)
    context = stopped.append()
    store.telemetry.land_many(context.__enter__(), [store.incoming(batch(0), CAM2)])
    for first in range(0, 50, 10):
        store.land(batch(first))
    with pytest.raises(Exhausted, match="open in the database"):
        watcher.hears(1000)
    context.__exit__(None, None, None)
    stopped.close()
