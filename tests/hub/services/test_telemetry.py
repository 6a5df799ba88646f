"""Landing with poison and clones among the messages, and quarantine, on a real database."""

import shutil
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from cloud_hub.core.errors import Invalid, NotFound, Unavailable
from cloud_hub.services import telemetry as service
from cloud_hub.services.telemetry import Incoming, Landed, TelemetryService
from cloud_hub.store import fleet, quarantine
from cloud_hub.store.database import Database
from cloud_hub.store.landing import landing
from protos.contract import codec, topics
from protos.contract.ids import DeviceId, TenantId
from protos.contract.telemetry import Batch, Gap, Lane, Mark
from protos.contract.twin import Held
from tests.hub.fleet_parts import ADMIN, STRANGER, Clock
from tests.hub.telemetry_parts import CAM, START, TENANT, batch


@pytest.fixture
def telemetry(db: Database) -> TelemetryService:
    return TelemetryService(db, Clock())


@pytest.fixture
def file_db(migrated_file: Path, tmp_path: Path) -> Iterator[Database]:
    shutil.copy(migrated_file, tmp_path / "hub.db")
    database = Database(f"sqlite:///{tmp_path / 'hub.db'}")
    yield database
    database.close()


def message(sent: Batch, device: str = CAM, tenant: TenantId = TENANT) -> Incoming:
    return Incoming(
        tenant=tenant, device=DeviceId(device), batch=sent.head, payload=codec.encode_batch(sent), received_at=START
    )


def poison(sent: Batch) -> Incoming:
    """A head that no codec gives and no database takes."""
    return Incoming(tenant=TENANT, device=CAM, batch=sent.head._replace(epoch="\ud800"), payload=b"poison", received_at=START)


def land(db: Database, telemetry: TelemetryService, *messages: Incoming) -> Sequence[Landed]:
    with db.append() as tx:
        return telemetry.land_many(tx, messages)


def everything(db: Database) -> list[int]:
    """Sequences of all readings that have landed."""
    with db.read() as tx:
        payloads = tx.execute(select(landing.c.payload)).scalars().all()
    return sorted(int(n) for payload in payloads for n in codec.decode_batch(payload).inferences.sequence)


def test_poison_is_refused_and_the_rest_of_its_group_lands(db: Database, telemetry: TelemetryService) -> None:
    good = [message(batch(0)), message(batch(10, events=1)), message(batch(21))]
    landed = land(db, telemetry, good[0], poison(batch(100)), *good[1:])
    assert [one.new for one in landed] == [True, False, True, True]
    assert "cannot be stored" in landed[1].refused
    assert everything(db) == [*range(20), *range(21, 31)]
    with db.read() as tx:
        assert telemetry.marks(tx, CAM)[0].committed_through == 30


def test_a_group_that_was_refused_once_still_counts_every_batch_once(db: Database, telemetry: TelemetryService) -> None:
    land(db, telemetry, message(batch(0, events=1)), poison(batch(100)), message(batch(0, events=1)))
    [stats] = telemetry.stats(ADMIN).devices
    assert (stats.batches, stats.records, stats.duplicate_batches) == (1, 11, 1)
    assert len(telemetry.events(ADMIN)) == 1


def test_a_full_disk_is_not_the_fault_of_a_message(file_db: Database) -> None:
    telemetry = TelemetryService(file_db, Clock())
    with file_db.write() as tx:
        pages = tx.exec_driver_sql("PRAGMA page_count").scalar_one()
    with pytest.raises((Unavailable, OperationalError)), file_db.append() as tx:  # SQLite has rolled all of it back by itself
        tx.exec_driver_sql(f"PRAGMA max_page_count={pages}").close()
        for number in range(200):
            telemetry.land_many(tx, [message(batch(number * 2000, 2000))])
    assert telemetry.stats(ADMIN).devices == []
    with file_db.append() as tx:
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


def test_another_tenant_sees_nothing(db: Database, telemetry: TelemetryService) -> None:
    land(db, telemetry, message(batch(0, events=1)))
    with db.write() as tx:
        telemetry.quarantine(tx, "tl/v1/default/cam-1/up/telemetry/normal", b"x", "bad")
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


def test_quarantine_is_bounded_for_each_tenant(
    db: Database, telemetry: TelemetryService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "MAX_QUARANTINED", 5)
    monkeypatch.setattr(quarantine, "MAX_QUARANTINED_BYTES", 1000)
    with db.write() as tx:
        telemetry.quarantine(tx, "tl/v1/other/cam-9/up/status", b"of another", "bad")
        for number in range(12):
            telemetry.quarantine(tx, "tl/v1/default/cam-1/up/status", b"%d" % number + b"x" * 2000, "bad")
    assert telemetry.forget_quarantined(START - timedelta(days=1)) == 0
    kept = telemetry.quarantined(ADMIN)
    assert {message.payload[:2] for message in kept} == {b"7x", b"8x", b"9x", b"10", b"11"}
    assert {(len(message.payload), message.cut) for message in kept} == {(1000, True)}
    assert len(telemetry.quarantined(STRANGER)) == 1
    monkeypatch.setattr(quarantine, "MAX_QUARANTINED_TOTAL_BYTES", 2500)
    telemetry.forget_quarantined(START - timedelta(days=1))
    assert {message.payload[:2] for message in telemetry.quarantined(ADMIN)} == {b"10", b"11"}


def test_quarantine_is_trimmed_while_it_fills(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantine, "MAX_QUARANTINED", 5)
    clock = Clock()
    telemetry = TelemetryService(db, clock)
    for number in range(30):
        clock.advance(0.5)
        with db.write() as tx:
            telemetry.quarantine(tx, "tl/v1/default/cam-1/up/status", b"%d" % number, "bad")
        assert len(telemetry.quarantined(ADMIN)) <= 5 + 2


def test_quarantined_messages_are_forgotten_by_when_they_came_last(db: Database) -> None:
    clock = Clock()
    telemetry = TelemetryService(db, clock)
    topic = "tl/v1/default/cam-1/up/status"
    for payload in (b"old", b"again", b"again"):
        with db.write() as tx:
            telemetry.quarantine(tx, topic, payload, "bad")
        clock.advance(3600)
    assert telemetry.forget_quarantined(START + timedelta(minutes=30)) == 1
    assert [message.payload for message in telemetry.quarantined(ADMIN)] == [b"again"]


def test_a_quarantined_message_is_found_by_its_own_tenant_only(db: Database, telemetry: TelemetryService) -> None:
    with db.write() as tx:
        telemetry.quarantine(tx, "tl/v1/default/cam-1/up/status", b"\xff", "bad")
    [listed] = telemetry.quarantined(ADMIN)
    assert telemetry.quarantined_message(ADMIN, listed.id) == listed
    for who, id in ((STRANGER, listed.id), (ADMIN, listed.id + 1)):
        with pytest.raises(NotFound, match=str(id)):
            telemetry.quarantined_message(who, id)


def enroll(db: Database) -> None:
    with db.write() as tx:
        fleet.add(tx, CAM, TENANT, "camera-x86", {}, START)


def test_replay_takes_in_what_can_be_used_now_and_keeps_the_rest(db: Database, telemetry: TelemetryService) -> None:
    topic = topics.telemetry(TENANT, CAM, Lane.NORMAL)
    first, second = codec.encode_batch(batch(0)), codec.encode_batch(batch(10))
    with db.write() as tx:
        for payload in (first, second, b"\xff" * 20):
            telemetry.quarantine(tx, topic, payload, "no device cam-1 in tenant default")
        telemetry.quarantine(tx, topics.telemetry(TENANT, CAM, Lane.BULK), first, "wrong lane")
        telemetry.quarantine(tx, f"tl/v1/{TENANT}/{CAM}/up/status", b"x", "bad")
    assert len(telemetry.replay(ADMIN).refused) == 5, "the device is not known yet"
    enroll(db)
    by_payload = {message.payload: message.id for message in telemetry.quarantined(ADMIN) if message.topic == topic}
    done = telemetry.replay(ADMIN, [by_payload[second]])
    assert done == service.Replayed(replayed=1, refused=())
    land(db, telemetry, message(batch(0)))
    done = telemetry.replay(ADMIN)
    assert done.replayed == 1, "what is stored meanwhile is done with"
    reasons = dict(done.refused)
    assert len(reasons) == 3
    assert any("lane normal" in reason for reason in reasons.values())
    assert any("twin" in reason for reason in reasons.values())
    assert everything(db) == list(range(20))
    assert {one.id for one in telemetry.quarantined(ADMIN)} == set(reasons)


def test_replay_refuses_what_was_cut_and_what_is_a_clone(
    db: Database, telemetry: TelemetryService, monkeypatch: pytest.MonkeyPatch
) -> None:
    enroll(db)
    topic = topics.telemetry(TENANT, CAM, Lane.NORMAL)
    land(db, telemetry, message(batch(0)))
    with db.write() as tx:
        telemetry.quarantine(tx, topic, codec.encode_batch(batch(0, confidence=[0.5] * 10)), "clone")
        monkeypatch.setattr(quarantine, "MAX_QUARANTINED_BYTES", 10)
        telemetry.quarantine(tx, topic, codec.encode_batch(batch(10)), "bad")
    done = telemetry.replay(ADMIN)
    assert done.replayed == 0
    assert sorted(reason[:20] for _, reason in done.refused) == ["different records ca", "only its first 10 by"]


def test_replay_touches_nothing_where_it_names_what_is_not_there(db: Database, telemetry: TelemetryService) -> None:
    enroll(db)
    with db.write() as tx:
        telemetry.quarantine(tx, topics.telemetry(TENANT, CAM, Lane.NORMAL), codec.encode_batch(batch(0)), "bad")
    [kept] = telemetry.quarantined(ADMIN)
    with pytest.raises(NotFound, match=str(kept.id + 1)):
        telemetry.replay(ADMIN, [kept.id, kept.id + 1])
    with pytest.raises(NotFound):
        telemetry.replay(STRANGER, [kept.id])
    with pytest.raises(Invalid, match="at once"):
        telemetry.replay(ADMIN, range(service.MAX_REPLAY + 1))
    assert telemetry.quarantined(ADMIN) == [kept]


def test_a_device_that_says_what_it_holds_gets_its_mark_from_a_restored_hub(db: Database, telemetry: TelemetryService) -> None:
    held = (Held(epoch="e1", lane=Lane.NORMAL, oldest=500, next=520), Held(epoch="e1", lane=Lane.BULK, oldest=0, next=0))
    land(db, telemetry, message(batch(500)))
    with db.write() as tx:
        telemetry.on_held(tx, TENANT, CAM, held)
    with db.read() as tx:
        assert telemetry.marks(tx, CAM) == (Mark(epoch="e1", lane=Lane.NORMAL, committed_through=509),)
    assert [event.kind for event in telemetry.events(ADMIN, CAM)] == ["telemetry.lost"]


def test_stats_add_up_over_streams_and_count_gaps(db: Database, telemetry: TelemetryService) -> None:
    gap = Gap(first_sequence=0, last_sequence=41, reason="spool full", at=START)
    lost = Batch(epoch="e2", lane=Lane.NORMAL, first_sequence=0, last_sequence=41, gaps=(gap,))
    land(db, telemetry, message(batch(0)), message(lost), message(batch(0, lane=Lane.CRITICAL)), message(batch(0), "cam-2"))
    [stats, other] = telemetry.stats(ADMIN).devices
    assert (stats.device, stats.batches, stats.records, stats.gap_records) == (CAM, 3, 20, 42)
    assert stats.last_captured_at == START + timedelta(milliseconds=900)
    assert telemetry.stats(ADMIN, DeviceId("cam-2")).devices == [other]


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
