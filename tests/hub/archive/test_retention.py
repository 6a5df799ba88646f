"""What is old becomes sums, then nothing; what the sums say is what the readings said."""

from datetime import timedelta

import numpy as np
import pytest

from cloud_hub.archive import histograms, parquet
from cloud_hub.archive.retention import ROWS
from cloud_hub.archive.rollups import rolled_up
from cloud_hub.services.aggregates import Aggregate, Grouping
from cloud_hub.store import archive as archive_store
from cloud_hub.store import events
from cloud_hub.store.archive import Kind
from cloud_hub.store.database import Tx
from protos.contract.ids import DeviceId
from protos.contract.telemetry import Batch, Gap, Lane, Window, to_ms
from tests.hub.archive.parts import ALWAYS, Store
from tests.hub.fleet_parts import ADMIN
from tests.hub.telemetry_parts import CAM, START, batch, publish

CAM2 = DeviceId("cam-2")
HOUR = timedelta(hours=1)


def sums(local: Store, **grouping: object) -> list[Aggregate]:
    asked = Grouping(**grouping)  # type: ignore[arg-type]
    return [row for page in local.readings.aggregate(ADMIN, ALWAYS, asked) for row in page]


def random_batch(first: int, count: int, seed: int, **options: object) -> Batch:
    dice = np.random.default_rng(seed)
    labels, confidence = dice.integers(0, 4, count), dice.beta(8, 2, count)
    return batch(first, count, labels=labels, confidence=confidence, step_ms=10_000, **options)  # type: ignore[arg-type]


def counts(rows: list[Aggregate]) -> list[tuple[object, ...]]:
    return [
        (
            *(row.start, row.end, row.device, row.model, row.label, row.readings, row.uncertain),
            *(number for field in row.fields for number in (field.name, field.min, field.max)),
        )
        for row in rows
    ]


def test_old_days_become_roll_ups_that_say_the_same(store: Store) -> None:
    publish(store.db, 1)
    for number, device in enumerate((CAM, CAM2)):
        store.land(random_batch(0, 2000, number), device=device)
    store.land(batch(2000))
    hourly = {"window_ms": 3_600_000, "by": ("device", "model", "label")}
    before = sums(store, **hourly)
    exact = [sums(store, by=by) for by in ((), ("device",), ("label",), ("model",))]
    store.archive()
    assert sums(store, **hourly) == before
    store.days_go_by(40)
    store.land(batch(2010, at=store.clock.now()))
    store.archive()
    assert {path.split("/")[0] for path in store.paths()} == {"readings", "rollups"}
    store.clock.advance(3600)
    store.upkeep.tick()
    assert {path.split("/")[0] for path in store.paths()} == {"rollups"}
    assert len(store.identities()) == 10  # what came last
    assert counts(sums(store, **hourly))[: len(before)] == counts(before)
    for one, by in zip(exact, ((), ("device",), ("label",), ("model",)), strict=True):
        now = sums(store, by=by)
        assert sum(row.readings for row in now) == 4020
        for old, new in zip(one, now, strict=True):
            assert old.device == new.device and old.label == new.label and old.model == new.model
            for was, told in zip(old.fields, new.fields, strict=True):
                assert told.approximate and not was.approximate
                assert told.mean == pytest.approx(was.mean, rel=0.02)  # ten more readings came
                assert (told.min, told.max) == (was.min, was.max)
                near = {"confidence": {"abs": 0.01}, "latency_ms": {"rel": 0.05}}[told.name]
                assert told.p50 == pytest.approx(was.p50, **near) and told.p95 == pytest.approx(was.p95, **near)


def test_readings_that_come_late_are_added_to_their_hour(local: Store) -> None:
    local.land(random_batch(0, 100, 1))
    local.land(batch(100))
    local.archive()
    local.days_go_by(40)
    local.land(random_batch(0, 100, 2, lane=Lane.BULK))  # of forty days ago: its device was offline
    local.land(batch(110, at=local.clock.now()))
    local.archive()
    assert len(local.identities()) == 120, "age counts from when they came"
    [row] = [row for row in sums(local, window_ms=3_600_000) if row.start == START]
    assert row.readings == 210
    local.days_go_by(40)
    local.land(batch(120, at=local.clock.now()))
    local.archive()
    assert len(local.identities()) == 10
    [row] = [row for row in sums(local, window_ms=3_600_000) if row.start == START]
    assert row.readings == 210
    with local.db.read() as tx:
        assert len(archive_store.live(tx, ADMIN.tenant, Kind.ROLLUPS, 0, to_ms(START + HOUR))) == 2


def test_roll_ups_end_in_their_turn(local: Store) -> None:
    local.land(random_batch(0, 100, 1))
    local.land(batch(100))
    local.archive()
    for days in (40, 360):
        local.days_go_by(days)
        local.land(batch(0, epoch=f"late{days}", at=local.clock.now()))
        local.archive()
    assert all(row.start > START + 30 * 24 * HOUR for row in sums(local, window_ms=3_600_000))
    local.clock.advance(3600)
    local.upkeep.tick()
    with local.db.read() as tx:
        must, may = archive_store.paths(tx)
    assert local.paths() == must and not may


def test_readings_from_the_future_do_not_stay_for_ever(local: Store) -> None:
    local.land(batch(0, at=START + timedelta(days=20_000)), batch(0, lane=Lane.BULK))
    local.land(batch(10))
    local.archive()
    assert len(local.identities()) == 30
    local.days_go_by(40)
    local.land(batch(20))
    local.archive()
    assert [key[3] for key in local.identities()] == list(range(20, 30))
    assert sum(row.readings for row in sums(local)) == 40


def test_windows_gaps_and_events_go_with_the_readings(local: Store) -> None:
    window = Window(sequence=0, stream="busy", start=START, end=START + HOUR, readings=9, values=())
    gap = Gap(first_sequence=1, last_sequence=9, reason="spool full", at=START)
    local.forget = (events.forget,)
    local.restart()
    local.land(Batch(epoch="e1", lane=Lane.NORMAL, first_sequence=0, last_sequence=9, windows=(window,), gaps=(gap,)))
    local.land(batch(10, events=3))
    local.archive()
    assert len(local.paths()) == 2 and len(local.telemetry.events(ADMIN)) == 3
    local.days_go_by(40)
    local.land(batch(23, events=1, at=local.clock.now()))
    for _ in range(2):
        local.archive()
        local.clock.advance(3600)
    assert {path.split("/")[0] for path in local.paths()} == {"rollups"}
    assert len(local.telemetry.events(ADMIN)) == 1


def test_rows_of_other_tables_go_a_few_at_a_time(local: Store) -> None:
    left, asked = [2 * ROWS + 5], []

    def forget(tx: Tx, before_ms: int, limit: int) -> int:
        asked.append(before_ms)
        gone = min(limit, left[0])
        left[0] -= gone
        return gone

    local.forget = (forget,)
    local.restart()
    local.upkeep.tick()
    assert not asked, "the clock has not proved itself yet"
    local.clock.advance(3600)
    local.upkeep.tick()
    assert (left, len(asked)) == ([0], 3)
    assert set(asked) == {to_ms(START - timedelta(days=30)) // parquet.DAY_MS * parquet.DAY_MS}


def test_a_clock_that_leaps_ahead_makes_nothing_old(local: Store) -> None:
    local.land(random_batch(0, 100, 1))
    local.land(batch(100))
    local.archive()
    local.clock.leap(400 * 86_400)
    for _ in range(3):
        local.upkeep.tick()
        local.clock.advance(1000)
    assert len(local.identities()) == 110
    local.clock.leap(-400 * 86_400)
    local.clock.advance(7200)
    local.upkeep.tick()
    assert len(local.identities()) == 110


def test_a_query_that_runs_keeps_its_files(local: Store) -> None:
    local.land(random_batch(0, 20_000 // 2, 1), random_batch(10_000, 10_000, 2))
    local.land(batch(20_000))
    local.archive()
    pages = local.readings.query(ADMIN, ALWAYS)
    first = next(pages)
    local.days_go_by(40)
    local.land(batch(20_010))
    local.archive()
    assert len(first) + sum(map(len, pages)) == 20_010
    assert len(local.identities()) == 10


def test_histograms_give_percentiles_to_within_a_bucket() -> None:
    dice = np.random.default_rng(3)
    for field, values, bucketed, near in (
        ("confidence", dice.beta(5, 1, 10_000), histograms.confidence_buckets, {"abs": 0.5 / histograms.CONFIDENCE_BUCKETS}),
        ("latency_ms", dice.lognormal(2, 2, 10_000), histograms.latency_buckets, {"rel": 0.026}),
    ):
        buckets, counted = np.unique(bucketed(values), return_counts=True)
        histogram = dict(zip(buckets.tolist(), counted.tolist(), strict=True))
        for share in (0.0, 0.01, 0.5, 0.95, 1.0):
            exact = float(np.quantile(values, share, method="lower"))
            assert histograms.percentile(field, histogram, share) == pytest.approx(exact, **near)


def test_histograms_hold_the_ends_of_their_range() -> None:
    assert histograms.confidence_buckets(np.array([0.0, 1.0])).tolist() == [0, histograms.CONFIDENCE_BUCKETS - 1]
    low, high = histograms.latency_buckets(np.array([0.0, 1e9])).tolist()
    assert low == -1 and 500 < high < 600
    assert histograms.added({1: 2, 3: 1}, {1: 1, 2: 5}) == {1: 3, 2: 5, 3: 1}


def test_sums_of_parts_are_the_sum_of_the_whole(local: Store) -> None:
    """Roll-ups of two halves, added, are the roll-up of all: that is what lets late readings come."""
    local.land(random_batch(0, 3000, 5))
    local.land(batch(3000))
    local.archive()
    [path] = local.paths()
    table = parquet.read(local.files.get(path))
    dice = np.random.default_rng(1).random(len(table)) < 0.5
    whole = {(row["hour"], row["label"]): row for row in rolled_up(table).to_pylist()}
    halves = [rolled_up(table.filter(dice)).to_pylist(), rolled_up(table.filter(~dice)).to_pylist()]
    for key, row in whole.items():
        parts = [part for half in halves for part in half if (part["hour"], part["label"]) == key]
        assert sum(part["readings"] for part in parts) == row["readings"]
        assert sum(part["confidence_sum"] for part in parts) == pytest.approx(row["confidence_sum"])
        added: dict[int, int] = {}
        for part in parts:
            added = histograms.added(added, dict(part["latency_histogram"]))
        assert added == dict(row["latency_histogram"])
