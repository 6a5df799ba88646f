"""Readings from the database and the archive as one, within limits. Each test's readings are half archived, half not."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from cloud_hub.archive import parquet
from cloud_hub.archive.files import LocalFiles, ObjectFiles
from cloud_hub.core.errors import Exhausted, Invalid, NotFound, NotReady, Unavailable
from cloud_hub.core.model import StoredReading
from cloud_hub.services import readings as service
from cloud_hub.services import snapshots
from cloud_hub.services.aggregates import Aggregate, Grouping
from cloud_hub.services.readings import ReadingFilter
from cloud_hub.store import fleet
from cloud_hub.store.archive import Kind
from cloud_hub.store.database import Database
from protos.contract.ids import DeviceId
from protos.contract.telemetry import FLAG_CAPTURED, FLAG_UNCERTAIN, Batch, InferenceTable, Lane
from tests.hub.archive.parts import ALWAYS, CONFIG, Store
from tests.hub.fleet_parts import ADMIN, STRANGER, TENANT
from tests.hub.mqtt_parts import wait_for
from tests.hub.telemetry_parts import CAM, START, batch, manifest, publish

CAM2 = DeviceId("cam-2")
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


@pytest.fixture
def store(db: Database, tmp_path: Path) -> Iterator[Store]:
    made = Store(db=db, files=LocalFiles(tmp_path / "archive"), folder=tmp_path)
    yield made
    made.readings.close()


def flagged(made: Batch, flags: list[int]) -> Batch:
    table = {name: getattr(made.inferences, name) for name in InferenceTable.__dataclass_fields__}
    return replace(made, inferences=InferenceTable(**table | {"flags": np.array(flags, dtype="u1")}))


def label(db: Database, device: DeviceId, **labels: str) -> None:
    with db.write() as tx:
        fleet.add(tx, device, TENANT, "camera-x86", labels, START)


def queried(store: Store, limit: int = 1_000_000, **wanted: Any) -> list[StoredReading]:
    return store.all(replace(ALWAYS, **wanted), limit)


def sums(store: Store, wanted: ReadingFilter = ALWAYS, limit: int = 1000, **grouping: Any) -> list[Aggregate]:
    return [row for page in store.readings.aggregate(ADMIN, wanted, Grouping(**grouping), limit) for row in page]


def test_readings_come_back_as_they_were_sent(store: Store) -> None:
    publish(store.db, 1)
    for first in (0, 3):
        store.land(flagged(batch(first, 3, labels=[7, 0, 99], confidence=[0.5, 0.25, 1.0]), [0, FLAG_CAPTURED, FLAG_UNCERTAIN]))
        if not first:
            store.land(batch(0, lane=Lane.BULK, at=START + HOUR))
            store.archive()
    page = queried(store)[:6]
    assert [(one.label, one.label_name, one.confidence, one.captured, one.uncertain) for one in page] == [
        (7, "7", 0.5, False, False),
        (0, "0", 0.25, True, False),
        (99, "", 1.0, False, True),
    ] * 2
    assert {(one.device, one.epoch, one.lane, one.model) for one in page} == {(CAM, "e1", "normal", manifest("digits", 1))}
    assert [one.captured_at - START for one in page] == [timedelta(milliseconds=100 * i) for i in range(6)]


def test_values_come_back_and_files_of_an_older_hub_have_none(store: Store) -> None:
    def valued(first: int) -> Batch:
        made = batch(first, 3)
        return replace(made, inferences=replace(made.inferences, value=np.array([1.5, np.nan, -2.0], dtype="<f4")))

    store.land(valued(0), valued(3))
    store.archive()  # all but the last
    [old] = [store.folder / "archive" / path for path in store.paths()]
    pq.write_table(pq.read_table(old).drop_columns(["value"]), old)
    store.land(valued(6), batch(9, 1))
    store.archive()
    expected = [None, None, None, 1.5, None, -2.0, 1.5, None, -2.0, None]
    assert [one.value for one in queried(store)] == expected
    assert len(sums(store)) == 1, "a sum does not name the column"
    tables = [parquet.read((store.folder / "archive" / path).read_bytes()) for path in store.paths()]
    assert len(tables) == 2 and parquet.joined(Kind.READINGS, tables)["value"].to_pylist() == expected[:9]


def test_readings_come_in_event_time_across_batches_lanes_files_and_pages(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "PAGE_READINGS", 7)
    store.land(batch(0, 30, step_ms=600_000))  # five hours in one batch
    for number in range(10):
        store.land(batch(number * 5, 5, at=START + HOUR * (9 - number) / 2, lane=Lane.BULK))
        if number == 5:
            store.archive()
    pages = list(store.readings.query(ADMIN, ALWAYS))
    times = [reading.captured_at for page in pages for reading in page]
    assert times == sorted(times)
    assert len(times) == 80
    assert max(map(len, pages)) == 7


def test_a_query_ends_before_its_end_and_at_its_limit(store: Store) -> None:
    for number in range(10):
        store.land(batch(number * 10, 10, at=START + SECOND * number))
        if number == 2:
            store.archive()
    part = queried(store, since=START + timedelta(milliseconds=2500), until=START + timedelta(seconds=4))
    assert [reading.sequence for reading in part] == list(range(25, 40))
    assert [reading.sequence for reading in queried(store, limit=13)] == list(range(13))
    assert queried(store, since=START, until=START) == []
    with pytest.raises(Invalid, match="limit"):
        store.readings.query(ADMIN, ALWAYS, 0)


def test_a_query_over_all_devices_goes_device_by_device(store: Store) -> None:
    store.land(batch(0), device=CAM2)
    store.land(batch(100), batch(110), device=CAM)
    store.archive()
    store.land(batch(10), device=CAM2)
    assert [(one.device, one.sequence) for one in queried(store)] == [
        *((CAM, n) for n in range(100, 120)),
        *((CAM2, n) for n in range(20)),
    ]
    assert {one.device for one in queried(store, device=CAM2)} == {CAM2}


def test_filters_leave_out_what_they_say(store: Store) -> None:
    publish(store.db, 1)
    publish(store.db, 2)
    label(store.db, CAM, site="north", group="doors")
    label(store.db, CAM2, site="south", group="doors")
    for device in (CAM, CAM2):
        flags = [0, FLAG_CAPTURED, FLAG_UNCERTAIN, FLAG_CAPTURED | FLAG_UNCERTAIN]
        store.land(flagged(batch(0, 4), flags), batch(4, 2, version=2), device=device)
    store.archive()
    store.land(batch(6, 2, version=3), device=CAM2)

    def told(**wanted: Any) -> list[tuple[str, int]]:
        return [(one.device, one.sequence) for one in queried(store, **wanted)]

    assert told(uncertain=True) == [(CAM, 2), (CAM, 3), (CAM2, 2), (CAM2, 3)]
    assert told(uncertain=True, captured=False) == [(CAM, 2), (CAM2, 2)]
    assert told(captured=True, device=CAM) == [(CAM, 1), (CAM, 3)]
    assert told(selector={"site": "south"}) == [(CAM2, n) for n in range(8)]
    assert told(selector={"group": "doors"}, model="digits:2") == [(CAM, 4), (CAM, 5), (CAM2, 4), (CAM2, 5)]
    assert len(told(model="digits")) == 12
    assert told(model=manifest("digits", 3)) == [(CAM2, 6), (CAM2, 7)]
    assert told(selector={"site": "south"}, device=CAM) == told(selector={"site": "west"}) == []
    with pytest.raises(NotFound, match="digits:9"):
        told(model="digits:9")
    with pytest.raises(Invalid, match="label key"):
        told(selector={"no such key!": "x"})


def test_a_selector_of_many_devices_is_not_a_long_statement(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "_LISTED", 3)
    devices = [DeviceId(f"door-{n}") for n in range(6)]
    for device in devices:
        label(store.db, device, group="doors")
        store.land(batch(0), device=device)
    store.land(batch(0), device=CAM)
    store.archive()
    store.land(batch(10), device=devices[0])
    assert {one.device for one in queried(store, selector={"group": "doors"})} == set(devices)
    assert sums(store, replace(ALWAYS, selector={"group": "doors"}))[0].readings == 70


def test_another_tenant_sees_nothing(store: Store) -> None:
    store.land(batch(0), batch(10))
    store.archive()
    assert list(store.readings.query(STRANGER, ALWAYS)) == []
    assert list(store.readings.aggregate(STRANGER, ALWAYS, Grouping())) == []


def test_sums_are_what_numpy_says(store: Store) -> None:
    publish(store.db, 1)
    dice = np.random.default_rng(5)
    sent = []
    for number, device in enumerate((CAM, CAM2) * 3):
        labels, confidence = dice.integers(0, 3, 400), dice.random(400).astype("f4")
        made = batch(number * 400, 400, labels=labels, confidence=confidence, step_ms=20_000, at=START + HOUR * number)
        made = flagged(made, (confidence < 0.2).astype(int).tolist() * 1)
        store.land(made, device=device)
        sent.append((device, made.inferences))
        if number == 2:
            store.archive()
    hour_ms = 3_600_000
    rows = sums(store, window_ms=hour_ms, by=("device", "label"))
    assert [(row.start, row.device, row.label) for row in rows] == sorted((row.start, row.device, row.label) for row in rows)
    assert sum(row.readings for row in rows) == 2400
    for row in rows:
        start_ms = row.start.timestamp() * 1000
        picked = [
            (table.captured_at_ms >= start_ms) & (table.captured_at_ms < start_ms + hour_ms) & (table.label == int(row.label))
            if device == row.device
            else np.zeros(400, bool)
            for device, table in sent
        ]
        values = np.concatenate([table.confidence[mask] for (_, table), mask in zip(sent, picked, strict=True)]).astype(float)
        flags = np.concatenate([table.flags[mask] for (_, table), mask in zip(sent, picked, strict=True)])
        assert (row.readings, row.end - row.start) == (len(values), HOUR)
        assert row.captured == int((flags & FLAG_CAPTURED != 0).sum())
        [told] = [field for field in row.fields if field.name == "confidence"]
        expected = (values.mean(), values.min(), values.max(), *np.quantile(values, (0.5, 0.95)))
        assert (told.mean, told.min, told.max, told.p50, told.p95) == pytest.approx(expected)
        assert not told.approximate


def test_sums_by_model_and_label_use_their_names(store: Store) -> None:
    publish(store.db, 1)
    store.land(batch(0, 4, labels=[0, 0, 1, 60_000]), batch(4, 2, version=7, labels=[5, 5]))
    rows = sums(store, by=("model", "label"), fields=("latency_ms",))
    named, unknown = "digits:1", manifest("digits", 7)
    assert [(row.model, row.label, row.readings) for row in rows] == [
        (named, "0", 2),
        (named, "1", 1),
        (named, "60000", 1),
        (unknown, "5", 2),
    ]
    assert [[field.name for field in row.fields] for row in rows] == [["latency_ms"]] * 4
    assert [row.readings for row in sums(store, limit=2, by=("model", "label"))] == [2, 1]


def test_where_there_are_too_many_readings_to_find_a_percentile_it_is_approximate(store: Store) -> None:
    values = np.random.default_rng(1).random(5000)
    store.land(batch(0, 5000, confidence=values))
    [exact] = sums(store, fields=("confidence",))[0].fields
    snapshot = snapshots.Snapshot
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot, "memory_bytes", property(lambda self: 1000))
        [told] = sums(store, fields=("confidence",))[0].fields
    assert told.approximate and not exact.approximate
    assert told.p50 == pytest.approx(exact.p50, abs=0.005) and told.mean == pytest.approx(exact.mean)


def test_a_sum_that_cannot_be_meant_is_refused(store: Store) -> None:
    for grouping in ({"fields": ("speed",)}, {"by": ("colour",)}, {"window_ms": -1}):
        with pytest.raises(Invalid):
            Grouping(**grouping)  # type: ignore[arg-type]
    with pytest.raises(Invalid, match="counts"):
        sums(store, replace(ALWAYS, uncertain=True))
    with pytest.raises(Invalid, match="limit"):
        sums(store, limit=10**9)


def test_one_snapshot_is_read_whatever_is_archived_meanwhile(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The batches move into a file after the query has listed the files and before it reads the batches."""
    for first in range(0, 1000, 10):
        store.land(batch(first))
    store.fold()
    store.clock.advance(61)
    live = snapshots.store.live

    def overtaken(*args: Any) -> Any:
        found = live(*args)
        if not store.paths():
            store.upkeep.tick()
        return found

    monkeypatch.setattr(snapshots.store, "live", overtaken)
    assert [one.sequence for one in queried(store)] == list(range(1000))
    assert store.paths()
    assert [one.sequence for one in queried(store)] == list(range(1000))


def test_only_batches_of_the_asked_time_are_decoded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.land(*(batch(n * 10, at=START + HOUR * n) for n in range(10)))
    decoded: list[int] = []
    decode = snapshots.codec.decode_batch

    def counted(payload: bytes) -> Batch:
        decoded.append(1)
        return decode(payload)

    monkeypatch.setattr(snapshots.codec, "decode_batch", counted)
    assert len(queried(store, since=START + HOUR * 3, until=START + HOUR * 4)) == 10
    assert len(decoded) == 1


def test_a_query_that_takes_too_long_is_ended(store: Store) -> None:
    store.land(batch(0), batch(10))
    store.configure(query_timeout_s=1e-6)
    with pytest.raises(Exhausted, match="shorter time"):
        queried(store)
    store.configure(query_timeout_s=30.0)
    assert len(queried(store)) == 20


def slow(monkeypatch: pytest.MonkeyPatch, running: threading.Event) -> None:
    """The database gives no end of batches."""
    landed = snapshots.store.landed

    def endless(*args: Any) -> Iterator[Any]:
        [first, *_] = list(landed(*args))
        running.set()
        while True:
            yield first

    monkeypatch.setattr(snapshots.store, "landed", endless)


def test_a_cancelled_query_is_free_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.configure(query_concurrent=1)
    store.land(batch(0))
    running = threading.Event()
    with pytest.MonkeyPatch.context() as patch:
        slow(patch, running)
        pages = store.readings.query(ADMIN, ALWAYS)
        ended: list[Exception] = []

        def read() -> None:
            try:
                next(pages)
            except Exhausted as error:
                ended.append(error)

        reader = threading.Thread(target=read)
        reader.start()
        assert running.wait(20)
        with pytest.raises(Exhausted, match="try again"):
            queried(store)
        pages.cancel()
        reader.join(20)
    assert isinstance(ended[0], Exhausted)
    assert len(queried(store)) == 10
    wait_for(lambda: list((store.folder / "spill").iterdir()) == [], "the end of its folder")


def test_a_query_in_the_middle_of_duckdb_is_ended_too(store: Store) -> None:
    """An endless statement, with nothing of ours running that could look at a clock."""
    store.configure(query_timeout_s=0.3)
    question = store.engine.question()
    with pytest.raises(Exhausted, match="longer than 0.3 s"):
        list(question.ask("SELECT count(*) FROM range(100000000) a, range(100000) b WHERE a.range % 7 = b.range % 3"))
    question.close()


def test_a_reader_that_goes_to_sleep_loses_its_query_and_not_the_hub_its_place(store: Store) -> None:
    store.configure(query_concurrent=1, query_timeout_s=0.5)
    store.land(batch(0, 10_000))
    asleep = store.readings.query(ADMIN, ALWAYS)
    assert len(next(asleep)) > 0

    def served() -> bool:
        try:
            return len(queried(store, limit=10)) == 10
        except Exhausted:
            return False

    wait_for(served, "a place for another query")
    with pytest.raises(Exhausted):
        list(asleep)


def test_a_query_that_was_never_started_holds_nothing(store: Store) -> None:
    store.configure(query_concurrent=1)
    store.land(batch(0))
    for _ in range(3):
        store.readings.query(ADMIN, ALWAYS).close()
    left = store.readings.query(ADMIN, ALWAYS)
    assert len(queried(store)) == 10
    left.cancel()
    with pytest.raises(Exhausted, match="cancelled"):
        next(left)
    assert len(queried(store)) == 10


def test_more_readings_than_memory_spill_and_are_all_told(store: Store) -> None:
    store.configure(query_memory_mb=40, query_concurrent=1, query_threads=1)
    dice = np.random.default_rng(2)
    for first in range(0, 400_000, 10_000):
        store.land(batch(first, 10_000, confidence=dice.random(10_000), step_ms=1))
    store.archive()
    last, spilled = -1, 0
    for page in store.readings.query(ADMIN, ALWAYS, 1_000_000):
        spilled = spilled or sum(path.stat().st_size for path in (store.folder / "spill").rglob("*") if path.is_file())
        for reading in page:
            assert reading.sequence == last + 1
            last = reading.sequence
    assert last + 1 == 400_000
    assert spilled > 0


def test_a_query_beyond_its_memory_and_its_disk_is_refused_and_the_next_one_served(store: Store) -> None:
    dice = np.random.default_rng(2)
    for first in range(0, 200_000, 10_000):
        store.land(batch(first, 10_000, confidence=dice.random(10_000)))
    store.configure(query_memory_mb=10, query_spill_mb=1, query_concurrent=1, query_threads=1)
    with pytest.raises(Exhausted, match="not archived yet"):
        queried(store)
    assert len(queried(store, limit=10, until=START + SECOND)) == 10
    store.archive()
    with pytest.raises(Exhausted, match="more memory"):
        queried(store)
    assert len(queried(store, limit=10, until=START + SECOND)) == 10
    wait_for(lambda: list((store.folder / "spill").iterdir()) == [], "the end of its folder")


def test_a_query_reaches_nothing_but_the_archive(store: Store, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("key\n42\n")
    store.land(batch(0))
    for sql in (
        f"SELECT * FROM read_csv('{secret}')",
        f"COPY (SELECT 1) TO '{tmp_path}/out.csv'",
        "INSTALL httpfs",
        f"ATTACH '{tmp_path}/other.db'",
        "SET memory_limit = '100GB'",
    ):
        question = store.engine.question()
        with pytest.raises(Exception, match=r"(?i)permission|not allowed|disabled|locked|cannot"):
            list(question.ask(sql))
        question.close()
    assert {path.name for path in tmp_path.iterdir()} >= {"secret.csv"} and not (tmp_path / "out.csv").exists()


def test_readings_in_too_many_files_ask_for_a_shorter_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.land(batch(0, at=START), batch(10, at=START + 48 * HOUR), batch(20, at=START + 96 * HOUR))
    store.land(batch(30))
    store.archive()
    monkeypatch.setattr(snapshots, "MAX_FILES", 2)
    with pytest.raises(Exhausted, match="shorter time"):
        queried(store)
    assert len(queried(store, until=START + HOUR)) == 20


def test_a_lost_file_is_told_and_takes_no_other_query_with_it(store: Store) -> None:
    store.land(batch(0, at=START), batch(10, at=START + 48 * HOUR))
    store.land(batch(20))
    store.archive()
    [gone] = [path for path in store.paths() if "2026-03-03" in path]
    store.files.delete(gone)
    with pytest.raises(NotReady, match="archive cannot be read"):
        queried(store)
    assert len(queried(store, until=START + HOUR)) == 20


def test_an_object_store_that_is_away_is_told(store: Store) -> None:
    store.land(batch(0), batch(10))
    store.archive()
    store.files = ObjectFiles(
        "s3://telemetry/x",
        {
            "endpoint_url": "http://127.0.0.1:9",
            "key": "k",
            "secret": "s",
            "config_kwargs": {"retries": {"max_attempts": 1}, "connect_timeout": 1},
        },
    )
    store.__post_init__()
    with pytest.raises(Unavailable, match="archive"):
        queried(store)


def test_times_at_the_edges_of_a_day_are_kept_to_the_millisecond(store: Store) -> None:
    midnight = datetime(2026, 3, 2, tzinfo=START.tzinfo)
    store.land(batch(0, 4, at=midnight - timedelta(milliseconds=2), step_ms=1))
    store.land(batch(4))
    before = queried(store)
    store.archive()
    assert len(store.paths()) == 2
    assert queried(store) == before
    edge = queried(store, since=midnight, until=midnight + timedelta(milliseconds=1))
    assert [one.sequence for one in edge] == [2]


def test_the_configuration_of_these_tests_is_the_default_but_for_times() -> None:
    assert replace(CONFIG, compact_after_s=3600.0, keep_raw_days=90, keep_rollup_days=730) == type(CONFIG)()
