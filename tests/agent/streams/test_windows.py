import json
import math
from typing import Any

import numpy as np
import pytest

from edge_agent.streams import panes, seen, waiting
from edge_agent.streams.rows import Rows
from edge_agent.streams.spec import Aggregate, InvalidSpec, Kind, StreamSpec, WindowSpec, load_specs
from edge_agent.streams.windows import Closed, Windows, merge


def spec(window: str = "kind: tumbling, size_s: 10, lateness_s: 2", rest: str = "", aggregates: str = "n: count") -> StreamSpec:
    (made,) = load_specs(f"streams: {{s: {{window: {{{window}}}, aggregates: {{{aggregates}}} {rest}}}}}")
    return made


def rows(*times_s: float, start: int = 0, origin: str = "o", **fields: Any) -> Rows:
    count = len(times_s)
    return Rows(
        origin=origin,
        sequence=np.arange(start, start + count),
        at_ms=np.array([round(time * 1000) for time in times_s], dtype=np.int64),
        fields={name: np.array(values) if isinstance(values, list) else values for name, values in fields.items()},
    )


def spans(closed: list[Closed]) -> list[tuple[float, float, int]]:
    return [(window.start_ms / 1000, window.end_ms / 1000, window.readings) for window in closed]


def test_a_window_closes_when_the_watermark_reaches_its_end() -> None:
    windows = Windows(spec())
    assert windows.add(rows(1, 9, 11.999)) == []
    assert spans(windows.add(rows(12, start=3))) == [(0, 10, 2)]
    assert spans(windows.finish()) == [(10, 20, 2)]


def test_a_row_within_the_lateness_counts_and_a_later_one_is_counted_as_late() -> None:
    windows = Windows(spec())
    assert windows.add(rows(1, 11, 9)) == []
    assert spans(windows.add(rows(13, start=3))) == [(0, 10, 2)]
    assert windows.add(rows(9.9, start=4)) == []
    assert windows.late == 1
    assert spans(windows.finish()) == [(10, 20, 2)]


def test_a_late_row_still_counts_in_the_hopping_windows_that_are_open() -> None:
    windows = Windows(spec("kind: hopping, size_s: 10, hop_s: 5, lateness_s: 0"))
    assert spans(windows.add(rows(7, 11))) == [(0, 10, 1)]
    assert spans(windows.add(rows(8, start=2))) == []
    assert windows.late == 1
    assert spans(windows.finish()) == [(5, 15, 3), (10, 20, 1)]


def test_windows_are_aligned_to_1970() -> None:
    windows = Windows(spec("kind: tumbling, size_s: 3600"))
    windows.add(rows(1_700_000_000))
    assert spans(windows.finish()) == [(1_699_999_200, 1_700_002_800, 1)]


def test_a_sliding_window_ends_with_its_row_and_leaves_out_what_is_as_old_as_its_size() -> None:
    windows = Windows(spec("kind: sliding, size_s: 5, lateness_s: 1"))
    closed = [*windows.add(rows(10, 11, 15, 20)), *windows.finish()]
    assert [(window.end_ms - 1, window.readings) for window in closed] == [(10000, 1), (11000, 2), (15000, 2), (20000, 1)]
    assert closed[2].start_ms == 10_001


def test_a_sliding_window_keeps_what_the_oldest_row_that_may_come_still_needs() -> None:
    windows = Windows(spec("kind: sliding, size_s: 5, lateness_s: 1"))
    windows.add(rows(10, 10.001, 16))
    assert windows.watermark_ms == 15_000
    windows.add(rows(15, start=3))
    assert spans(windows.finish())[0] == (10.001, 15.001, 2)


def test_a_session_ends_after_the_gap_and_joins_what_comes_out_of_order() -> None:
    windows = Windows(spec("kind: session, gap_s: 3, lateness_s: 5"))
    assert windows.add(rows(10, 15)) == []
    assert windows.add(rows(12.5, start=2)) == []  # closer than the gap to both
    assert spans(windows.add(rows(23, start=3))) == [(10, 18, 3)]


def test_a_session_is_cut_where_it_gets_too_long() -> None:
    windows = Windows(spec("kind: session, gap_s: 3, size_s: 4, lateness_s: 0"))
    closed = [*windows.add(rows(0, 2, 3.999, 4, 6)), *windows.finish()]
    assert spans(closed) == [(0, 4, 3), (4, 8, 2)]


def test_time_that_passes_without_rows_closes_windows() -> None:
    windows = Windows(spec())
    windows.add(rows(1, 2))
    assert windows.advance(9_999) == []
    assert spans(windows.advance(10_000)) == [(0, 10, 2)]
    assert windows.advance(5_000) == []
    windows.add(rows(3, start=2))
    assert windows.late == 1


def test_a_row_from_the_far_future_closes_nothing_where_the_caller_knows_the_time() -> None:
    windows = Windows(spec())
    assert windows.add(rows(1, 1e9, 2), now_ms=2_000) == []
    assert (windows.ahead, windows.newest_ms) == (1, 2_000)
    assert spans(windows.finish()) == [(0, 10, 2)]


def test_a_clock_that_was_put_back_begins_anew() -> None:
    windows = Windows(spec())
    windows.add(rows(1e9))
    assert spans(windows.restart()) == [(1e9, 1e9 + 10, 1)]
    assert windows.add(rows(1, start=1)) == []
    assert windows.late == 0
    assert spans(windows.finish()) == [(0, 10, 1)]


def test_the_window_of_nothing_says_nothing() -> None:
    windows = Windows(spec())
    assert windows.finish() == [] and windows.restart() == [] and windows.advance(5) == []
    assert windows.add(rows()) == []


def test_keys_are_told_one_by_one_in_their_order() -> None:
    windows = Windows(spec(rest=", by: [label, model]", aggregates="mean: mean(x)"))
    windows.add(rows(1, 2, 3, label=[2, 1, 2], model="m", x=[1.0, 2.0, 4.0]))
    found = [(window.key, window.values) for window in windows.finish()]
    assert found == [
        ((("label", 1), ("model", "m")), (("mean", 2.0),)),
        ((("label", 2), ("model", "m")), (("mean", 2.5),)),
    ]


def test_a_number_that_is_none_is_left_out_of_the_aggregate_and_not_of_the_count() -> None:
    aggregates = "n: count, mean: mean(x), least: min(x), last: last(x), p50: p50(x), bins: 'histogram(x, 0, 1, 2)'"
    windows = Windows(spec(aggregates=aggregates, rest=", condition: mean > 0"))
    windows.add(rows(1, 2, 3, 4, x=[math.nan, 0.5, math.inf, 1e12]))
    windows.add(rows(11, start=4, x=[math.nan]))
    first, second = windows.finish()
    assert dict(first.values) == {"n": 4, "mean": 0.5, "least": 0.5, "last": 0.5, "p50": 0.5}
    assert first.counts == (("bins", (0, 1)),)
    assert (second.values, second.holds) == ((("n", 1.0),), False)


def test_sums_are_exact_where_floating_point_is_not() -> None:
    windows = Windows(spec(aggregates="total: sum(x), mean: mean(x)"))
    windows.add(rows(*([1.0] * 1000), x=[0.1, 1e9, -1e9, 2.0**-25] * 250))
    unit = round(0.1 * 2**30)
    assert dict(windows.finish()[0].values) == {"total": (unit + 32) * 250 / 2**30, "mean": (unit + 32) * 250 / 2**30 / 1000}


def test_a_sum_beyond_64_bits_is_exact_too() -> None:
    windows = Windows(spec(aggregates="total: sum(x)"))
    windows.add(rows(*([1.0] * 64), x=[2.0**32 - 1] * 64))
    windows.add(rows(1, start=64, x=[2.0**-30]))
    assert windows.state()["open"][0][1][1][1] == [65, ((2**32 - 1) * 64 << 30) + 1]
    assert dict(windows.finish()[0].values) == {"total": (2**32 - 1) * 64.0}


@pytest.mark.parametrize("percent", [1, 50, 95, 99])
def test_percentiles_are_within_one_percent(percent: int) -> None:
    values = np.random.default_rng(3).lognormal(3, 2, 5000)
    made = StreamSpec(
        name="s",
        window=WindowSpec(kind=Kind.TUMBLING, size_s=10),
        aggregates={"p": Aggregate(function=f"p{percent}", field="x"), "q": Aggregate(function=f"p{percent}", field="y")},
    )
    windows = Windows(made)
    windows.add(rows(*([1.0] * 5000), x=values, y=-values))
    found = dict(windows.finish()[0].values)
    for name, column in (("p", values), ("q", -values)):
        exact = np.sort(column)[math.ceil(percent / 100 * 5000) - 1]
        assert found[name] == pytest.approx(exact, rel=0.0079)


def test_a_sketch_stays_small_whatever_it_is_fed() -> None:
    values = np.random.default_rng(3).standard_normal(20_000) * 10.0 ** np.random.default_rng(4).integers(-20, 9, 20_000)
    windows = Windows(spec(aggregates="p: p50(x)"))
    windows.add(rows(*([1.0] * 20_000), x=values))
    assert len(json.dumps(windows.state())) < 80_000


def test_distinct_values_are_counted_exactly_up_to_a_bound_and_told_as_more_beyond_it() -> None:
    windows = Windows(spec(aggregates="kinds: distinct(label)"))
    windows.add(rows(*([1.0] * 1000), label=list(range(1000))))
    windows.add(rows(*([11.0] * 1001), start=1000, label=list(range(1001))))
    assert [dict(window.values)["kinds"] for window in windows.finish()] == [1000.0, 1001.0]


def test_labels_are_tallied_up_to_the_highest_there_can_be() -> None:
    windows = Windows(spec(aggregates="labels: counts(label)"))
    windows.add(rows(1, 2, 3, 4, 5, label=[65535, 0, 65535, 65536, -1]))
    assert windows.finish()[0].tallies == (("labels", ((0, 1), (65535, 2))),)


def test_keys_beyond_the_bound_are_counted_and_no_memory_is_spent_on_them() -> None:
    windows = Windows(spec(rest=", by: label"))
    count = panes.MAX_KEYS + 50
    windows.add(rows(*([1.0] * count), label=list(range(count))))
    windows.add(rows(2, start=count, label=[0]))
    assert (windows.overflowed, len(windows)) == (50, panes.MAX_KEYS)
    assert sum(window.readings for window in windows.finish()) == panes.MAX_KEYS + 1


@pytest.mark.parametrize("window", ["kind: sliding, size_s: 600", "kind: session, gap_s: 600"])
def test_rows_that_wait_are_bounded(window: str) -> None:
    windows = Windows(spec(window + ", lateness_s: 600"))
    windows.add(rows(*([1.0] * (waiting.MAX_ROWS + 7))))
    assert windows.overflowed == 7
    assert [window.readings for window in windows.finish()] == [waiting.MAX_ROWS]


def test_holes_in_the_sequence_cost_no_memory_once_their_time_has_passed() -> None:
    windows = Windows(spec())
    for i in range(0, 4000, 2):
        windows.add(rows(i, start=i))
    assert len(windows.state()["seen"]["o"]) <= 3 * 14


def test_runs_of_sequences_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen, "MAX_RUNS", 10)
    windows = Windows(spec())
    for i in range(15):
        windows.add(rows(1, start=2 * i))
    assert len(windows.state()["seen"]["o"]) == 30
    assert windows.overflowed == 5


def test_a_state_goes_through_json_and_back() -> None:
    windows = Windows(spec(rest=", by: [name]", aggregates="p: p95(x), first: first(x), kinds: distinct(name)"))
    windows.add(rows(1, 2, x=[1.5, 2.5], name=["ä", "b"]))
    again = Windows(windows._spec, json.loads(json.dumps(windows.state(), allow_nan=False)))
    assert again.state() == windows.state()
    assert again.finish() == windows.finish()


def test_the_state_of_another_spec_is_refused() -> None:
    state = Windows(spec()).state()
    with pytest.raises(InvalidSpec, match="of another spec"):
        Windows(spec("kind: tumbling, size_s: 11"), state)
    for damaged in ({**state, "open": [3]}, {**state, "counters": []}, {**state, "seen": [3]}, {**state, "version": 99}, {}):
        with pytest.raises(InvalidSpec):
            Windows(spec(), damaged)


def test_a_field_that_readings_do_not_have_is_named() -> None:
    windows = Windows(spec(aggregates="m: mean(confidense)"))
    with pytest.raises(InvalidSpec, match="no field 'confidense'; did you mean 'confidence'"):
        windows.add(rows(1, confidence=[0.5]))
    assert windows.state()["seen"] == {}


def test_where_compares_in_full_width() -> None:
    windows = Windows(spec(rest=", where: 'x < 0.6'"))
    windows.add(rows(1, 2, x=np.array([0.6, 0.59], dtype=np.float32)))
    assert spans(windows.finish()) == [(0, 10, 1)]  # a 32-bit 0.6 is 0.60000002


def test_merging_nothing_is_an_empty_state() -> None:
    assert merge([], spec()) == Windows(spec()).state()
