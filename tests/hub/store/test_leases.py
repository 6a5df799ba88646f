"""Terms of leadership: what a hub writes that has lost the lead is refused, in every kind of transaction."""

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from cloud_hub.core.errors import Fenced, Unavailable
from cloud_hub.store import claim, leases
from cloud_hub.store.database import Database
from cloud_hub.store.leases import Lease
from tests.hub.databases import PostgresServer
from tests.hub.fleet_parts import START
from tests.hub.mqtt_parts import wait_for
from tests.hub.store.test_database import names, put

only_postgres = pytest.mark.parametrize("database_kind", ["postgres"], indirect=True)


@pytest.fixture
def hubs(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Database, Database]]:
    monkeypatch.setattr(claim, "WATCH_S", 0.05)
    pair = Database(database_url), Database(database_url)
    yield pair
    for db in pair:
        db.close()


def lead(db: Database, holder: str = "somebody") -> Lease:
    return db.lead(holder=holder, authority="sha256:root", at=START)


def test_every_term_has_an_epoch_above_all_before(hubs: tuple[Database, Database]) -> None:
    assert [lead(hubs[number]).epoch for number in (0, 1, 1, 0)] == [1, 2, 3, 4]
    with hubs[0].read() as tx:
        assert leases.newest(tx) == Lease(epoch=4, holder="somebody", authority="sha256:root", taken_at=START)


def test_nobody_has_led_a_new_database(db: Database) -> None:
    with db.read() as tx:
        assert (leases.newest(tx), leases.epoch(tx)) == (None, 0)


def test_a_hub_that_lost_the_lead_writes_nothing_and_may_still_read(hubs: tuple[Database, Database]) -> None:
    old, new = hubs
    lead(old)
    with old.write() as tx:
        put(tx, "in-the-first-term")
    lead(new)
    for transaction in (old.write, old.append):
        with pytest.raises(Fenced, match="term 2"), transaction() as tx:
            put(tx, "too-late")
    with new.append() as tx:
        put(tx, "in-the-second-term")
    assert names(old) == ["in-the-first-term", "in-the-second-term"]


def test_a_process_that_never_led_writes_in_every_term(hubs: tuple[Database, Database]) -> None:
    hub, replica = hubs
    lead(hub)
    with replica.append() as tx:
        put(tx, "by-a-replica")
    assert names(hub) == ["by-a-replica"]


def test_a_worker_writes_in_the_term_of_its_hub_only(hubs: tuple[Database, Database], database_url: str) -> None:
    worker = Database(database_url, epoch=lead(hubs[0]).epoch)
    with worker.write() as tx:
        put(tx, "progress")
    lead(hubs[1])
    with pytest.raises(Fenced), worker.write() as tx:
        put(tx, "too-late")
    worker.close()


@pytest.mark.parametrize("kind", ["write", "append"])
def test_a_term_begins_once_every_writer_of_the_one_before_has_ended(hubs: tuple[Database, Database], kind: str) -> None:
    old, new = hubs
    lead(old)
    begun = threading.Event()

    def begin() -> None:
        lead(new)
        begun.set()

    with (old.write if kind == "write" else old.append)() as tx:
        put(tx, "just-in-time")
        thread = threading.Thread(target=begin)
        thread.start()
        assert not begun.wait(0.3)
    assert begun.wait(30)
    thread.join()
    assert names(new) == ["just-in-time"]
    with pytest.raises(Fenced), old.write():
        pytest.fail("it leads no more")


@only_postgres
def test_a_lock_that_comes_back_is_worth_nothing_if_somebody_led_meanwhile(
    hubs: tuple[Database, Database], postgres_server: PostgresServer
) -> None:
    one, other = hubs
    lost = threading.Event()
    with one.claim(lost.set):
        lead(one)
        _end_session(one, postgres_server)
        wait_for(lambda: _holders(one), "the lock to be taken again")
        assert not lost.wait(0.3), "nobody led meanwhile"
        lead(other)  # as one that led and ended between two looks
        _end_session(one, postgres_server)
        assert lost.wait(20)


@only_postgres
def test_a_hub_that_is_silent_is_deposed(hubs: tuple[Database, Database], monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = hubs
    lost, waited = threading.Event(), []
    monkeypatch.setattr(claim, "WATCH_S", 1.5)  # the first looks too seldom for the second
    monkeypatch.setattr(claim, "SILENT_S", 0.5)
    with one.claim(lost.set):
        lead(one)

        def wait(leader: str) -> bool:
            waited.append(leader)
            return True

        with other.claim(pytest.fail, wait):
            lead(other)
            with pytest.raises((Fenced, Unavailable)), one.write():
                pytest.fail("two hubs")
            assert lost.wait(20)
    assert waited and all("cloud-hub" in leader for leader in waited)


@only_postgres
def test_whoever_stands_by_is_asked_until_the_place_is_free(hubs: tuple[Database, Database]) -> None:
    one, other = hubs

    class Enough(Exception):
        pass

    asked = []

    def wait(leader: str) -> bool:
        asked.append(leader)
        if len(asked) == 3:
            raise Enough
        return True

    with one.claim(pytest.fail), pytest.raises(Enough), other.claim(pytest.fail, wait):
        pytest.fail("two hubs")
    with other.claim(pytest.fail, wait):
        pass
    assert len(asked) == 3


@only_postgres
def test_after_the_server_was_away_the_hub_that_led_leads_on(
    hubs: tuple[Database, Database], postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = hubs
    monkeypatch.setattr(claim, "WATCH_S", 1.0)
    waited: list[str] = []
    stopping = threading.Event()

    class Stopped(Exception):
        pass

    def wait(leader: str) -> bool:
        waited.append(leader)
        if stopping.is_set():
            raise Stopped
        return True

    def stand_by() -> None:
        with pytest.raises(Stopped), other.claim(pytest.fail, wait):
            pytest.fail("it took the place of a hub that lives")

    with one.claim(pytest.fail):
        lead(one)
        thread = threading.Thread(target=stand_by)
        thread.start()
        wait_for(lambda: waited, "a hub that stands by")
        before = _holders(one)
        postgres_server.crash(before[0])
        wait_for(lambda: _answers(one) and _holders(one) not in ([], before), "the lock to be taken again", 30.0)
        seen = len(waited)
        wait_for(lambda: len(waited) > seen + 5, "looks of the hub that stands by")
        with one.write() as tx:
            put(tx, "in-the-same-term")
        stopping.set()
        thread.join(30)
        assert not thread.is_alive()


def _answers(db: Database) -> bool:
    try:
        with db.read():
            return True
    except Unavailable:
        return False


def _holders(db: Database) -> list[int]:
    query = text("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = :key AND granted")
    with db.read() as tx:
        return list(tx.execute(query, {"key": claim._KEY}).scalars())


def _end_session(db: Database, server: PostgresServer) -> None:
    server.execute(f"SELECT pg_terminate_backend({_holders(db)[0]}, 5000)")
