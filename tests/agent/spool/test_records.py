"""Windows as records: numbered, packed, cut into batches and accounted for like any other."""

import math
import struct
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest

from edge_agent.core.config import SpoolConfig
from edge_agent.core.model import Item
from edge_agent.core.ports import Spool
from edge_agent.spool.records import (
    MAX_BATCH_ROW_BYTES,
    ROW_OVERHEAD_BYTES,
    Record,
    batch_of,
    chunks,
    happened_at,
    number,
    pack,
    row_bytes,
    shifted,
    span,
    unpack,
)
from edge_agent.spool.sqlite import SqliteSpool
from protos.contract.codec import decode_batch
from protos.contract.errors import InvalidValue
from protos.contract.telemetry import MAX_TEXT, MAX_VALUE, Gap, Lane, Mark, Window
from tests.agent.clocks import ManualClock
from tests.agent.fakes_spool import MemorySpool
from tests.agent.spool.parts import NOW, accounted, happening, held, outcome, summary

CONFIG = SpoolConfig(batch_records=10, linger_s=2.0, commit_interval_s=0.01)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["memory", "sqlite"])
def spool(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Iterator[Spool]:
    made: Spool = MemorySpool(CONFIG, clock) if request.param == "memory" else SqliteSpool(tmp_path / "spool.db", CONFIG, clock)
    yield made
    made.close()


def window(item: object = None, sequence: int = 5) -> Window:
    made = number(summary() if item is None else item, sequence)  # type: ignore[arg-type]
    assert isinstance(made, Window)
    return made


@pytest.mark.parametrize(
    "item", [summary(), summary(key="", values=0), summary(complete=False, values=64), summary(key="label_name=Straße,model=ß")]
)
def test_a_window_is_packed_and_unpacked_as_it_was(item: object) -> None:
    record = window(item)
    assert unpack(5, 5, pack(record)) == record
    assert row_bytes(record) == ROW_OVERHEAD_BYTES + len(pack(record))
    assert (span(record), happened_at(record)) == ((5, 5), NOW)
    assert shifted(record, 3) == replace(record, sequence=2)


@pytest.mark.parametrize("value", [None, 0.0, -2.5, MAX_VALUE])
def test_a_reading_is_packed_and_unpacked_with_its_value(value: float | None) -> None:
    record = number(replace(outcome(3), value=value, captured=True), 5)
    packed = pack(record)
    assert unpack(5, 5, packed) == record
    assert row_bytes(record) == ROW_OVERHEAD_BYTES + len(packed)
    assert all(unpack(5, 5, packed[:cut]) is None for cut in range(len(packed)))


def test_a_reading_without_a_value_is_packed_as_agents_before_did() -> None:
    assert len(pack(number(replace(outcome(3), value=1.0), 5))) == len(pack(number(outcome(3), 5))) + 4
    assert pack(number(outcome(3), 5))[0] == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e39])
def test_a_value_that_the_wire_cannot_carry_is_refused(spool: Spool, value: float) -> None:
    with pytest.raises(InvalidValue):
        spool.append(replace(outcome(), value=value))
    assert spool.append(replace(outcome(), value=1.5)) == 0


def test_what_no_batch_could_carry_is_refused_before_it_is_queued(spool: Spool) -> None:
    for bad in (replace(summary(), values=(("a", math.nan),)), replace(summary(), stream=""), replace(summary(), end=NOW)):
        with pytest.raises(InvalidValue):
            spool.append(bad)
    assert spool.append(summary()) == 0


def test_a_key_is_cut_and_cleaned_to_what_the_wire_can_carry() -> None:
    assert window(summary(key="label_name=a\0b\ud800")).key == "label_name=a b?"
    assert len(window(summary(key="x" * 5000)).key) == MAX_TEXT


def test_a_window_that_begins_before_1970_begins_in_1970() -> None:
    early = replace(summary(), start=datetime(1969, 12, 31, 23, 59, tzinfo=UTC), end=datetime(1970, 1, 1, 0, 1, tzinfo=UTC))
    assert window(early).start == datetime(1970, 1, 1, tzinfo=UTC)


def test_bytes_that_are_no_window_are_none() -> None:
    packed = pack(window())
    for cut in range(len(packed) - 1):
        assert unpack(5, 5, packed[:cut]) is None or cut > len(packed) - len("value02")
    nan = packed[:9] + packed[9:28] + struct.pack("<3d", math.nan, 0, 0) + packed[52:]
    assert unpack(5, 5, nan) is None
    assert unpack(5, 5, packed.replace(b"value00", b"value\xff0")) is None


def test_runs_are_cut_before_windows_get_too_many_for_a_batch() -> None:
    records: list[Record] = [window(summary(values=64, key="k" * 1000), i) for i in range(400)]
    runs = list(chunks(records, 1000))
    assert len(runs) > 1 and [record for run in runs for record in run] == records
    assert all(sum(map(row_bytes, run)) <= MAX_BATCH_ROW_BYTES for run in runs)
    assert accounted([batch_of("e", Lane.NORMAL, run) for run in runs]) == list(range(400))


def test_windows_share_the_order_of_their_lane_and_every_sequence_is_accounted_for(spool: Spool, clock: ManualClock) -> None:
    items: list[Item] = [outcome(1), summary(), happening(), summary(key=""), outcome(2)]
    assert [spool.append(item) for item in items] == [0, 1, 2, 3, 4]
    spool.flush()
    clock.advance(CONFIG.linger_s)
    ((batch, payload),) = spool.batches(after=None, lane=Lane.NORMAL, limit=9)
    assert decode_batch(payload) == batch
    assert accounted([batch]) == [0, 1, 2, 3, 4]
    assert [(row.sequence, row.key, row.values) for row in batch.windows] == [
        (1, "label=7", summary().values),
        (3, "", summary().values),
    ]
    assert spool.stats().records == 5


def test_windows_survive_a_restart_before_they_are_cut(tmp_path: Path, clock: ManualClock) -> None:
    spool = SqliteSpool(tmp_path / "spool.db", CONFIG, clock)
    for i in range(13):
        spool.append(summary(key=f"label={i}"))
    spool.close()
    spool = SqliteSpool(tmp_path / "spool.db", CONFIG, clock)
    clock.advance(CONFIG.linger_s)
    assert [row.key for batch in held(spool) for row in batch.windows] == [f"label={i}" for i in range(13)]
    spool.close()


def test_windows_dropped_for_want_of_room_are_accounted_for(tmp_path: Path, clock: ManualClock) -> None:
    spool = SqliteSpool(tmp_path / "spool.db", replace(CONFIG, max_bytes=12_000), clock)
    rng = Random(7)
    for i in range(300):
        spool.append(replace(summary(), values=tuple((f"v{n}", rng.random()) for n in range(8))))
        if i % 10 == 9:
            spool.flush()
    batches = held(spool)
    assert accounted(batches) == list(range(300))
    kept = sum(len(batch.windows) for batch in batches)
    assert 0 < kept < 300 and kept + spool.stats().dropped == 300
    assert any(isinstance(gap, Gap) for batch in batches for gap in batch.gaps)
    spool.close()


def test_windows_move_to_a_new_epoch_with_all_else_when_a_foreign_mark_comes(spool: Spool, clock: ManualClock) -> None:
    for i in range(15):
        spool.append(summary(key=f"label={i}") if i % 3 else outcome(i))
    spool.flush()
    epoch = spool.epoch
    spool.discard([Mark(epoch=epoch, lane=Lane.NORMAL, committed_through=10_000)])
    clock.advance(CONFIG.linger_s)
    assert spool.epoch != epoch
    batches = held(spool)
    assert accounted(batches) == list(range(15))
    assert [row.key for batch in batches for row in batch.windows] == [f"label={i}" for i in range(15) if i % 3]
