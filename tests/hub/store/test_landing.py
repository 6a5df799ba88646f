"""The landing table and its marks, on a real database."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from cloud_hub.store import events, landing, streams
from cloud_hub.store.database import Database
from cloud_hub.store.landing import LOST_PASSES, PASS_MS, Landing
from protos.contract import codec, ids
from protos.contract.telemetry import Batch, Lane, Mark, to_ms
from tests.hub.telemetry_parts import CAM, START, TENANT, batch


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'hub.db'}")
    database.migrate()
    yield database
    database.close()


def row(sent: Batch, *, at_ms: int = 0, payload: bytes | None = None) -> landing.Batch:
    payload = payload if payload is not None else codec.encode_batch(sent)
    head = sent.head
    return landing.Batch(
        tenant=TENANT,
        device=CAM,
        digest=ids.digest_of(payload),
        received_ms=to_ms(START) + at_ms,
        payload=payload,
        **head._asdict(),
    )


def land(db: Database, *sent: Batch, at_ms: int = 0) -> list[Landing]:
    with db.write() as tx:
        return landing.land_many(tx, [row(one, at_ms=at_ms) for one in sent])


def through(db: Database, epoch: str = "e1", lane: Lane = Lane.NORMAL) -> int | None:
    with db.read() as tx:
        found = [mark for mark in streams.marks(tx, CAM) if (mark.epoch, mark.lane) == (epoch, lane)]
    return found[0].committed_through if found else None


def told(db: Database) -> list[str]:
    with db.read() as tx:
        return [event.kind for event in events.newest(tx, TENANT, CAM, 100)]


def firsts(db: Database) -> Sequence[int]:
    with db.read() as tx:
        return list(tx.execute(select(landing.landing.c.first_sequence).order_by(landing.landing.c.first_sequence)).scalars())


def test_a_batch_lands_once_however_often_it_comes(db: Database) -> None:
    assert land(db, batch(0, events=1)) == [Landing.NEW]
    assert land(db, batch(0, events=1)) == [Landing.DUPLICATE]
    assert land(db, batch(0, events=1), batch(11), batch(11)) == [Landing.DUPLICATE, Landing.NEW, Landing.DUPLICATE]
    assert firsts(db) == [0, 11]
    assert told(db) == ["camera.moved"]
    assert through(db) == 20


def test_the_mark_waits_for_the_hole_and_then_passes_all_that_came_early(db: Database) -> None:
    assert land(db, batch(0), batch(20)) == [Landing.NEW, Landing.NEW]
    assert through(db) == 9
    land(db, batch(30), batch(40))
    assert through(db) == 9
    land(db, batch(10))
    assert through(db) == 49


def test_batches_of_one_group_may_come_in_any_order(db: Database) -> None:
    assert land(db, batch(20), batch(0), batch(10)) == [Landing.NEW] * 3
    assert through(db) == 29


def test_a_stream_whose_start_is_missing_has_no_mark(db: Database) -> None:
    land(db, batch(10))
    assert through(db) is None
    land(db, batch(0))
    assert through(db) == 19


def test_streams_do_not_touch_each_other(db: Database) -> None:
    land(db, batch(0), batch(0, epoch="e2"), batch(10, lane=Lane.BULK), batch(0, 5, lane=Lane.CRITICAL))
    with db.read() as tx:
        marks = set(streams.marks(tx, CAM))
    assert marks == {
        Mark(epoch="e1", lane=Lane.NORMAL, committed_through=9),
        Mark(epoch="e2", lane=Lane.NORMAL, committed_through=9),
        Mark(epoch="e1", lane=Lane.CRITICAL, committed_through=4),
    }


@pytest.mark.parametrize("known", ["stored", "stored behind a hole", "in the same group"])
def test_other_bytes_for_taken_sequences_are_a_conflict_and_change_nothing(db: Database, known: str) -> None:
    first = 10 if known == "stored behind a hole" else 0
    mine, other, overlapping = batch(first), batch(first, confidence=[0.5] * 10), batch(first + 5)
    if known == "in the same group":
        assert land(db, mine, other, overlapping) == [Landing.NEW, Landing.CONFLICT, Landing.CONFLICT]
    else:
        assert land(db, mine) == [Landing.NEW]
        assert land(db, other) == [Landing.CONFLICT]
        assert land(db, overlapping) == [Landing.CONFLICT]
    assert firsts(db) == [first]
    assert land(db, mine) == [Landing.DUPLICATE]


def test_a_device_that_lost_its_older_batches_to_another_hub_gets_a_mark_after_some_passes(db: Database) -> None:
    """The hub's database is new, the device's spool is not: it begins at 500 and will never send what is before."""
    held = [batch(500), batch(510)]
    land(db, *held)
    for number in range(1, LOST_PASSES):
        land(db, *held, at_ms=number * PASS_MS)
        assert through(db) is None
    land(db, *held, at_ms=LOST_PASSES * PASS_MS)
    assert through(db) == 519
    assert told(db) == ["telemetry.lost"]
    land(db, batch(520), at_ms=LOST_PASSES * PASS_MS)
    assert through(db) == 529


def test_redelivery_by_the_broker_does_not_give_a_hole_up(db: Database) -> None:
    land(db, batch(10))
    for number in range(20):
        land(db, batch(10), at_ms=number * 400)
    assert through(db) is None
    land(db, batch(0), at_ms=9000)
    assert through(db) == 19
    assert told(db) == []


def test_passes_count_from_anew_when_part_of_the_hole_arrives(db: Database) -> None:
    land(db, batch(30))
    for number in range(1, LOST_PASSES):
        land(db, batch(30), at_ms=number * PASS_MS)
    land(db, batch(0), at_ms=LOST_PASSES * PASS_MS)
    land(db, batch(30), at_ms=(LOST_PASSES + 1) * PASS_MS)
    assert through(db) == 9


def test_records_of_a_hole_that_was_given_up_are_stored_when_they_come_after_all(db: Database) -> None:
    for number in range(LOST_PASSES + 1):
        land(db, batch(20), at_ms=number * PASS_MS)
    assert through(db) == 29
    assert land(db, batch(5)) == [Landing.NEW]
    assert land(db, batch(5)) == [Landing.DUPLICATE]
    assert land(db, batch(8)) == [Landing.CONFLICT]
    assert (firsts(db), through(db)) == ([5, 20], 29)


def test_a_transaction_that_fails_leaves_nothing(db: Database) -> None:
    with pytest.raises(RuntimeError, match="power"), db.write() as tx:
        landing.land_many(tx, [row(batch(0, events=1))])
        raise RuntimeError("power cut")
    assert (firsts(db), through(db), told(db)) == ([], None, [])
    assert land(db, batch(0, events=1)) == [Landing.NEW]


def test_counters_tell_what_came(db: Database) -> None:
    land(db, batch(0, events=2), batch(12))
    land(db, batch(12))
    with db.read() as tx:
        stream = tx.execute(select(streams.streams)).one()
    assert (stream.batches, stream.records, stream.duplicates, stream.dropped) == (2, 22, 1, 0)
    assert stream.last_captured_ms == to_ms(START + timedelta(milliseconds=2100))
