"""Accumulators: what is known of the rows of one window and key.

Each one is exact in the sense that it depends on the set of rows only: merging is commutative and associative to the last bit,
on every machine. So nothing here adds floating-point numbers, and nothing takes a logarithm.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from edge_agent.streams.columns import Block
from edge_agent.streams.spec import Aggregate

UNIT_BITS = 30  # sums count in 2^-30: a 32-bit float from 1/128 on is summed without any rounding, others to 4.7e-10 each
SKETCH_BITS = 6  # of the mantissa: 64 buckets in every power of two
SMALLEST = 2.0**-20  # percentiles take what is nearer to zero for zero
DISTINCT_EXACT = 1000  # beyond it a count of distinct values says one more, and means "more than that"
LABELS = 1 << 16  # counts by label: 0..65535, anything else is left out

_SHIFT = 52 - SKETCH_BITS  # of a 64-bit float's bits
_SAFE = float(1 << 62)


class Part(Protocol):
    """One kind of accumulator over one field. States are plain values that only the part itself looks into."""

    def new(self) -> Any:
        """Of no rows."""

    def fold(self, block: Block) -> list[Any]:
        """One state for each group."""

    def merge(self, into: Any, other: Any) -> Any:
        """Of the rows of both; may change and keep ``into``, but not ``other``."""

    def dump(self, state: Any) -> Any:
        """As JSON has it, the same for the same rows."""

    def load(self, value: Any) -> Any:
        """What ``dump`` gave; may keep ``value``."""


class Sum:
    """[usable rows, sum in units of 2^-UNIT_BITS]"""

    def __init__(self, field: str) -> None:
        self._field = field

    def new(self) -> list[int]:
        return [0, 0]

    def fold(self, block: Block) -> list[list[int]]:
        values, usable = block.numbers(self._field)
        units = np.rint(values * float(1 << UNIT_BITS))
        if float(np.abs(units).max()) * len(units) < _SAFE:
            totals = np.add.reduceat(units.astype(np.int64), block.starts).tolist()
        else:
            totals = [sum(map(int, units[a:b].tolist())) for a, b in zip(block.starts, block.ends, strict=True)]
        counts = block.sizes if usable is None else np.add.reduceat(usable.astype(np.int64), block.starts).tolist()
        return list(map(list, zip(counts, totals, strict=True)))

    def merge(self, into: list[int], other: list[int]) -> list[int]:
        into[0] += other[0]
        into[1] += other[1]
        return into

    def dump(self, state: list[int]) -> list[int]:
        return list(state)

    def load(self, value: list[int]) -> list[int]:
        return list(value)


class Extreme:
    """The least or greatest usable value; None: there is none."""

    def __init__(self, field: str, *, least: bool) -> None:
        self._field, self._least = field, least

    def new(self) -> None:
        return None

    def fold(self, block: Block) -> list[float | None]:
        values, usable = block.numbers(self._field)
        outside = np.inf if self._least else -np.inf
        values = values + 0.0 if usable is None else np.where(usable, values, outside)  # + 0.0: no negative zero
        found = (np.minimum if self._least else np.maximum).reduceat(values, block.starts).tolist()
        return found if usable is None else [None if value == outside else value + 0.0 for value in found]

    def merge(self, into: float | None, other: float | None) -> float | None:
        if into is None or other is None:
            return other if into is None else into
        return min(into, other) if self._least else max(into, other)

    def dump(self, state: float | None) -> float | None:
        return state

    def load(self, value: float | None) -> float | None:
        return value


class Sketch:
    """{bucket: rows}: buckets of values that differ by at most 1/64, read straight from the bits of the float.

    The middle of a bucket is within 0.79 % of every value in it. Buckets ascend with their values; those of negative values are
    the negatives of their counterparts, 0 is that of zero. At most 6,657 of them.
    """

    def __init__(self, field: str) -> None:
        self._field = field

    def new(self) -> dict[int, int]:
        return {}

    def fold(self, block: Block) -> list[dict[int, int]]:
        values, usable = block.numbers(self._field)
        size = np.abs(values)
        bucket = np.where(size < SMALLEST, 0, size.view(np.int64) >> _SHIFT)
        bucket = np.where(values < 0, -bucket, bucket)
        return _tallies(block, bucket, usable, span=1 << 18)

    def merge(self, into: dict[int, int], other: dict[int, int]) -> dict[int, int]:
        return _added(into, other)

    def dump(self, state: dict[int, int]) -> list[int]:
        return _flat(state)

    def load(self, value: list[int]) -> dict[int, int]:
        return dict(zip(value[::2], value[1::2], strict=True))


class Tally:
    """{label: rows} of a small integer field."""

    def __init__(self, field: str) -> None:
        self._field = field

    def new(self) -> dict[int, int]:
        return {}

    def fold(self, block: Block) -> list[dict[int, int]]:
        values, usable = block.numbers(self._field)
        label = values.astype(np.int64)
        inside = (values >= 0) & (values < LABELS) & (label == values)
        if usable is not None:
            inside &= usable
        return _tallies(block, label, None if bool(inside.all()) else inside, span=LABELS)

    def merge(self, into: dict[int, int], other: dict[int, int]) -> dict[int, int]:
        return _added(into, other)

    def dump(self, state: dict[int, int]) -> list[int]:
        return _flat(state)

    def load(self, value: list[int]) -> dict[int, int]:
        return dict(zip(value[::2], value[1::2], strict=True))


class Bins:
    """Rows in each bin of equal width over low..high; what is outside counts in the outermost."""

    def __init__(self, field: str, low: float, high: float, bins: int) -> None:
        self._field, self._low, self._bins = field, low, bins
        self._scale = bins / (high - low)

    def new(self) -> list[int]:
        return [0] * self._bins

    def fold(self, block: Block) -> list[list[int]]:
        values, usable = block.numbers(self._field)
        index = np.clip((values - self._low) * self._scale, 0, self._bins - 1).astype(np.int64)
        index += block.group_of_rows() * self._bins
        counts = np.bincount(index if usable is None else index[usable], minlength=len(block) * self._bins)
        rows: list[list[int]] = counts.reshape(len(block), self._bins).tolist()
        return rows

    def merge(self, into: list[int], other: list[int]) -> list[int]:
        for i, count in enumerate(other):
            into[i] += count
        return into

    def dump(self, state: list[int]) -> list[int]:
        return list(state)

    def load(self, value: list[int]) -> list[int]:
        return list(value)


class Share(Sum):
    """[usable rows, those in which the field is true]"""

    def fold(self, block: Block) -> list[list[int]]:
        values, usable = block.numbers(self._field)
        true = np.add.reduceat((values != 0).astype(np.int64), block.starts).tolist()
        counts = block.sizes if usable is None else np.add.reduceat(usable.astype(np.int64), block.starts).tolist()
        return list(map(list, zip(counts, true, strict=True)))


class Edge:
    """[time, origin, sequence, value] of the first or last usable row in that order; None: there is none."""

    def __init__(self, field: str, *, first: bool) -> None:
        self._field, self._first = field, first

    def new(self) -> None:
        return None

    def fold(self, block: Block) -> list[list[Any] | None]:
        values, usable = block.numbers(self._field)
        found: list[list[Any] | None] = []
        for start, end in zip(block.starts.tolist(), block.ends.tolist(), strict=True):
            if usable is not None:
                rows = np.flatnonzero(usable[start:end])
                if not len(rows):
                    found.append(None)
                    continue
                start, end = start + int(rows[0]), start + int(rows[-1]) + 1
            row = start if self._first else end - 1
            found.append([*block.stamp(row), float(values[row]) + 0.0])
        return found

    def merge(self, into: list[Any] | None, other: list[Any] | None) -> list[Any] | None:
        if into is None or other is None:
            return other if into is None else into
        return min(into, other) if self._first else max(into, other)

    def dump(self, state: list[Any] | None) -> list[Any] | None:
        return state

    def load(self, value: list[Any] | None) -> list[Any] | None:
        return value


class Distinct:
    """The different values, or None where there are more than DISTINCT_EXACT."""

    def __init__(self, field: str) -> None:
        self._field = field

    def new(self) -> set[Any]:
        return set()

    def fold(self, block: Block) -> list[set[Any] | None]:
        column = block.columns.values[self._field]
        slices = [column[a:b] for a, b in zip(block.starts, block.ends, strict=True)]
        if column.dtype.kind == "f":
            slices = [part[np.isfinite(part)] + 0.0 for part in slices]
        return [self.merge(set(), set(part.tolist())) for part in slices]

    def merge(self, into: set[Any] | None, other: set[Any] | None) -> set[Any] | None:
        if into is None or other is None:
            return None
        into |= other
        return into if len(into) <= DISTINCT_EXACT else None

    def dump(self, state: set[Any] | None) -> list[Any] | None:
        return None if state is None else sorted(state)

    def load(self, value: list[Any] | None) -> set[Any] | None:
        return None if value is None else set(value)


def percentile(sketch: Mapping[int, int], percent: int, least: float, greatest: float) -> float:
    """The value at rank ceil(percent / 100 * rows), within 0.79 %, and within what there was."""
    rank = -(-percent * sum(sketch.values()) // 100)
    for bucket in sorted(sketch):
        rank -= sketch[bucket]
        if rank <= 0:
            return min(max(_middle(bucket), least), greatest)
    return greatest


def parts_of(aggregate: Aggregate) -> tuple[str, ...]:
    """Names of what it is made from; ``count`` and ``rate`` need nothing but the number of rows."""
    function, field = aggregate.function, aggregate.field
    if function in ("count", "rate"):
        return ()
    if function in ("sum", "mean"):
        return (f"sum:{field}",)
    if function == "histogram":
        return (f"histogram:{field}:{aggregate.low!r}:{aggregate.high!r}:{aggregate.bins}",)
    if function.startswith("p"):
        return (f"sketch:{field}", f"min:{field}", f"max:{field}")
    return (f"{function}:{field}",)


def make_part(name: str) -> Part:
    """By the name that ``parts_of`` gave."""
    function, field, *bounds = name.split(":")
    if function == "histogram":
        low, high, bins = bounds
        return Bins(field, float(low), float(high), int(bins))
    if function in ("min", "max"):
        return Extreme(field, least=function == "min")
    if function in ("first", "last"):
        return Edge(field, first=function == "first")
    made: Mapping[str, type[Any]] = {"sum": Sum, "sketch": Sketch, "counts": Tally, "share": Share, "distinct": Distinct}
    part: Part = made[function](field)
    return part


@lru_cache(maxsize=8192)
def _middle(bucket: int) -> float:
    if bucket == 0:
        return 0.0
    edges = np.array([abs(bucket), abs(bucket) + 1], dtype=np.int64) << _SHIFT
    middle = float(edges.view(np.float64).sum()) / 2
    return middle if bucket > 0 else -middle


def _tallies(block: Block, code: Any, usable: Any, *, span: int) -> list[dict[int, int]]:
    """For each group how often each code stands in it; codes are within -span/2..span."""
    joint = block.group_of_rows() * (2 * span) + code + span // 2
    found, counts = np.unique(joint if usable is None else joint[usable], return_counts=True)
    tallies: list[dict[int, int]] = [{} for _ in range(len(block))]
    groups, codes = np.divmod(found, 2 * span)
    for group, value, count in zip(groups.tolist(), (codes - span // 2).tolist(), counts.tolist(), strict=True):
        tallies[group][value] = count
    return tallies


def _added(into: dict[int, int], other: dict[int, int]) -> dict[int, int]:
    for code, count in other.items():
        into[code] = into.get(code, 0) + count
    return into


def _flat(tally: Mapping[int, int]) -> list[int]:
    return [number for item in sorted(tally.items()) for number in item]
