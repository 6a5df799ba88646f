"""The one promise of the engine: its result depends on the set of rows, and on nothing else."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.streams.spec import Kind, StreamSpec
from edge_agent.streams.windows import Closed, Windows, merge
from tests.agent.streams.examples import LATENESS_S, check, feed, plain, row_sets, specs, through_json
from tests.agent.streams.reference import Row, compare

EXAMPLES = settings(max_examples=100, deadline=None)
for_each_kind = pytest.mark.parametrize("kind", Kind)


def ordered(spec: StreamSpec, rows: Sequence[Row]) -> list[Closed]:
    windows = Windows(spec)
    closed = [*feed(windows, rows), *windows.finish()]
    assert windows.finish() == []
    assert spec.window.kind is Kind.SLIDING or len(windows) == 0
    return closed


def shuffled_within(draw: st.DrawFn, rows: Sequence[Row], lateness_ms: int) -> list[Row]:
    """Some order in which no row comes more than the lateness after a newer one."""
    left, taken, newest = list(rows), [], -1
    while left:
        least = min(row.at_ms for row in left)
        able = [row for row in left if max(newest, row.at_ms) - lateness_ms <= least]
        row = able[draw(st.integers(0, len(able) - 1))]
        left.remove(row)
        taken.append(row)
        newest = max(newest, row.at_ms)
    return taken


@for_each_kind
@EXAMPLES
@given(st.data(), row_sets())
def test_the_engine_agrees_with_the_plain_definition(kind: Kind, data: st.DataObject, rows: list[Row]) -> None:
    spec = data.draw(specs(kind))
    check(spec, ordered(spec, rows), rows)


@for_each_kind
@EXAMPLES
@given(st.data(), row_sets())
def test_order_within_the_lateness_repeats_batches_and_restores_change_not_a_bit(
    kind: Kind, data: st.DataObject, rows: list[Row]
) -> None:
    spec = data.draw(specs(kind))
    arrival = shuffled_within(data.draw, rows, round(LATENESS_S * 1000))
    windows, closed, came = Windows(spec), [], 0
    while came < len(arrival):
        size = data.draw(st.integers(1, 6))
        batch = arrival[came : came + size]
        came += len(batch)
        repeats = data.draw(st.lists(st.sampled_from(arrival[:came]), max_size=4))
        closed += feed(windows, data.draw(st.permutations([*batch, *repeats])) if _in_time(batch) else [*batch, *repeats])
        if data.draw(st.booleans()):
            windows = through_json(windows, spec)
    assert plain([*closed, *windows.finish()]) == ordered(spec, rows)


def _in_time(batch: Sequence[Row]) -> bool:
    """Whether any order of these is one within the lateness."""
    times = [row.at_ms for row in batch]
    return max(times) - min(times) <= LATENESS_S * 1000


@for_each_kind
@EXAMPLES
@given(st.data(), row_sets(("a", "b", "c")))
def test_states_of_several_devices_merge_to_the_state_of_one_that_saw_all(
    kind: Kind, data: st.DataObject, rows: list[Row]
) -> None:
    spec = data.draw(specs(kind, lateness_s=60.0))
    parts = []
    for origin in ("a", "b", "c"):
        windows = Windows(spec)
        assert feed(windows, [row for row in rows if row.origin == origin]) == []
        parts.append(json.loads(json.dumps(windows.state())))
    whole = Windows(spec, merge(parts, spec))
    assert whole.finish() == ordered(spec, rows)
    assert Windows(spec, merge(parts[::-1], spec)).state() == Windows(spec, merge(parts, spec)).state()


@for_each_kind
@EXAMPLES
@given(st.data(), row_sets())
def test_merged_states_tell_every_window_that_none_of_the_parts_has_told(
    kind: Kind, data: st.DataObject, rows: list[Row]
) -> None:
    """However far apart the devices are in time: no row is left out that still waits in one of them."""
    spec = data.draw(specs(kind))
    told, parts = 0, []
    for origin in ("a", "b"):
        windows = Windows(spec)
        told += sum(window.readings for window in feed(windows, [row for row in rows if row.origin == origin]))
        parts.append(windows.state())
    rest = sum(window.readings for window in Windows(spec, merge(parts, spec)).finish())
    if spec.window.kind in (Kind.TUMBLING, Kind.SESSION):
        assert told + rest == sum(window.readings for window in ordered(spec, rows))
    if spec.window.kind is Kind.SLIDING:
        waiting = [window for part in parts for window in Windows(spec, part).finish()]
        assert rest >= sum(window.readings for window in waiting)


@for_each_kind
@EXAMPLES
@given(st.data(), row_sets())
def test_windows_come_in_the_order_of_their_ends_and_each_once(kind: Kind, data: st.DataObject, rows: list[Row]) -> None:
    spec = data.draw(specs(kind))
    closed = ordered(spec, rows)
    assert closed == plain(closed)
    assert len({(window.start_ms, window.end_ms, window.key) for window in closed}) == len(closed)


@for_each_kind
@EXAMPLES
@given(st.data(), row_sets(), st.permutations(range(40)))
def test_in_any_order_every_row_is_in_a_window_or_counted_as_late(
    kind: Kind, data: st.DataObject, rows: list[Row], order: list[int]
) -> None:
    spec = data.draw(specs(kind))
    arrival = [row for _, row in sorted(zip(order, rows, strict=False), key=lambda pair: pair[0])]
    windows = Windows(spec)
    closed = [*feed(windows, arrival), *windows.finish()]
    if spec.window.kind in (Kind.TUMBLING, Kind.SESSION):
        kept = [row for row in rows if all(compare(row[c.left], c) for c in spec.where)]
        assert sum(window.readings for window in closed) + windows.late == len(kept)
    assert windows.repeated == 0
