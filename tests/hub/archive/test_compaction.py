"""From landing to files, and many files to few: every reading in exactly one place."""

import contextlib
import logging
from collections import Counter
from datetime import timedelta

import numpy as np
import pyarrow.parquet as pq
import pytest

from cloud_hub.archive import merging, parquet
from cloud_hub.archive.files import LocalFiles
from cloud_hub.core.errors import Conflict, NotFound, NotReady
from cloud_hub.store import archive as archive_store
from cloud_hub.store.archive import ArchiveFile, Kind
from cloud_hub.store.database import Tx
from cloud_hub.store.landing import landing
from protos.contract import codec
from protos.contract.ids import DeviceId
from protos.contract.telemetry import Batch, Gap, InferenceTable, Lane, Window, to_ms
from tests.hub.archive.parts import Store, landed_rows
from tests.hub.fleet_parts import ADMIN, STRANGER
from tests.hub.telemetry_parts import CAM, START, batch, manifest

CAM2 = DeviceId("cam-2")
DAY = timedelta(days=1)


def scattered(first: int, days: int, *, epoch: str = "e1") -> Batch:
    """A reading of each of so many days."""
    made = batch(first, days, epoch=epoch).inferences
    times = to_ms(START) + 86_400_000 * np.arange(days, dtype="<i8")
    table = InferenceTable(**{name: getattr(made, name) for name in made.__dataclass_fields__} | {"captured_at_ms": times})
    return Batch(epoch=epoch, lane=Lane.NORMAL, first_sequence=first, last_sequence=first + days - 1, inferences=table)


def test_a_query_says_the_same_before_and_after(store: Store) -> None:
    store.land(*(batch(first, 10, labels=range(10), events=1) for first in range(0, 110, 11)))
    store.land(batch(0, 50, step_ms=3_600_000, lane=Lane.BULK), device=CAM2)  # two days
    before = store.all()
    assert len(before) == 150
    store.archive()
    assert landed_rows(store.db) == 1
    assert store.all() == before
    assert {path.rsplit("/", 1)[0] for path in store.paths()} == {
        f"{kind}/tenant=default/day=2026-03-01" for kind in ("readings", "events")
    }
    store.land(batch(50, 10, lane=Lane.BULK), device=CAM2)
    store.archive()
    assert len(store.paths()) == 5  # now the two days of the other device too
    assert [one for one in store.all() if one.device == CAM] == [one for one in before if one.device == CAM]


def test_only_what_is_folded_and_old_enough_goes(local: Store) -> None:
    local.land(batch(0), batch(20))  # a hole between them
    local.land(batch(0, lane=Lane.BULK))
    local.clock.advance(1000)
    local.land(batch(10, lane=Lane.BULK), batch(20, lane=Lane.BULK))
    local.upkeep.tick()
    assert (landed_rows(local.db), local.paths()) == (5, set())  # nobody has folded anything
    local.fold()
    local.upkeep.tick()
    assert landed_rows(local.db) == 3  # one is behind a hole, two are young
    assert len(local.identities()) == 50


def test_the_last_row_stays_so_that_numbers_go_on_growing(local: Store) -> None:
    local.land(batch(0))
    local.land(batch(10))
    local.archive()
    assert landed_rows(local.db) == 1
    local.land(batch(20))
    with local.db.read() as tx:
        assert tx.exec_driver_sql("SELECT max(id) FROM landing").scalar_one() == 3
    local.archive()
    assert len(local.identities()) == 30


def test_files_are_sorted_and_small_and_keep_every_field(local: Store) -> None:
    labels, confidence = np.arange(300) % 7, np.linspace(0, 1, 300)
    local.land(batch(0, 300, labels=labels, confidence=confidence), device=CAM2)
    local.land(batch(0, 300, labels=labels, confidence=confidence))
    local.land(batch(300))
    sent = local.all()[:300]
    local.archive()
    [path] = local.paths()
    table = pq.read_table(local.files.root + path)
    assert table.schema.equals(parquet.SCHEMAS[Kind.READINGS])
    rows = table.to_pylist()
    assert [(row["device"], row["sequence"]) for row in rows] == [(d, n) for d in (CAM, CAM2) for n in range(300)]
    one, kept = sent[7], rows[7]
    assert (kept["captured_at"], kept["label"], kept["model"]) == (one.captured_at, one.label, manifest("digits", 1))
    assert (kept["confidence"], kept["lane"], kept["epoch"]) == (one.confidence, 2, "e1")
    assert kept["received_at"] == START
    statistics = pq.ParquetFile(local.files.root + path).metadata.row_group(0).column(0).statistics
    assert (statistics.min, statistics.max) == (CAM, CAM2)


def test_windows_events_and_gaps_have_files_of_their_own(local: Store) -> None:
    window = Window(sequence=0, stream="busy", start=START, end=START + DAY, readings=9, values=(("mean", 0.5),), key="label=7")
    gap = Gap(first_sequence=1, last_sequence=9, reason="spool full", at=START)
    both = Batch(epoch="e1", lane=Lane.NORMAL, first_sequence=0, last_sequence=9, windows=(window,), gaps=(gap,))
    local.land(both, batch(10, events=2))
    local.land(batch(22))
    local.archive()
    found = {path.split("/")[0]: pq.read_table(local.files.root + path).to_pylist() for path in local.paths()}
    assert set(found) == {"windows", "events", "gaps", "readings"}
    assert [(row["sequence"], row["kind"]) for row in found["events"]] == [(20, "camera.moved"), (21, "camera.moved")]
    [told] = found["windows"]
    assert (told["stream"], told["key"], told["values"], told["readings"]) == ("busy", "label=7", [("mean", 0.5)], 9)
    assert (told["start_at"], told["end_at"], told["complete"]) == (START, START + DAY, True)
    [dropped] = found["gaps"]
    assert (dropped["sequence"], dropped["last_sequence"], dropped["reason"]) == (1, 9, "spool full")


def test_a_batch_of_events_only_has_no_file_of_readings(local: Store) -> None:
    local.land(batch(0, 0, events=3), batch(3))
    local.archive()
    assert (landed_rows(local.db), [path.split("/")[0] for path in local.paths()]) == (1, ["events"])
    assert len(local.telemetry.events(STRANGER)) == 0 and len(local.identities()) == 10


def test_a_clock_that_jumps_makes_no_more_than_a_bounded_number_of_files(local: Store) -> None:
    local.land(scattered(0, 500), batch(500, 40))
    local.land(batch(540))
    local.archive()
    days = Counter(path.split("day=")[1].split("/")[0] for path in local.paths())
    assert len(days) == parquet.MAX_DAYS and set(days.values()) == {1}
    assert {"2026-03-01", archive_store.SCATTERED} < set(days)
    assert len(set(local.identities())) == 550


def test_tenants_share_no_file(local: Store) -> None:
    local.land(batch(0), tenant=STRANGER.tenant, device=DeviceId("theirs"))
    local.land(batch(0))
    local.land(batch(10))
    local.archive()
    assert {path.split("/")[1] for path in local.paths()} == {"tenant=default", "tenant=other"}
    assert {key[0] for key in local.identities()} == {CAM}


def test_a_step_takes_only_as_much_as_one_file_holds(local: Store) -> None:
    local.configure(file_readings=100)
    local.land(*(batch(first) for first in range(0, 1000, 10)))
    local.fold()
    local.clock.advance(61)
    local.upkeep.tick()
    assert landed_rows(local.db) == 1
    assert max(pq.read_metadata(local.files.root + path).num_rows for path in local.paths()) == 100
    assert len(local.identities()) == 1000


def test_many_small_files_of_a_day_become_few(store: Store) -> None:
    for first in range(0, 400, 10):
        store.land(batch(first))
        store.archive()
    assert len(set(store.identities())) == 400
    with store.db.read() as tx:
        live, _ = archive_store.paths(tx)
    assert len(live) < merging.FAN_IN + 4
    store.clock.advance(3600)
    store.upkeep.tick()
    assert store.paths() == live  # what was merged is off the disk once no query can read it
    with store.db.read() as tx:
        assert archive_store.paths(tx) == (live, set())


def test_a_missing_file_holds_up_neither_other_merging_nor_what_is_old(local: Store) -> None:
    asked: list[int] = []

    def forget(tx: Tx, before_ms: int, limit: int) -> int:
        asked.append(before_ms)
        return 0

    local.forget = (forget,)
    local.restart()

    def live(day: int) -> list[ArchiveFile]:
        with local.db.read() as tx:
            return archive_store.live_of(tx, ADMIN.tenant, Kind.READINGS, (START + timedelta(days=day)).date().isoformat())

    for first in range(0, 120, 10):
        for day in range(2):
            local.land(batch(first, epoch=f"e{day}", at=START + timedelta(days=day)))
        if first == 50:
            local.files.delete(live(0)[0].path)
        with contextlib.suppress(NotFound):
            local.archive()
    assert len(live(0)) > merging.FAN_IN > len(live(1))
    local.clock.advance(3600)
    with pytest.raises(NotFound):
        local.upkeep.tick()
    assert asked


def test_a_full_file_is_not_merged_again(local: Store) -> None:
    local.configure(file_readings=100)
    for first in range(0, 3000, 100):
        local.land(batch(first, 100))
        local.archive()
    with local.db.read() as tx:
        live, ended = archive_store.paths(tx)
    assert len(live) == 29 and not ended


def test_a_batch_that_cannot_be_read_stays_and_is_told_once(local: Store, caplog: pytest.LogCaptureFixture) -> None:
    local.land(batch(0), batch(10))
    local.land(batch(20))
    with local.db.write() as tx:
        tx.execute(landing.update().where(landing.c.first_sequence == 0).values(payload=b"\xff" * 50))
    local.archive()
    local.archive()
    assert landed_rows(local.db) == 2
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == ["landed batch cannot be read"]


def test_a_second_hub_gives_up_and_spoils_nothing(local: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    local.land(batch(0), batch(10))
    local.land(batch(20))
    local.fold()
    local.clock.advance(61)
    put = LocalFiles.put
    others = [0]

    def overtaken(files: LocalFiles, path: str, data: bytes) -> None:
        put(files, path, data)
        if path.startswith("readings") and not others[0]:
            others[0] = 1
            Store(db=local.db, files=local.files, folder=local.folder, clock=local.clock).upkeep.tick()

    monkeypatch.setattr(LocalFiles, "put", overtaken)
    with pytest.raises(Conflict, match="one hub"):
        local.upkeep.tick()
    assert len(local.paths()) == 2
    assert local.identities() == [(CAM, "e1", "normal", n) for n in range(30)]
    local.clock.advance(3600)
    local.restart()
    local.upkeep.tick()
    assert len(local.paths()) == 1  # its own file is swept
    assert len(local.identities()) == 30


def test_an_archive_of_another_database_is_left_alone(local: Store) -> None:
    local.land(batch(0))
    local.land(batch(10))
    local.archive()
    kept = local.paths()
    with local.db.write() as tx:
        tx.exec_driver_sql("UPDATE archive_owner SET id = 'somebody else'")
    local.restart()
    local.clock.advance(7200)
    with pytest.raises(NotReady, match="belongs to another database"):
        local.upkeep.tick()
    assert local.paths() == kept


def test_an_archive_that_has_vanished_is_not_begun_anew(local: Store) -> None:
    local.land(batch(0))
    local.land(batch(10))
    local.archive()
    local.files = LocalFiles(local.folder / "elsewhere")
    local.__post_init__()
    with pytest.raises(NotReady, match="restore the archive"):
        local.upkeep.tick()
    with pytest.raises(NotReady, match="cannot be read"):
        local.identities()


def test_nothing_is_swept_while_a_listed_file_is_missing(local: Store, caplog: pytest.LogCaptureFixture) -> None:
    local.land(batch(0))
    local.land(batch(10))
    local.archive()
    [path] = local.paths()
    stray = path.rsplit("/", 1)[0] + "/000000000001-0123456789abcdef.parquet"
    local.files.put(stray, b"whose?")
    content = local.files.get(path)
    local.files.delete(path)
    local.restart()
    local.clock.advance(7200)
    local.upkeep.tick()
    assert local.paths() == {stray}
    assert any("archive files are missing" in record.message for record in caplog.records)
    local.files.put(path, content)
    local.clock.advance(7200)
    local.upkeep.tick()
    assert local.paths() == {path}


def test_an_archived_batch_that_comes_again_is_a_duplicate(local: Store) -> None:
    local.land(batch(0))
    local.land(batch(10))
    local.archive()
    with local.db.write() as tx:
        [again] = local.telemetry.land_many(tx, [local.incoming(batch(0))])
    assert not again.new and not again.refused
    assert len(local.identities()) == 20


def test_what_was_sent_is_what_is_read(local: Store) -> None:
    sent = batch(0, 100, labels=np.arange(100) % 3, confidence=np.linspace(0.1, 0.9, 100))
    local.land(sent)
    local.land(batch(100))
    local.archive()
    decoded = codec.decode_batch(codec.encode_batch(sent)).inferences
    stored = local.all()[:100]
    assert [one.confidence for one in stored] == decoded.confidence.astype(float).tolist()
    assert [to_ms(one.captured_at) for one in stored] == decoded.captured_at_ms.tolist()
