"""The landing table and its marks, on real databases."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import delete, event, select

from cloud_hub.store import events, landing, losses, progress, quarantine, streams
from cloud_hub.store.database import Database
from cloud_hub.store.landing import Landing
from cloud_hub.store.progress import LOST_PASSES, PASS_MS
from cloud_hub.store.streams import StreamKey
from protos.contract import codec, ids, topics
from protos.contract.ids import DeviceId
from protos.contract.telemetry import Batch, Lane, Mark, to_ms
from tests.hub.telemetry_parts import CAM, START, TENANT, batch

STREAM = StreamKey(CAM, "e1", Lane.NORMAL)


def row(sent: Batch, *, at_ms: int = 0, device: DeviceId = CAM) -> landing.Batch:
    payload = codec.encode_batch(sent)
    head = sent.head
    return landing.Batch(
        tenant=TENANT,
        device=device,
        digest=ids.digest_of(payload),
        received_ms=to_ms(START) + at_ms,
        payload=payload,
        **head._asdict(),
    )


def land(db: Database, *sent: Batch, at_ms: int = 0) -> list[Landing]:
    with db.append() as tx:
        return landing.land_many(tx, [row(one, at_ms=at_ms) for one in sent])


def poison(db: Database, *, at_ms: int, lane: Lane = Lane.NORMAL) -> None:
    """A batch of the device that cannot be used goes to quarantine, for the first time or again."""
    with db.write() as tx:
        quarantine.add(tx, TENANT, topics.telemetry(TENANT, CAM, lane), b"poison", "bad", to_ms(START) + at_ms)


def holds(db: Database, oldest: int, stream: StreamKey = STREAM) -> None:
    with db.write() as tx:
        landing.device_holds(tx, TENANT, {stream: oldest}, to_ms(START))


def lost(db: Database, stream: StreamKey = STREAM) -> list[tuple[int, int]]:
    with db.read() as tx:
        return losses.within(tx, stream, 0, 1 << 62)


def unfolded(db: Database, limit: int = 100) -> list[int]:
    with db.read() as tx:
        return [one.first_sequence for one in landing.unfolded(tx, limit)]


def fold(db: Database, through: int, stream: StreamKey = STREAM) -> None:
    with db.write() as tx:
        landing.fold_through(tx, {stream: through})


def archive(db: Database) -> None:
    """As the compactor leaves it: what is folded is gone from here."""
    c, s = landing.landing.c, streams.streams.c
    with db.write() as tx:
        through = tx.execute(select(s.folded_through)).scalar_one()
        tx.execute(delete(landing.landing).where(c.last_sequence <= through))


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


def test_batches_without_readings_land_like_others(db: Database) -> None:
    assert land(db, batch(0, 0, events=2), batch(2, 0, events=1)) == [Landing.NEW] * 2
    assert through(db) == 2


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


def test_a_hub_that_was_restored_from_a_backup_goes_on_where_the_device_does(db: Database) -> None:
    """The hub's database ends at 9, the device has forgotten what is before 500 and holds the rest."""
    land(db, batch(0))
    land(db, batch(500), batch(510))
    assert through(db) == 9
    holds(db, 500)
    assert (through(db), lost(db), told(db)) == (519, [(10, 499)], ["telemetry.lost"])
    holds(db, 500)
    assert told(db) == ["telemetry.lost"], "said once"
    land(db, batch(520))
    assert through(db) == 529


def test_a_new_hub_takes_a_stream_that_has_been_running_for_long(db: Database) -> None:
    holds(db, 500)
    assert (through(db), lost(db)) == (499, [(0, 499)])
    assert land(db, batch(500)) == [Landing.NEW]
    assert through(db) == 509
    assert unfolded(db) == [500]


def test_only_the_holes_are_lost_not_what_was_stored_between_them(db: Database) -> None:
    land(db, batch(0), batch(20), batch(40), batch(60))
    holds(db, 50)
    assert lost(db) == [(10, 19), (30, 39)]
    assert through(db) == 49
    holds(db, 60)
    assert through(db) == 69
    with db.read() as tx:
        details = [event.detail for event in events.newest(tx, TENANT, CAM, 100)]
    assert details == ["10 records of epoch e1, lane normal: 50..59", "20 records of epoch e1, lane normal: 10..39"]


def test_a_device_that_holds_everything_loses_nothing(db: Database) -> None:
    land(db, batch(0), batch(20))
    for oldest in (0, 5, 10):
        holds(db, oldest)
    assert (through(db), lost(db), told(db)) == (9, [], [])


def test_a_hole_before_a_batch_in_quarantine_is_given_up_after_some_passes(db: Database) -> None:
    poison(db, at_ms=0)
    land(db, batch(10), at_ms=0)
    for number in range(1, LOST_PASSES):
        poison(db, at_ms=number * PASS_MS)
        land(db, batch(10), at_ms=number * PASS_MS)
        assert through(db) is None
    poison(db, at_ms=LOST_PASSES * PASS_MS)
    land(db, batch(10), at_ms=LOST_PASSES * PASS_MS)
    assert (through(db), lost(db), told(db)) == (19, [(0, 9)], ["telemetry.lost"])
    assert unfolded(db) == [10]


@pytest.mark.parametrize("evidence", ["none", "old", "of another lane"])
def test_a_hole_that_another_process_may_fill_is_never_given_up(db: Database, evidence: str) -> None:
    """A replica that was stopped sits on the first batch; the device sends what is behind it again and again."""
    if evidence == "old":
        poison(db, at_ms=-1)
    land(db, batch(10))
    for number in range(1, 5 * LOST_PASSES):
        if evidence == "of another lane":
            poison(db, at_ms=number * PASS_MS, lane=Lane.BULK)
        land(db, batch(10), at_ms=number * PASS_MS)
    assert (through(db), lost(db)) == (None, [])
    land(db, batch(0), at_ms=100 * PASS_MS)
    assert through(db) == 19


def test_redelivery_by_the_broker_does_not_give_a_hole_up(db: Database) -> None:
    land(db, batch(10))
    for number in range(20):
        poison(db, at_ms=number * 400)
        land(db, batch(10), at_ms=number * 400)
    assert through(db) is None
    land(db, batch(0), at_ms=9000)
    assert through(db) == 19
    assert told(db) == []


def test_a_clock_that_is_put_back_does_not_hold_up_the_passes(db: Database) -> None:
    year_ms = 365 * 86_400_000
    land(db, batch(10), at_ms=year_ms)
    for number in range(1, LOST_PASSES + 2):
        poison(db, at_ms=number * PASS_MS)
        land(db, batch(10), at_ms=number * PASS_MS)
    assert (through(db), lost(db)) == (19, [(0, 9)])


def test_passes_count_from_anew_when_part_of_the_hole_arrives(db: Database) -> None:
    land(db, batch(30))
    for number in range(1, LOST_PASSES):
        poison(db, at_ms=number * PASS_MS)
        land(db, batch(30), at_ms=number * PASS_MS)
    land(db, batch(0), at_ms=LOST_PASSES * PASS_MS)
    poison(db, at_ms=(LOST_PASSES + 1) * PASS_MS)
    land(db, batch(30), at_ms=(LOST_PASSES + 1) * PASS_MS)
    assert through(db) == 9


def test_records_of_a_hole_that_was_given_up_are_stored_when_they_come_after_all(db: Database) -> None:
    land(db, batch(20))
    holds(db, 20)
    assert through(db) == 29
    assert land(db, batch(5)) == [Landing.NEW]
    assert land(db, batch(5)) == [Landing.DUPLICATE]
    assert land(db, batch(8)) == [Landing.CONFLICT]
    assert (firsts(db), through(db), lost(db)) == ([5, 20], 29, [(0, 4), (15, 19)])
    fold(db, 29)
    archive(db)
    assert land(db, batch(5)) == [Landing.DUPLICATE], "though its row is in the archive"
    assert land(db, batch(0, 5)) == [Landing.NEW]
    assert land(db, batch(15, 5)) == [Landing.NEW]
    assert (lost(db), unfolded(db)) == ([], [])


def test_what_is_archived_is_known_by_the_mark(db: Database) -> None:
    land(db, batch(0), batch(10), batch(20))
    fold(db, 19)
    archive(db)
    assert firsts(db) == [20]
    assert land(db, batch(0), batch(10), batch(20), batch(30)) == [Landing.DUPLICATE] * 3 + [Landing.NEW]
    assert land(db, batch(35)) == [Landing.CONFLICT]
    assert (firsts(db), through(db)) == ([20, 30], 39)


def test_a_batch_is_unfolded_once_everything_before_it_is_stored(db: Database) -> None:
    land(db, batch(20), batch(10))
    assert unfolded(db) == []
    land(db, batch(0), batch(40))
    assert unfolded(db) == [0, 10, 20]
    fold(db, 19)
    assert unfolded(db) == [20]
    land(db, batch(30))
    assert unfolded(db) == [20, 30, 40]
    fold(db, 1 << 62)
    assert unfolded(db) == []
    land(db, batch(50))
    assert unfolded(db) == [50]


def test_landing_does_not_move_what_has_been_folded(db: Database) -> None:
    land(db, batch(0))
    fold(db, 9)
    land(db, batch(10))
    land(db, batch(10))
    fold(db, 3)
    with db.write() as tx:
        assert landing.folded(tx, [STREAM]) == {STREAM: 9}
    assert unfolded(db) == [10]


def test_folding_passes_what_is_lost(db: Database) -> None:
    land(db, batch(0), batch(20))
    holds(db, 30)
    assert unfolded(db) == [0, 20]
    fold(db, 9)
    assert unfolded(db) == [20]
    fold(db, 29)
    holds(db, 40)
    assert (through(db), unfolded(db)) == (39, [])
    with db.write() as tx:
        assert landing.folded(tx, [STREAM]) == {STREAM: 39}, "no stream waits for batches that there are not"


def test_one_stream_with_much_to_fold_does_not_hold_the_others_up(db: Database) -> None:
    land(db, *(batch(number * 10) for number in range(50)), at_ms=1)
    land(db, batch(0, epoch="e2"), batch(10, epoch="e2"), batch(0, lane=Lane.BULK), at_ms=2)
    with db.read() as tx:
        found = landing.unfolded(tx, 10)
    assert len(found) <= 10
    by_stream = {
        stream: [one.first_sequence for one in found if one.stream == stream] for stream in {one.stream for one in found}
    }
    assert by_stream[StreamKey(CAM, "e2", Lane.NORMAL)] == [0, 10]
    assert by_stream[StreamKey(CAM, "e1", Lane.BULK)] == [0]
    assert by_stream[STREAM] == [0, 10, 20, 30]


def test_a_stream_of_nothing_but_holes_is_held_back_until_they_are_filled(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "MAX_EARLY", 3)
    for first in (20, 40, 60):
        assert land(db, batch(first)) == [Landing.NEW]
    assert land(db, batch(90), batch(5, 5), batch(70)) == [Landing.DEFERRED, Landing.DEFERRED, Landing.NEW]
    assert land(db, batch(10), batch(0, 5), batch(90)) == [Landing.NEW, Landing.NEW, Landing.DEFERRED]
    assert land(db, batch(5, 5), batch(90)) == [Landing.NEW, Landing.DEFERRED]
    assert through(db) == 29
    assert land(db, batch(90)) == [Landing.NEW]


def test_processes_that_land_at_once_lose_no_batch_no_count_and_never_wait_for_each_other_in_a_circle(db: Database) -> None:
    """Each takes every third batch of all streams, in an order of its own, in groups that overlap; some come twice."""
    devices = [DeviceId(f"cam-{number}") for number in range(6)]
    rows = [row(batch(number * 10, epoch="e9"), device=device) for number in range(30) for device in devices]

    def replica(number: int) -> None:
        own = rows[number::3] + rows[number::7]
        own.sort(key=lambda batch: (hash((batch.device, number)), batch.first_sequence))
        for start in range(0, len(own), 10):
            with db.append() as tx:
                landing.land_many(tx, own[start : start + 10])

    with ThreadPoolExecutor(3) as replicas:
        list(replicas.map(replica, range(3)))
    with db.read() as tx:
        found = tx.execute(select(streams.streams).order_by(streams.streams.c.device)).all()
        unfolded = landing.unfolded(tx, 1000)
    assert [(one.device, one.committed_through, one.batches, one.records, one.early) for one in found] == [
        (device, 299, 30, 300, []) for device in devices
    ]
    assert sum(one.duplicates for one in found) == sum(len(rows[number::7]) for number in range(3))
    for device in devices:
        assert [one.first_sequence for one in unfolded if one.device == device] == list(range(0, 300, 10))


@pytest.mark.parametrize("database_kind", ["postgres"], indirect=True)
def test_no_landing_leaves_the_server_in_the_middle_of_a_pipeline(db: Database) -> None:
    """A process that is stopped there is not idle to the server, which would keep its locks for ever."""
    many = []

    def seen(
        _connection: object, _cursor: object, statement: str, _values: object, _context: object, executemany: bool
    ) -> None:
        if executemany:
            many.append(statement)

    with db.append() as tx:
        event.listen(tx, "before_cursor_execute", seen)
        rows = [row(batch(0, events=3), device=DeviceId(f"cam-{number}")) for number in range(20)]
        assert set(landing.land_many(tx, rows)) == {Landing.NEW}
    assert many == []


def test_a_transaction_that_fails_leaves_nothing(db: Database) -> None:
    with pytest.raises(RuntimeError, match="power"), db.append() as tx:
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
