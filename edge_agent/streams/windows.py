"""The engine: rows in any order in, each window out once, when the watermark has passed it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.nearest import did_you_mean
from edge_agent.streams.cells import layout_of, matching
from edge_agent.streams.columns import Columns, Key, Times, column_of_all, columns_of, picked
from edge_agent.streams.panes import Over, Panes
from edge_agent.streams.rows import Rows
from edge_agent.streams.seen import Seen
from edge_agent.streams.sessions import Sessions
from edge_agent.streams.sliding import Sliding
from edge_agent.streams.spec import InvalidSpec, Kind, StreamSpec

STATE_VERSION = 1
BEFORE_ALL = -(1 << 62)


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """One window that is over; half-open, start inclusive."""

    stream: str
    key: tuple[tuple[str, str | int], ...]  # (field, value) in the spec's order; empty: all rows together
    start_ms: int
    end_ms: int
    readings: int
    values: tuple[tuple[str, float], ...]  # (aggregate, value), by name; without those that have none, as the least of nothing
    counts: tuple[tuple[str, tuple[int, ...]], ...] = field(default=())  # histograms, by name: too wide for the wire
    tallies: tuple[tuple[str, tuple[tuple[int, int], ...]], ...] = field(
        default=()
    )  # "counts": (label, rows), labels ascending
    holds: bool | None = None  # whether the spec's condition holds; None: it has none


class Assigner(Protocol):
    """Which windows a row belongs to. ``told_ms``: windows that end by then have been told already; one time, or one of each
    row."""

    overflowed: int  # rows left out because the bounds were reached

    def missing(self, at_ms: NDArray[np.int64], told_ms: Times) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which rows miss a window of theirs, and which miss all of them."""

    def add(self, rows: Columns) -> None:
        """Rows that do not miss all; at least one."""

    def close(self, told_ms: int, until_ms: int) -> Iterator[Over]:
        """What ends after ``told_ms`` and by ``until_ms``; the caller uses it up."""

    def needed_from(self, told_ms: int) -> int:
        """Rows from before miss all windows."""

    def end(self) -> int | None:
        """By when all that is open ends; None: nothing is."""

    def dump(self) -> list[Any]: ...

    def load(self, state: list[Any]) -> None: ...

    def __len__(self) -> int:
        """How much is open: cells and rows."""


class Windows:
    """All open windows of one stream and one source of time. Not thread-safe; pure: no clock, no files.

    Event time. The watermark is the newest time seen less the spec's lateness; a window is over, and told once, when the
    watermark has reached its end. The result depends on the set of rows only, as long as none comes after the watermark
    has passed it: order, repeats, the cut into batches and going through ``state`` change nothing, not even the last bit. That
    holds within the bounds (``MAX_CELLS``, ``MAX_KEYS``, ``MAX_ROWS``); ``overflowed`` counts the rows beyond them.
    """

    def __init__(self, spec: StreamSpec, state: dict[str, Any] | None = None) -> None:
        """``state`` is what ``state()`` gave under a spec of the same fingerprint; another one raises InvalidSpec."""
        self._spec = spec
        self._layout = layout_of(spec)
        self._assigner = _assigner(spec)
        self._needed = spec.fields
        self._newest_ms: int | None = None
        self._told_ms: int | None = None
        self.late = 0  # rows that came after a window of theirs was told; what is still open counts them
        self.repeated = 0  # rows that had come before
        self.ahead = 0  # rows from further in the future than the lateness, dropped
        self._overflowed = 0
        self._seen = Seen()
        if state is not None:
            self._restore(state)

    def add(self, rows: Rows, now_ms: int | None = None) -> list[Closed]:
        """Fold; the windows that are over by what these rows say of the time, ordered by (end, start, key).

        Repeats are dropped by (origin, sequence). Rows whose windows have all been told are dropped. With ``now_ms``, the time
        by a clock the caller trusts, rows that claim to be from more than the lateness after it are dropped: one of them would
        make all honest rows after it late.

        Raises InvalidSpec where the rows lack a field.
        """
        chosen = self._begin(rows, now_ms)
        if chosen is not None:
            _take([(self, rows, chosen)])
        return self._end()

    def advance(self, watermark_ms: int) -> list[Closed]:
        """Close what ended by then although no row says so: nothing came for long. Later rows of before are late."""
        told = BEFORE_ALL if self._told_ms is None else self._told_ms
        if watermark_ms <= told:
            return []
        over = [self._closed(*window) for window in self._assigner.close(told, watermark_ms)]
        self._told_ms = watermark_ms
        self._seen.forget_before(self._assigner.needed_from(watermark_ms))
        return sorted(over, key=_order)

    def finish(self) -> list[Closed]:
        """Close everything that is open. Rows of these windows that come later are late."""
        end = self._assigner.end()
        return self.advance(end) if end is not None else []

    def restart(self) -> list[Closed]:
        """``finish``, and forget the time: the clock of the source was put back, and what comes next may be of any time."""
        over = self.finish()
        self._newest_ms = self._told_ms = None
        return over

    def state(self) -> dict[str, Any]:
        """Plain values that JSON can carry, the same for the same rows while no window has closed."""
        return {
            "version": STATE_VERSION,
            "spec": self._spec.fingerprint,
            "newest": self._newest_ms,
            "told": self._told_ms,
            "seen": self._seen.state(),
            "open": self._assigner.dump(),
            "counters": [self.late, self.repeated, self.ahead, self.overflowed],
        }

    @property
    def newest_ms(self) -> int | None:
        """Event time of the newest row so far; None before the first."""
        return self._newest_ms

    @property
    def watermark_ms(self) -> int | None:
        """All windows that end by then have been told; None: no time has been seen."""
        return self._told_ms

    @property
    def overflowed(self) -> int:
        """Rows left out because too much was open already, and runs of sequences forgotten too early."""
        return self._overflowed + self._assigner.overflowed + self._seen.forgotten

    def __len__(self) -> int:
        """How much is open: windows and keys, or rows that wait."""
        return len(self._assigner)

    def _restore(self, state: dict[str, Any]) -> None:
        if state.get("version") != STATE_VERSION or state.get("spec") != self._spec.fingerprint:
            raise InvalidSpec(f"stream '{self._spec.name}': the state is of another spec: start with an empty one")
        try:
            self._newest_ms, self._told_ms = state["newest"], state["told"]
            self._seen = Seen(state["seen"])
            self._assigner.load(state["open"])
            self.late, self.repeated, self.ahead, self._overflowed = state["counters"]
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise InvalidSpec(f"stream '{self._spec.name}': the state is damaged: {error}") from error

    def _chosen(self, rows: Rows, now_ms: int | None) -> NDArray[Any] | None:
        """Index of the rows that are new and of a time that can be; None: there are none."""
        index = np.arange(len(rows.at_ms))
        if now_ms is not None:
            ahead = rows.at_ms > now_ms + self._spec.window.lateness_ms
            if dropped := int(np.count_nonzero(ahead)):
                self.ahead += dropped
                index = index[~ahead]
        fresh = self._seen.claim(rows.origin, rows.sequence[index], rows.at_ms[index])
        if fresh is not None:
            self.repeated += len(index) - int(np.count_nonzero(fresh))
            index = index[fresh]
        return index if len(index) else None

    def _begin(self, rows: Rows, now_ms: int | None = None) -> NDArray[Any] | None:
        """Index of the rows to take, which have told the time; None: there are none."""
        self._check_fields(rows)
        chosen = self._chosen(rows, now_ms)
        if chosen is not None:
            newest = int(rows.at_ms[chosen].max())
            self._newest_ms = newest if self._newest_ms is None else max(self._newest_ms, newest)
        return chosen

    def _end(self) -> list[Closed]:
        if self._newest_ms is None:
            return []
        return self.advance(self._newest_ms - self._spec.window.lateness_ms)

    def _check_fields(self, rows: Rows) -> None:
        for name in self._needed.difference(rows.fields):
            raise InvalidSpec(f"stream '{self._spec.name}': readings have no field '{name}'{did_you_mean(name, rows.fields)}")

    def _closed(self, start_ms: int, end_ms: int, key: Key, cell: Any) -> Closed:
        values = self._layout.values(cell, end_ms - start_ms)
        return Closed(
            stream=self._spec.name,
            key=tuple(zip(self._spec.by, key, strict=True)),
            start_ms=start_ms,
            end_ms=end_ms,
            readings=cell[0],
            values=values,
            counts=self._layout.counts(cell),
            tallies=self._layout.tallies(cell),
            holds=self._layout.holds(values),
        )


def add_all(parts: Sequence[tuple[Windows, Rows]]) -> list[list[Closed]]:
    """What ``add`` of each part gives. All windows are of one spec, and none of them stands twice.

    A hub folds a few rows of each of many devices, and a call for each costs more than its rows do: tumbling and hopping
    windows take all rows in one pass over their columns; others one after the other.
    """
    if len(parts) < 2 or not isinstance(parts[0][0]._assigner, Panes):
        return [windows.add(rows) for windows, rows in parts]
    chosen = [windows._begin(rows) for windows, rows in parts]
    _take([(windows, rows, index) for (windows, rows), index in zip(parts, chosen, strict=True) if index is not None])
    return [windows._end() for windows, _ in parts]


def _take(parts: Sequence[tuple[Windows, Rows, NDArray[Any]]]) -> None:
    """Hand what counts of the rows with these indexes to the assigners; several of these are ``Panes``."""
    if not parts:
        return
    first = parts[0][0]
    spec, assigners = first._spec, [windows._assigner for windows, _, _ in parts]
    sizes = [len(index) for _, _, index in parts]
    source = np.repeat(np.arange(len(parts)), sizes)
    at_ms = np.concatenate([rows.at_ms[index] for _, rows, index in parts])
    sequence = np.concatenate([rows.sequence[index] for _, rows, index in parts])
    values = {
        name: column_of_all([picked(rows.fields[name], index) for _, rows, index in parts], sizes) for name in first._needed
    }
    counts = matching(values, spec.where, len(at_ms))
    told = np.repeat([BEFORE_ALL if windows._told_ms is None else windows._told_ms for windows, _, _ in parts], sizes)
    some, all_ = first._assigner.missing(at_ms, told)
    if some.any():
        late = np.bincount(source[some if counts is None else some & counts], minlength=len(parts)).tolist()
        for (windows, _, _), number in zip(parts, late, strict=True):
            windows.late += number
        counts = ~all_ if counts is None else counts & ~all_
    if counts is not None:
        if not counts.any():
            return
        source, at_ms, sequence = source[counts], at_ms[counts], sequence[counts]
        values = {name: picked(column, counts) for name, column in values.items()}
    origins = sorted({rows.origin for _, rows, _ in parts})
    rank = {origin: number for number, origin in enumerate(origins)}
    columns = columns_of(
        values,
        at_ms=at_ms,
        sequence=sequence,
        origin=np.array([rank[rows.origin] for _, rows, _ in parts], dtype=np.int64)[source],
        origins=tuple(origins),
        by=spec.by,
        fields=first._layout.fields,
    )
    if len(assigners) == 1:
        assigners[0].add(columns)
    else:
        Panes.add_each(assigners, columns, source)  # type: ignore[arg-type]  # by the spec


def merge(parts: Sequence[dict[str, Any]], spec: StreamSpec) -> dict[str, Any]:
    """One state of the states of several sources: a fleet's windows from its devices'.

    It tells of the windows that one state fed with all their rows would tell, as long as none of the parts has told of them
    itself: what one has closed is missing its rows. The time is that of the newest part; nothing is closed here, but what is
    over comes with the next ``add``, ``advance`` or ``finish``.
    """
    whole = Windows(spec, parts[0] if parts else None)
    for part in parts[1:]:
        _absorb(whole, Windows(spec, part))
    return whole.state()


def _absorb(whole: Windows, other: Windows) -> None:
    whole._assigner.absorb(other._assigner)  # type: ignore[attr-defined]  # of the same class, by the spec
    whole._seen.absorb(other._seen)
    times = [time for time in (whole._newest_ms, other._newest_ms) if time is not None]
    whole._newest_ms = max(times, default=None)
    told = (whole._told_ms, other._told_ms)
    whole._told_ms = None if None in told else min(told)  # type: ignore[type-var]  # neither is None
    whole.late += other.late
    whole.repeated += other.repeated
    whole.ahead += other.ahead
    whole._overflowed += other._overflowed


def _assigner(spec: StreamSpec) -> Assigner:
    kinds: dict[Kind, type[Any]] = {
        Kind.TUMBLING: Panes,
        Kind.HOPPING: Panes,
        Kind.SLIDING: Sliding,
        Kind.SESSION: Sessions,
    }
    made: Assigner = kinds[spec.window.kind](layout_of(spec))
    return made


def _order(closed: Closed) -> tuple[Any, ...]:
    return closed.end_ms, closed.start_ms, closed.key
