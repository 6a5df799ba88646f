"""What the port promises, over the file and the fake."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge_agent.core.config import SpoolConfig
from edge_agent.core.ports import Spool
from edge_agent.spool.sqlite import SqliteSpool
from protos.contract.codec import decode_batch
from protos.contract.errors import ContractError
from protos.contract.telemetry import Lane, Mark
from tests.agent.clocks import ManualClock
from tests.agent.fakes_spool import MemorySpool
from tests.agent.spool.parts import MODEL, accounted, happening, held, outcome

CONFIG = SpoolConfig(batch_records=10, linger_s=2.0, commit_interval_s=0.01)
SMALL = SpoolConfig(batch_records=10, linger_s=2.0, commit_interval_s=0.01, max_bytes=12_000)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def make(kind: str, folder: Path, config: SpoolConfig, clock: ManualClock) -> Spool:
    return MemorySpool(config, clock) if kind == "memory" else SqliteSpool(folder / "spool.db", config, clock)


@pytest.fixture(params=["memory", "sqlite"])
def spool(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Iterator[Spool]:
    made = make(request.param, tmp_path, CONFIG, clock)
    yield made
    made.close()


@pytest.fixture(params=["memory", "sqlite"])
def small(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Iterator[Spool]:
    made = make(request.param, tmp_path, SMALL, clock)
    yield made
    made.close()


def fill(spool: Spool, records: int, lane: Lane = Lane.NORMAL) -> None:
    for i in range(records):
        spool.append(outcome(i), lane)
        if i % 10 == 9:
            spool.flush()
    spool.flush()


def incompressible(spool: Spool, records: int, lane: Lane) -> None:
    for _ in range(records):
        spool.append(happening(detail=os.urandom(100).hex()), lane)
    spool.flush()


def mark(spool: Spool, through: int, lane: Lane = Lane.NORMAL) -> Mark:
    return Mark(epoch=spool.epoch, lane=lane, committed_through=through)


def test_each_lane_counts_from_zero(spool: Spool) -> None:
    assert [spool.append(outcome()) for _ in range(3)] == [0, 1, 2]
    assert spool.append(happening(), Lane.CRITICAL) == 0
    assert spool.append(outcome(), Lane.BULK) == 0


def test_a_full_batch_is_cut_and_holds_what_was_appended(spool: Spool) -> None:
    fill(spool, 10)
    (batch,) = held(spool)
    assert accounted([batch]) == list(range(10))
    assert [row.label for row in batch.inferences.rows()] == list(range(10))
    assert {row.model for row in batch.inferences.rows()} == {MODEL}


def test_a_short_batch_is_cut_only_once_it_has_lingered(spool: Spool, clock: ManualClock) -> None:
    fill(spool, 3)
    assert held(spool) == []
    clock.advance(CONFIG.linger_s)
    assert accounted(held(spool)) == [0, 1, 2]


def test_outcomes_and_happenings_share_the_order_of_their_lane(spool: Spool, clock: ManualClock) -> None:
    spool.append(outcome())
    spool.append(happening("a.b", "why"))
    spool.append(outcome())
    spool.flush()
    clock.advance(CONFIG.linger_s)
    (batch,) = held(spool)
    assert batch.inferences.sequence.tolist() == [0, 2]
    assert [(event.sequence, event.kind, event.detail) for event in batch.events] == [(1, "a.b", "why")]


def test_asking_again_gives_the_same_bytes_whatever_came_since(spool: Spool) -> None:
    fill(spool, 20)
    first = spool.batches(after=None, lane=Lane.NORMAL, limit=10)
    fill(spool, 25)
    again = spool.batches(after=None, lane=Lane.NORMAL, limit=2)
    assert [payload for _, payload in again] == [payload for _, payload in first]
    assert [decode_batch(payload) for _, payload in again] == [batch for batch, _ in again]


def test_batches_come_in_order_behind_a_mark(spool: Spool) -> None:
    fill(spool, 50)
    behind = spool.batches(after=mark(spool, 19), lane=Lane.NORMAL, limit=2)
    assert [batch.first_sequence for batch, _ in behind] == [20, 30]


def test_a_mark_of_another_epoch_starts_from_the_oldest(spool: Spool) -> None:
    fill(spool, 20)
    foreign = Mark(epoch="0ther", lane=Lane.NORMAL, committed_through=19)
    assert accounted([batch for batch, _ in spool.batches(after=foreign, lane=Lane.NORMAL, limit=5)]) == list(range(20))
    spool.discard([foreign])
    assert accounted(held(spool)) == list(range(20))


def test_discard_forgets_whole_batches_the_mark_covers(spool: Spool) -> None:
    fill(spool, 30)
    spool.discard([mark(spool, 14)])
    assert accounted(held(spool)) == list(range(10, 30))
    spool.discard([mark(spool, 29), mark(spool, 3)])
    assert held(spool) == []
    assert spool.stats().records == 0


def test_a_mark_beyond_what_was_cut_is_ignored(spool: Spool) -> None:
    fill(spool, 25)
    spool.discard([mark(spool, 22), mark(spool, 1_000_000)])
    assert accounted(held(spool)) == list(range(20))
    assert spool.stats().records == 25


def test_a_new_batch_wakes_whoever_asked(spool: Spool) -> None:
    calls: list[int] = []
    spool.on_batch(lambda: calls.append(1))
    fill(spool, 9)
    assert not calls
    fill(spool, 1)
    assert calls


@pytest.mark.parametrize("confidence", [-0.1, 1.1, float("nan")])
def test_what_no_batch_could_carry_is_refused_and_uses_no_number(spool: Spool, confidence: float) -> None:
    bad = type(outcome())(captured_at=outcome().captured_at, model=MODEL, label=0, confidence=confidence, latency_ms=1.0)
    with pytest.raises(ContractError):
        spool.append(bad)
    with pytest.raises(ContractError):
        spool.append(type(bad)(captured_at=bad.captured_at, model=MODEL, label=0, confidence=0.5, latency_ms=1e39))
    assert spool.append(outcome()) == 0


def test_odd_text_and_clocks_before_1970_still_make_a_batch(spool: Spool, clock: ManualClock) -> None:
    odd = type(happening())(at=datetime(1969, 1, 1, tzinfo=UTC), kind="k" * 100, detail="\udcff\0" + "é" * 5000)
    spool.append(odd)
    spool.append(type(odd)(at=odd.at, kind=""))
    spool.flush()
    clock.advance(CONFIG.linger_s)
    (batch,) = held(spool)
    assert len(batch.events) == 2


def test_a_full_spool_drops_the_lowest_lane_first_and_accounts_for_it(small: Spool) -> None:
    incompressible(small, 20, Lane.CRITICAL)
    incompressible(small, 200, Lane.BULK)
    incompressible(small, 20, Lane.CRITICAL)
    stats = small.stats()
    assert stats.bytes <= SMALL.max_bytes
    critical = held(small, Lane.CRITICAL)
    assert accounted(critical) == list(range(40)) and not any(batch.gaps for batch in critical)
    assert stats.dropped > 0
    assert stats.dropped + stats.records == 240


def test_what_is_dropped_is_the_oldest_and_becomes_one_gap(small: Spool) -> None:
    incompressible(small, 300, Lane.NORMAL)
    batches = held(small)
    assert accounted(batches) == list(range(batches[-1].last_sequence + 1))
    assert [len(batch.gaps) for batch in batches] == [1] + [0] * (len(batches) - 1)
    assert batches[0].dropped == small.stats().dropped


def test_a_batch_that_was_handed_out_is_never_dropped_or_cut_again(small: Spool) -> None:
    incompressible(small, 20, Lane.NORMAL)
    sent = small.batches(after=None, lane=Lane.NORMAL, limit=2)
    incompressible(small, 300, Lane.NORMAL)
    again = small.batches(after=None, lane=Lane.NORMAL, limit=100)
    assert list(again[:2]) == list(sent)
    assert accounted([batch for batch, _ in again]) == list(range(again[-1][0].last_sequence + 1))
    assert again[2][0].gaps


def test_a_gap_can_be_discarded_like_any_batch(small: Spool) -> None:
    incompressible(small, 300, Lane.NORMAL)
    last = held(small)[-1].last_sequence
    small.discard([mark(small, last)])
    assert held(small) == []


def test_append_costs_microseconds(tmp_path: Path) -> None:
    from edge_agent.core.clock import SystemClock

    spool = SqliteSpool(tmp_path / "spool.db", SpoolConfig(), SystemClock())
    item = outcome()
    clock = SystemClock()
    best = min(_timed(spool, item, clock) for _ in range(5))
    spool.close()
    assert best < 200e-6  # seconds; a few microseconds on an idle machine, and a sync of the disk would be milliseconds


def _timed(spool: Spool, item: object, clock: ManualClock) -> float:
    started = clock.monotonic()
    for _ in range(500):
        spool.append(item)  # type: ignore[arg-type]
    return (clock.monotonic() - started) / 500
