"""Random rows and streams, and rows as the engine takes them."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from edge_agent.streams.rows import Rows
from edge_agent.streams.spec import Aggregate, Condition, Kind, StreamSpec, WindowSpec
from edge_agent.streams.windows import Closed, Windows
from tests.agent.streams.reference import Expected, Row, windows_of

AGGREGATES = {
    "n": Aggregate(function="count"),
    "rate": Aggregate(function="rate"),
    "total": Aggregate(function="sum", field="x"),
    "mean": Aggregate(function="mean", field="x"),
    "least": Aggregate(function="min", field="x"),
    "most": Aggregate(function="max", field="x"),
    "first": Aggregate(function="first", field="x"),
    "last": Aggregate(function="last", field="x"),
    "p50": Aggregate(function="p50", field="x"),
    "p99": Aggregate(function="p99", field="x"),
    "kinds": Aggregate(function="distinct", field="name"),
    "labels": Aggregate(function="distinct", field="label"),
    "low": Aggregate(function="share", field="flag"),
    "bins": Aggregate(function="histogram", field="x", low=-1.0, high=2.0, bins=7),
    "by_label": Aggregate(function="counts", field="label"),
}
PERCENTILES = ("p50", "p99")
LATENESS_S = 3.0

edges = st.builds(
    lambda half_seconds, offset: max(0, 500 * half_seconds + offset), st.integers(0, 20), st.sampled_from([0, 0, -1, 1])
)
times_ms = st.one_of(edges, edges, st.integers(0, 12_000))  # most where windows begin and end, and several at once

numbers = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 0.1, -0.1, 1e-9, 4e9, -4e9, 1e10, float("nan"), float("inf")]),
    st.floats(-1, 2),
    st.floats(0, 1, width=32),
)


@st.composite
def row_sets(draw: st.DrawFn, origins: tuple[str, ...] = ("a", "b")) -> list[Row]:
    """Different rows, in the order of (time, origin, sequence)."""
    times = draw(st.lists(times_ms, max_size=25))
    base = draw(st.sampled_from([0, 1_700_000_000_123]))
    next_sequence = dict.fromkeys(origins, 0)
    rows = []
    for at_ms in times:
        origin = draw(st.sampled_from(origins))
        next_sequence[origin] += draw(st.sampled_from([1, 1, 1, 3]))
        fields = (
            ("x", draw(numbers)),
            ("label", draw(st.integers(0, 2))),
            ("name", draw(st.sampled_from(["cat", "dog"]))),
            ("flag", draw(st.booleans())),
        )
        rows.append(Row(origin, next_sequence[origin], base + at_ms, fields))
    return sorted(rows, key=lambda row: row.stamp)


@st.composite
def specs(draw: st.DrawFn, kind: Kind, lateness_s: float = LATENESS_S) -> StreamSpec:
    size_s = draw(st.sampled_from([0.007, 1.0, 2.5, 6.0]))
    window = {
        Kind.TUMBLING: WindowSpec(kind=kind, size_s=size_s, lateness_s=lateness_s),
        Kind.HOPPING: WindowSpec(
            kind=kind, size_s=6.0, hop_s=draw(st.sampled_from([0.5, 2.0, 4.0, 6.0])), lateness_s=lateness_s
        ),
        Kind.SLIDING: WindowSpec(kind=kind, size_s=size_s, lateness_s=lateness_s),
        Kind.SESSION: WindowSpec(
            kind=kind, gap_s=draw(st.sampled_from([0.5, 2.0])), size_s=draw(st.sampled_from([0.0, 3.0])), lateness_s=lateness_s
        ),
    }[kind]
    where = draw(
        st.sampled_from([(), (Condition(left="x", op="<", right=0.5),), (Condition(left="name", op="!=", right="cat"),)])
    )
    return StreamSpec(
        name="s",
        window=window,
        aggregates=AGGREGATES,
        by=draw(st.sampled_from([(), ("label",), ("name", "flag")])),
        where=where,
        condition=draw(st.sampled_from([(), (Condition(left="mean", op=">", right=0.4),)])),
    )


def as_rows(origin: str, rows: Sequence[Row]) -> Rows:
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in ("x", "label", "name", "flag")}
    return Rows(
        origin=origin,
        sequence=np.array([row.sequence for row in rows], dtype=np.int64),
        at_ms=np.array([row.at_ms for row in rows], dtype=np.int64),
        fields={
            "x": np.array(columns["x"], dtype=np.float64),
            "label": np.array(columns["label"], dtype=np.uint16),
            "name": np.array(columns["name"], dtype=object),
            "flag": np.array(columns["flag"], dtype=bool),
        },
    )


def feed(windows: Windows, rows: Sequence[Row]) -> list[Closed]:
    """One call for each run of rows of the same origin."""
    closed: list[Closed] = []
    start = 0
    for i in range(1, len(rows) + 1):
        if i == len(rows) or rows[i].origin != rows[start].origin:
            closed += windows.add(as_rows(rows[start].origin, rows[start:i]))
            start = i
    return closed


def through_json(windows: Windows, spec: StreamSpec) -> Windows:
    return Windows(spec, json.loads(json.dumps(windows.state(), allow_nan=False)))


def plain(closed: Sequence[Closed]) -> list[Closed]:
    return sorted(closed, key=lambda w: (w.end_ms, w.start_ms, w.key))


def check(spec: StreamSpec, closed: Sequence[Closed], rows: Sequence[Row]) -> None:
    """The engine says what the reference says; percentiles within their error, all else to the last bit."""
    expected = windows_of(spec, rows)
    assert [comparable(window) for window in plain(closed)] == [without_percentiles(window) for window in expected]
    for window, wanted in zip(plain(closed), expected, strict=True):
        for name in PERCENTILES:
            value, exact = dict(window.values).get(name), dict(wanted.values).get(name)
            assert (value is None) == (exact is None)
            if value is not None and exact is not None:
                assert abs(value - exact) <= max(0.0079 * abs(exact), 2**-20)


def comparable(window: Closed) -> Expected:
    values = tuple((name, value) for name, value in window.values if name not in PERCENTILES)
    key = tuple(value for _, value in window.key)
    return Expected(window.start_ms, window.end_ms, key, window.readings, values, window.counts, window.tallies, window.holds)


def without_percentiles(window: Expected) -> Expected:
    values = tuple((name, value) for name, value in window.values if name not in PERCENTILES)
    return Expected(
        window.start_ms, window.end_ms, window.key, window.readings, values, window.counts, window.tallies, window.holds
    )
