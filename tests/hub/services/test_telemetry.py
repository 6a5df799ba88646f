"""Landing with poison and clones among the messages, and reading back, on a real database."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from cloud_hub.core.errors import Exhausted, Invalid
from cloud_hub.services import telemetry as service
from cloud_hub.services.telemetry import Incoming, Landed, TelemetryService
from cloud_hub.store import telemetry as store
from cloud_hub.store.database import Database
from protos.contract import codec
from protos.contract.ids import DeviceId, TenantId
from protos.contract.telemetry import Batch, Gap, Lane
from tests.hub.fleet_parts import ADMIN, STRANGER, Clock
from tests.hub.telemetry_parts import CAM, START, TENANT, batch, manifest, publish


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'hub.db'}")
    database.migrate()
    yield database
    database.close()


@pytest.fixture
def telemetry(db: Database) -> TelemetryService:
    return TelemetryService(db, Clock())


def message(sent: Batch, device: str = CAM, tenant: TenantId = TENANT) -> Incoming:
    return Incoming(
        tenant=tenant, device=DeviceId(device), batch=sent.head, payload=codec.encode_batch(sent), received_at=START
    )


def poison(sent: Batch) -> Incoming:
    """A head that no codec gives and no database takes."""
    return Incoming(tenant=TENANT, device=CAM, batch=sent.head._replace(epoch="\ud800"), payload=b"poison", received_at=START)


def land(db: Database, telemetry: TelemetryService, *messages: Incoming) -> Sequence[Landed]:
    with db.write() as tx:
        return telemetry.land_many(tx, messages)


def everything(telemetry: TelemetryService, device: str | None = CAM, limit: int = 1000) -> list[int]:
    pages = telemetry.query(
        ADMIN, None if device is None else DeviceId(device), START - timedelta(days=1), START + timedelta(days=1), limit
    )
    return [reading.sequence for page in pages for reading in page]


def test_poison_is_refused_and_the_rest_of_its_group_lands(db: Database, telemetry: TelemetryService) -> None:
    good = [message(batch(0)), message(batch(10, events=1)), message(batch(21))]
    landed = land(db, telemetry, good[0], poison(batch(100)), *good[1:])
    assert [one.new for one in landed] == [True, False, True, True]
    assert "cannot be stored" in landed[1].refused
    assert everything(telemetry) == [*range(20), *range(21, 31)]
    with db.read() as tx:
        assert telemetry.marks(tx, CAM)[0].committed_through == 30


def test_a_group_that_was_refused_once_still_counts_every_batch_once(db: Database, telemetry: TelemetryService) -> None:
    land(db, telemetry, message(batch(0, events=1)), poison(batch(100)), message(batch(0, events=1)))
    [stats] = telemetry.stats(ADMIN).devices
    assert (stats.batches, stats.records, stats.duplicate_batches) == (1, 11, 1)
    assert len(telemetry.events(ADMIN)) == 1


def test_a_full_disk_is_not_the_fault_of_a_message(db: Database, telemetry: TelemetryService) -> None:
    with db.write() as tx:
        pages = tx.exec_driver_sql("PRAGMA page_count").scalar_one()
    with pytest.raises(OperationalError), db.write() as tx:  # SQLite has rolled all of it back by itself
        tx.exec_driver_sql(f"PRAGMA max_page_count={pages}").close()
        for number in range(200):
            telemetry.land_many(tx, [message(batch(number * 2000, 2000))])
    assert telemetry.stats(ADMIN).devices == []
    with db.write() as tx:
        tx.exec_driver_sql("PRAGMA max_page_count=1000000").close()
        assert telemetry.land_many(tx, [message(batch(0, 2000))])[0].new


def test_a_cloned_device_is_told_apart_and_reported_once(db: Database, telemetry: TelemetryService) -> None:
    mine, clone = message(batch(0)), message(batch(0, confidence=[0.5] * 10))
    assert land(db, telemetry, mine)[0].new
    for _ in range(3):
        [landed] = land(db, telemetry, clone)
        assert "two devices use one identity" in landed.refused
    assert land(db, telemetry, mine) == [Landed()]
    [event] = telemetry.events(ADMIN, CAM)
    assert event.kind == "telemetry.cloned"
    assert "0..9 of epoch e1, lane normal" in event.detail


def test_land_takes_a_decoded_batch(db: Database, telemetry: TelemetryService) -> None:
    sent = batch(0)
    with db.write() as tx:
        assert telemetry.land(tx, TENANT, CAM, sent, codec.encode_batch(sent), START).new
        assert not telemetry.land(tx, TENANT, CAM, sent, codec.encode_batch(sent), START).new


def test_readings_come_back_as_they_were_sent(db: Database, telemetry: TelemetryService) -> None:
    publish(db, 1)
    land(db, telemetry, message(batch(0, 3, labels=[7, 0, 99], confidence=[0.5, 0.25, 1.0])))
    [page] = telemetry.query(ADMIN, CAM, START, START + timedelta(seconds=1))
    assert [(reading.label, reading.label_name, reading.confidence) for reading in page] == [
        (7, "7", 0.5),
        (0, "0", 0.25),
        (99, "", 1.0),
    ]
    assert (page[0].device, page[0].epoch, page[0].lane, page[0].model) == (CAM, "e1", "normal", manifest("digits", 1))
    assert [reading.captured_at - START for reading in page] == [timedelta(milliseconds=100 * i) for i in range(3)]


def test_readings_come_in_event_time_across_batches_lanes_and_pages(
    db: Database, telemetry: TelemetryService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "PAGE_BATCHES", 3)
    monkeypatch.setattr(service, "PAGE_READINGS", 7)
    hour = timedelta(hours=1)
    land(db, telemetry, message(batch(0, 30, step_ms=600_000)))  # five hours in one batch
    for number in range(10):
        land(db, telemetry, message(batch(number * 5, 5, at=START + hour * (9 - number) / 2, lane=Lane.BULK)))
    pages = list(telemetry.query(ADMIN, CAM, START, START + 10 * hour))
    times = [reading.captured_at for page in pages for reading in page]
    assert times == sorted(times)
    assert len(times) == 80
    assert max(map(len, pages)) == 7


def test_a_query_ends_before_its_end_and_at_its_limit(db: Database, telemetry: TelemetryService) -> None:
    land(db, telemetry, *(message(batch(number * 10, 10, at=START + timedelta(seconds=number))) for number in range(10)))
    pages = telemetry.query(ADMIN, CAM, START + timedelta(milliseconds=2500), START + timedelta(seconds=4))
    assert [reading.sequence for page in pages for reading in page] == list(range(25, 40))
    assert everything(telemetry, limit=13) == list(range(13))
    with pytest.raises(Invalid, match="limit"):
        telemetry.query(ADMIN, CAM, START, START, 0)


def test_a_query_over_all_devices_goes_device_by_device(db: Database, telemetry: TelemetryService) -> None:
    land(db, telemetry, message(batch(0), "cam-2"), message(batch(100), "cam-1"), message(batch(10), "cam-2"))
    assert everything(telemetry, None) == [*range(100, 110), *range(20)]


def test_a_query_that_takes_too_long_is_ended(
    db: Database, telemetry: TelemetryService, monkeypatch: pytest.MonkeyPatch
) -> None:
    land(db, telemetry, message(batch(0)))
    monkeypatch.setattr(service, "DEADLINE_S", -1.0)
    with pytest.raises(Exhausted, match="shorter time"):
        everything(telemetry)


def test_another_tenant_sees_nothing(db: Database, telemetry: TelemetryService) -> None:
    land(db, telemetry, message(batch(0, events=1)))
    with db.write() as tx:
        telemetry.quarantine(tx, "tl/v1/default/cam-1/up/telemetry/normal", b"x", "bad")
    assert list(telemetry.query(STRANGER, CAM, START, START + timedelta(days=1))) == []
    assert telemetry.stats(STRANGER) == service.TelemetryStats(devices=[], quarantined=0)
    assert (telemetry.events(STRANGER), telemetry.quarantined(STRANGER)) == ([], [])


def test_the_same_poison_is_kept_once_and_counted(db: Database, telemetry: TelemetryService) -> None:
    topic = "tl/v1/default/cam-1/up/telemetry/normal"
    with db.write() as tx:
        for payload, reason in [(b"one", "bad"), (b"two", "worse"), (b"one", "bad still")]:
            telemetry.quarantine(tx, topic, payload, reason)
        telemetry.quarantine(tx, "nonsense \ud800", b"\xff", "no topic")
    kept = {message.payload: message for message in telemetry.quarantined(ADMIN)}
    assert (kept[b"one"].count, kept[b"one"].reason, kept[b"two"].count) == (2, "bad still", 1)
    assert telemetry.stats(ADMIN).quarantined == 4


def test_quarantine_is_bounded(db: Database, telemetry: TelemetryService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MAX_QUARANTINED", 5)
    with db.write() as tx:
        for number in range(12):
            telemetry.quarantine(tx, "t", b"%d" % number + b"x" * 100_000, "bad")
    kept = telemetry.quarantined(ADMIN)
    assert {message.payload[:2] for message in kept} == {b"7x", b"8x", b"9x", b"10", b"11"}
    assert all(len(message.payload) == store.MAX_QUARANTINED_BYTES for message in kept)


def test_stats_add_up_over_streams_and_count_gaps(db: Database, telemetry: TelemetryService) -> None:
    gap = Gap(first_sequence=0, last_sequence=41, reason="spool full", at=START)
    lost = Batch(epoch="e2", lane=Lane.NORMAL, first_sequence=0, last_sequence=41, gaps=(gap,))
    land(db, telemetry, message(batch(0)), message(lost), message(batch(0, lane=Lane.CRITICAL)), message(batch(0), "cam-2"))
    [stats, other] = telemetry.stats(ADMIN).devices
    assert (stats.device, stats.batches, stats.records, stats.gap_records) == (CAM, 3, 20, 42)
    assert stats.last_captured_at == START + timedelta(milliseconds=900)
    assert telemetry.stats(ADMIN, DeviceId("cam-2")).devices == [other]


def test_batches_that_all_claim_one_time_cannot_fill_the_memory(
    db: Database, telemetry: TelemetryService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MAX_WAITING", 150)
    land(db, telemetry, *[message(batch(first, at=START, step_ms=1)) for first in range(0, 400, 10)])
    with pytest.raises(Exhausted, match="from one time"):
        everything(telemetry)


def test_a_listing_of_large_quarantined_messages_fits_into_a_reply(
    db: Database, telemetry: TelemetryService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "QUARANTINE_REPLY_BYTES", 250)
    with db.write() as tx:
        for number in range(4):
            telemetry.quarantine(tx, "tl/v1/default/cam-1/up/status", bytes([number]) * 100, "poison")
    assert [len(message.payload) for message in telemetry.quarantined(ADMIN)] == [100, 100, 0, 0]


def test_a_flood_of_poison_is_logged_once_a_second_with_what_was_kept_back(
    db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    telemetry = TelemetryService(db, clock)
    with db.write() as tx:
        for number in range(100):
            clock.advance(0.015)
            telemetry.quarantine(tx, "tl/v1/default/cam-1/up/status", bytes([number]), "poison")
    said = [vars(record)["not_logged"] for record in caplog.records if record.message == "message quarantined"]
    assert said[0] == 0 and len(said) == 2 and 60 <= said[1] <= 70
