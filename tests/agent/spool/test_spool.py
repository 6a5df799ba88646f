"""What the port promises, over the file and the fake."""

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge_agent.core.config import SpoolConfig
from edge_agent.core.ports import Spool
from edge_agent.spool.sqlite import SqliteSpool
from protos.contract.codec import decode_batch
from protos.contract.errors import ContractError
from protos.contract.telemetry import Lane, Mark
from protos.contract.twin import Held
from tests.agent.clocks import ManualClock
from tests.agent.fakes_spool import MemorySpool
from tests.agent.spool.parts import MODEL, NOW, accounted, happening, held, outcome

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


@pytest.mark.parametrize("through", [22, 1_000_000])
def test_a_mark_beyond_what_was_cut_moves_all_that_is_held_to_a_new_epoch(
    spool: Spool, clock: ManualClock, through: int
) -> None:
    fill(spool, 25)
    spool.append(happening("a.b"), Lane.CRITICAL)
    spool.discard([mark(spool, 9)])
    epoch = spool.epoch
    sent = spool.batches(after=None, lane=Lane.NORMAL, limit=1)
    spool.discard([mark(spool, 3, Lane.BULK), mark(spool, through)])
    assert spool.epoch != epoch
    assert spool.append(outcome(77)) == 15
    spool.flush()
    clock.advance(CONFIG.linger_s)
    batches = held(spool)
    assert accounted(batches) == list(range(16))
    assert [row.label for batch in batches for row in batch.inferences.rows()] == [*range(10, 25), 77]
    assert {batch.epoch for batch in batches} == {spool.epoch}
    assert sent[0][0].epoch == epoch
    critical = held(spool, Lane.CRITICAL)
    assert [(event.sequence, event.kind) for batch in critical for event in batch.events] == [
        (0, "spool.foreign_mark"),
        (1, "a.b"),
    ]
    again = spool.batches(after=None, lane=Lane.NORMAL, limit=9)
    assert spool.batches(after=None, lane=Lane.NORMAL, limit=9) == again
    assert [decode_batch(payload) for _, payload in again] == [batch for batch, _ in again]
    spool.discard([mark(spool, 15), mark(spool, 1, Lane.CRITICAL)])
    assert spool.stats().records == 0


def test_a_foreign_mark_with_nothing_held_still_begins_an_epoch_and_says_so(spool: Spool) -> None:
    fill(spool, 10)
    spool.discard([mark(spool, 9)])
    spool.discard([mark(spool, 10)])
    assert [event.kind for batch in held(spool, Lane.CRITICAL) for event in batch.events] == ["spool.foreign_mark"]
    assert spool.append(outcome()) == 0


def test_dropped_records_stay_accounted_for_across_a_foreign_mark(small: Spool) -> None:
    incompressible(small, 300, Lane.NORMAL)
    before = small.stats()
    small.discard([mark(small, 1000)])
    batches = held(small)
    assert accounted(batches) == list(range(batches[-1].last_sequence + 1))
    assert sum(batch.dropped for batch in batches) == before.dropped > 0


def test_what_is_held_goes_from_the_oldest_not_forgotten_to_the_next(spool: Spool) -> None:
    empty = Held(epoch=spool.epoch, lane=Lane.BULK, oldest=0, next=0)
    fill(spool, 25)
    spool.append(outcome())
    spool.discard([mark(spool, 9)])
    assert spool.held() == (
        replace(empty, lane=Lane.CRITICAL),
        replace(empty, lane=Lane.NORMAL, oldest=10, next=26),
        empty,
    )
    spool.flush()
    spool.discard([mark(spool, 19)])
    assert spool.held()[1] == replace(empty, lane=Lane.NORMAL, oldest=20, next=26), "no batch left, open records are"


def test_the_stats_of_a_lane_add_up(small: Spool) -> None:
    incompressible(small, 300, Lane.NORMAL)
    small.append(outcome(), Lane.CRITICAL)
    stats = small.stats()
    normal, critical = stats.lanes[Lane.NORMAL], stats.lanes[Lane.CRITICAL]
    assert (normal.next, normal.committed, normal.gaps, critical.next) == (300, -1, 1, 1)
    assert normal.records + normal.dropped == 300
    assert stats.records == normal.records + 1 and stats.dropped == normal.dropped
    assert stats.bytes == sum(lane.bytes for lane in stats.lanes.values())
    assert critical.oldest_at == NOW and stats.lanes[Lane.BULK].oldest_at is None
    assert stats.epoch == small.epoch


def test_an_answer_is_bounded_by_bytes_and_never_empty(spool: Spool) -> None:
    fill(spool, 50)
    sizes = [len(payload) for _, payload in spool.batches(after=None, lane=Lane.NORMAL, limit=9)]
    two = spool.batches(after=None, lane=Lane.NORMAL, limit=9, limit_bytes=sizes[0] + sizes[1])
    assert [batch.first_sequence for batch, _ in two] == [0, 10]
    assert len(spool.batches(after=None, lane=Lane.NORMAL, limit=9, limit_bytes=1)) == 1


@pytest.mark.parametrize("year", [1970, 2100])
def test_a_clock_that_leaps_leaves_valid_records_and_the_linger_alone(spool: Spool, clock: ManualClock, year: int) -> None:
    fill(spool, 3)
    spool.append(replace(outcome(), captured_at=datetime(year, 1, 1, tzinfo=UTC)))
    spool.append(replace(outcome(), captured_at=datetime(2001, 1, 1, tzinfo=UTC)))
    spool.flush()
    assert held(spool) == []
    clock.advance(CONFIG.linger_s)
    (batch,) = held(spool)
    times = [row.captured_at.year for row in batch.inferences.rows()]
    assert times == [2025, 2025, 2025, year, 2001]


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


def test_the_stream_goes_on_where_all_that_could_be_dropped_is_under_way(small: Spool, clock: ManualClock) -> None:
    incompressible(small, 100, Lane.NORMAL)
    under_way = small.batches(after=None, lane=Lane.NORMAL, limit=1000)
    for _ in range(50):
        incompressible(small, 10, Lane.NORMAL)
    clock.advance(SMALL.linger_s)
    batches = held(small)
    assert batches[: len(under_way)] == [batch for batch, _ in under_way]
    assert accounted(batches) == list(range(600))
    small.discard([mark(small, batches[-1].last_sequence)])
    assert held(small) == []
    incompressible(small, 20, Lane.NORMAL)
    assert [batch.records for batch in held(small)] == [10, 10], "there is room again"


def test_the_critical_lane_alone_drops_its_own_oldest_and_says_so(small: Spool) -> None:
    incompressible(small, 400, Lane.CRITICAL)
    batches = held(small, Lane.CRITICAL)
    assert accounted(batches) == list(range(400))
    assert batches[0].dropped > 0 and batches[-1].records > 0
    assert small.stats().bytes <= SMALL.max_bytes


def test_gaps_do_not_fill_the_spool(small: Spool) -> None:
    """What an uplink does whose hub commits nothing: it asks for its window again and again."""
    for _ in range(150):
        incompressible(small, 10, Lane.NORMAL)
        small.batches(after=None, lane=Lane.NORMAL, limit=5)
    stats = small.stats()
    assert stats.lanes[Lane.NORMAL].gaps <= 6
    assert stats.bytes <= SMALL.max_bytes
    assert accounted(held(small)) == list(range(1500))


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
