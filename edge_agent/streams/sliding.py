"""Sliding windows: for each row the window that ends with it."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.streams.cells import Layout
from edge_agent.streams.columns import Block, Columns, Times, joined
from edge_agent.streams.panes import Over
from edge_agent.streams.waiting import MAX_ROWS, Waiting

EXPANDED_ROWS = 1 << 18  # rows of all windows that are evaluated in one go


class Sliding:
    """For rows at t the window (t - size, t], which in whole milliseconds is the half-open [t - size + 1, t + 1).

    Rows of one key and time share theirs. Each costs as much as it holds rows.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._size = layout.spec.window.size_ms
        self._waiting = Waiting()  # the watermark has not passed them
        self._past = Waiting()  # evaluated; later windows hold them
        self.overflowed = 0

    def missing(self, at_ms: NDArray[np.int64], told_ms: Times) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        passed = at_ms < told_ms
        return passed, passed

    def add(self, rows: Columns) -> None:
        room = MAX_ROWS - len(self)
        self._waiting.add(rows.take(np.arange(len(rows)) < room) if len(rows) > room else rows)
        self.overflowed += max(0, len(rows) - room)

    def close(self, told_ms: int, until_ms: int) -> Iterator[Over]:
        due = self._waiting.take_before(until_ms)
        if due is not None:
            past = self._past.rows()
            yield from self._windows(due if past is None else joined([past, due]), len(due))
            self._past.add(due)
        self._past.take_before(until_ms - self._size + 1)

    def needed_from(self, told_ms: int) -> int:
        return told_ms

    def end(self) -> int | None:
        newest = self._waiting.newest()
        return newest + 1 if newest is not None else None

    def __len__(self) -> int:
        return len(self._waiting) + len(self._past)

    def absorb(self, other: "Sliding") -> None:
        if (rows := other._waiting.rows()) is not None:
            self.add(rows)
        if (rows := other._past.rows()) is not None:
            self._past.add(rows)
        self.overflowed += other.overflowed

    def dump(self) -> list[Any]:
        return [self._waiting.dump(), self._past.dump()]

    def load(self, state: list[Any]) -> None:
        self._waiting.load(state[0])
        self._past.load(state[1])

    def _windows(self, rows: Columns, due: int) -> Iterator[Over]:
        """Of the last ``due`` rows."""
        is_due = np.arange(len(rows)) >= len(rows) - due
        order = np.lexsort((rows.sequence, rows.origin, rows.at_ms, rows.key))
        rows, is_due = rows.take(order), is_due[order]
        last_of_time = np.concatenate(((rows.at_ms[1:] != rows.at_ms[:-1]) | (rows.key[1:] != rows.key[:-1]), [True]))
        span = int(rows.at_ms.max()) - int(rows.at_ms.min()) + self._size + 1
        place = rows.key * span + (rows.at_ms - int(rows.at_ms.min()))  # ascending over keys and times
        ends = np.flatnonzero(last_of_time & _any_of_time(is_due, last_of_time)) + 1
        starts = np.searchsorted(place, place[ends - 1] - self._size, side="right")
        for a, b in _portions(ends - starts):
            sizes = ends[a:b] - starts[a:b]
            offset = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
            index = np.repeat(starts[a:b], sizes) + offset
            cells = self._layout.fold(Block(rows.take(index), np.repeat(np.arange(b - a), sizes)))
            for row, cell in zip((ends[a:b] - 1).tolist(), cells, strict=True):
                at = int(rows.at_ms[row])
                yield at - self._size + 1, at + 1, rows.keys[int(rows.key[row])], cell


def _any_of_time(flag: NDArray[np.bool_], last_of_time: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """For the last row of each time, whether any row of that time has the flag."""
    total = np.cumsum(flag)
    ends = np.flatnonzero(last_of_time)
    found = np.zeros(len(flag), bool)
    found[ends] = np.diff(total[ends], prepend=0) > 0
    return found


def _portions(sizes: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Cut so that none has much more than EXPANDED_ROWS rows, and each at least one window."""
    a = 0
    total = np.cumsum(sizes)
    while a < len(sizes):
        base = int(total[a - 1]) if a else 0
        b = max(a + 1, int(np.searchsorted(total, base + EXPANDED_ROWS, side="right")))
        yield a, b
        a = b
