"""What a spec keeps of the rows of one window and key, and what it says of them at the end."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.streams.aggregates import DISTINCT_EXACT, UNIT_BITS, make_part, parts_of, percentile
from edge_agent.streams.columns import Block
from edge_agent.streams.spec import Aggregate, Condition, StreamSpec

Cell = list[Any]  # rows, then one state for each part
Value = tuple[str, float]


class Layout:
    """The parts of one spec: aggregates that need the same part share it."""

    def __init__(self, spec: StreamSpec) -> None:
        self.spec = spec
        names = sorted({part for aggregate in spec.aggregates.values() for part in parts_of(aggregate)})
        self._parts = [make_part(name) for name in names]
        place = {name: i + 1 for i, name in enumerate(names)}
        self._aggregates = [
            (name, aggregate, tuple(place[part] for part in parts_of(aggregate)))
            for name, aggregate in sorted(spec.aggregates.items())
        ]
        self.fields = tuple(sorted({a.field for a in spec.aggregates.values() if a.field}))

    def new(self) -> Cell:
        return [0, *(part.new() for part in self._parts)]

    def fold(self, block: Block) -> list[Cell]:
        """One cell for each group."""
        return list(map(list, zip(block.sizes, *(part.fold(block) for part in self._parts), strict=True)))

    def merge(self, into: Cell, other: Cell) -> None:
        into[0] += other[0]
        for i, part in enumerate(self._parts, 1):
            into[i] = part.merge(into[i], other[i])

    def merged(self, cells: Iterable[Cell]) -> Cell:
        """A new one of all."""
        whole = self.new()
        for cell in cells:
            self.merge(whole, cell)
        return whole

    def dump(self, cell: Cell) -> list[Any]:
        return [cell[0], *(part.dump(state) for part, state in zip(self._parts, cell[1:], strict=True))]

    def load(self, value: list[Any]) -> Cell:
        return [value[0], *(part.load(state) for part, state in zip(self._parts, value[1:], strict=True))]

    def values(self, cell: Cell, length_ms: int) -> tuple[Value, ...]:
        """Aggregates of one number, by name; those that have none (the least of nothing) are left out."""
        found = (
            (name, _value(aggregate, [cell[place] for place in at], cell[0], length_ms))
            for name, aggregate, at in self._aggregates
        )
        return tuple((name, value) for name, value in found if value is not None)

    def counts(self, cell: Cell) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Histograms, by name."""
        return tuple(
            (name, tuple(cell[at[0]])) for name, aggregate, at in self._aggregates if aggregate.function == "histogram"
        )

    def tallies(self, cell: Cell) -> tuple[tuple[str, tuple[tuple[int, int], ...]], ...]:
        """(label, rows) of each that occurred, by name."""
        return tuple(
            (name, tuple(sorted(cell[at[0]].items())))
            for name, aggregate, at in self._aggregates
            if aggregate.function == "counts"
        )

    def holds(self, values: Iterable[Value]) -> bool | None:
        """None where the spec has no condition; a condition on a value that is missing does not hold."""
        conditions = self.spec.condition
        if not conditions:
            return None
        known = dict(values)
        return all(c.left in known and compare(known[c.left], c) for c in conditions)


@lru_cache(maxsize=256)
def layout_of(spec: StreamSpec) -> Layout:
    """Made once for a spec: a hub restores a state per device and fold."""
    return Layout(spec)


def compare(left: Any, condition: Condition) -> Any:
    """``left op right``, of one value or of a column."""
    right = condition.right
    match condition.op:
        case "<":
            return left < right
        case "<=":
            return left <= right
        case ">":
            return left > right
        case ">=":
            return left >= right
        case "==":
            return left == right
        case _:
            return left != right


def matching(values: Mapping[str, Any], conditions: Iterable[Condition], rows: int) -> NDArray[np.bool_] | None:
    """Which rows every condition holds for; None: all. A number that is not one fails whatever it is compared with."""
    mask: NDArray[np.bool_] | None = None
    for condition in conditions:
        column = values[condition.left]
        if isinstance(condition.right, str):
            found = np.asarray(compare(np.asarray(column, dtype=object), condition), dtype=bool)
        else:
            numbers = np.asarray(column, dtype=np.float64)  # as wide as the bound: a 32-bit 0.6 is not below 0.6
            found = np.asarray(compare(numbers, condition)) & ~np.isnan(numbers)
        found = np.broadcast_to(found, (rows,))
        mask = found if mask is None else mask & found
    return mask


def _value(aggregate: Aggregate, states: list[Any], rows: int, length_ms: int) -> float | None:
    """Of the states of its parts; None where there is none, or it is not one number."""
    function = aggregate.function
    if function in ("count", "rate"):
        return float(rows) if function == "count" else rows * 1000 / length_ms
    if function in ("histogram", "counts"):
        return None
    state = states[0]
    if function == "distinct":
        return float(DISTINCT_EXACT + 1 if state is None else len(state))
    if function in ("min", "max"):
        return None if state is None else float(state)
    if function in ("first", "last"):
        return None if state is None else float(state[3])
    if function in ("sum", "mean", "share"):
        return _ratio(function, *state)
    return percentile(state, int(function[1:]), states[1], states[2]) if state else None


def _ratio(function: str, rows: int, total: int) -> float | None:
    """Of integers: rounded once, at the end."""
    if not rows:
        return None
    if function == "share":
        return total / rows
    return total / ((rows if function == "mean" else 1) << UNIT_BITS)
