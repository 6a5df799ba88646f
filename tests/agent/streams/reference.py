"""What the windows of a set of rows are, worked out slowly and plainly from the definitions in docs/streams.md."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction

from edge_agent.streams.spec import Aggregate, Condition, Kind, StreamSpec

Value = float | int | bool | str
COMPARE: dict[str, Callable[[Value, Value], bool]] = {
    "<": lambda a, b: a < b,  # type: ignore[operator]
    "<=": lambda a, b: a <= b,  # type: ignore[operator]
    ">": lambda a, b: a > b,  # type: ignore[operator]
    ">=": lambda a, b: a >= b,  # type: ignore[operator]
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}


@dataclass(frozen=True)
class Row:
    origin: str
    sequence: int
    at_ms: int
    fields: tuple[tuple[str, Value], ...]

    def __getitem__(self, name: str) -> Value:
        return dict(self.fields)[name]

    @property
    def stamp(self) -> tuple[int, str, int]:
        return self.at_ms, self.origin, self.sequence


@dataclass(frozen=True)
class Expected:
    start_ms: int
    end_ms: int
    key: tuple[Value, ...]
    readings: int
    values: tuple[tuple[str, float], ...]
    counts: tuple[tuple[str, tuple[int, ...]], ...]
    tallies: tuple[tuple[str, tuple[tuple[int, int], ...]], ...]
    holds: bool | None


def windows_of(spec: StreamSpec, rows: Iterable[Row]) -> list[Expected]:
    """Of the set of rows, nothing being late, in the order of (end, start, key)."""
    by_key: dict[tuple[Value, ...], list[Row]] = {}
    for row in sorted({row.stamp: row for row in rows}.values(), key=lambda row: row.stamp):
        if all(compare(row[c.left], c) for c in spec.where):
            by_key.setdefault(tuple(row[name] for name in spec.by), []).append(row)
    found = [
        judged(spec, start, end, key, members) for key, of_key in by_key.items() for start, end, members in spans(spec, of_key)
    ]
    return sorted(found, key=lambda w: (w.end_ms, w.start_ms, w.key))


def spans(spec: StreamSpec, rows: list[Row]) -> list[tuple[int, int, list[Row]]]:
    """Windows with rows of one key; ``rows`` by time."""
    size, hop, gap = spec.window.size_ms, spec.window.hop_ms, spec.window.gap_ms
    if spec.window.kind in (Kind.TUMBLING, Kind.HOPPING):
        starts = {s for row in rows for s in range(row.at_ms // hop * hop, row.at_ms - size, -hop)}
        return [(s, s + size, [row for row in rows if s <= row.at_ms < s + size]) for s in starts]
    if spec.window.kind is Kind.SLIDING:
        times = {row.at_ms for row in rows}
        return [(t - size + 1, t + 1, [row for row in rows if t - size < row.at_ms <= t]) for t in times]
    sessions: list[list[Row]] = []
    for row in rows:
        if sessions and row.at_ms - sessions[-1][-1].at_ms < gap and (not size or row.at_ms < sessions[-1][0].at_ms + size):
            sessions[-1].append(row)
        else:
            sessions.append([row])
    return [(s[0].at_ms, min(s[-1].at_ms + gap, s[0].at_ms + size if size else s[-1].at_ms + gap), s) for s in sessions]


def judged(spec: StreamSpec, start: int, end: int, key: tuple[Value, ...], rows: list[Row]) -> Expected:
    values, counts, tallies = [], [], []
    for name, aggregate in sorted(spec.aggregates.items()):
        if aggregate.function == "histogram":
            counts.append((name, histogram(aggregate, rows)))
        elif aggregate.function == "counts":
            labels = [int(row[aggregate.field]) for row in rows]
            tallies.append((name, tuple((label, labels.count(label)) for label in sorted(set(labels)) if 0 <= label < 65536)))
        elif (value := one_value(aggregate, rows, end - start)) is not None:
            values.append((name, value))
    known = dict(values)
    holds = all(c.left in known and compare(known[c.left], c) for c in spec.condition) if spec.condition else None
    return Expected(start, end, key, len(rows), tuple(values), tuple(counts), tuple(tallies), holds)


def usable(value: Value) -> bool:
    return math.isfinite(float(value)) and abs(float(value)) <= 2**32


def histogram(aggregate: Aggregate, rows: list[Row]) -> tuple[int, ...]:
    bins = [0] * aggregate.bins
    for row in rows:
        value = float(row[aggregate.field])
        if usable(value):
            place = math.floor((value - aggregate.low) * (aggregate.bins / (aggregate.high - aggregate.low)))
            bins[min(max(place, 0), aggregate.bins - 1)] += 1
    return tuple(bins)


def one_value(aggregate: Aggregate, rows: list[Row], length_ms: int) -> float | None:
    function = aggregate.function
    if function == "count":
        return float(len(rows))
    if function == "rate":
        return len(rows) * 1000 / length_ms
    if function == "distinct":
        values = {row[aggregate.field] for row in rows}
        return float(min(len({v for v in values if isinstance(v, str) or math.isfinite(v)}), 1001))
    numbers = [float(row[aggregate.field]) for row in rows if usable(row[aggregate.field])]
    if not numbers:
        return None
    total = sum((Fraction(round(Fraction(number) * 2**30), 2**30) for number in numbers), Fraction())
    simple: dict[str, Callable[[], float]] = {
        "sum": lambda: float(total),
        "mean": lambda: float(total / len(numbers)),
        "min": lambda: min(numbers),
        "max": lambda: max(numbers),
        "first": lambda: numbers[0],
        "last": lambda: numbers[-1],
        "share": lambda: sum(number != 0 for number in numbers) / len(numbers),
    }
    if function in simple:
        return simple[function]()
    return sorted(numbers)[math.ceil(Fraction(int(function[1:]), 100) * len(numbers)) - 1]  # the engine's is within 0.79 %


def compare(value: Value, condition: Condition) -> bool:
    if not isinstance(condition.right, str) and not isinstance(value, str) and math.isnan(float(value)):
        return False
    return COMPARE[condition.op](value, condition.right)
