"""Tumbling and hopping windows: rows are kept in panes, which whole windows are made of."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.streams.cells import Cell, Layout
from edge_agent.streams.columns import Block, Columns, Key, Times

MAX_CELLS = 10_000  # (pane, key) in one state
MAX_KEYS = 1000  # in one pane

Over = tuple[int, int, Key, Cell]  # start, end, key, what was there


class Panes:
    """A window starts at every multiple of the hop since 1970. Each row is folded once, however many windows hold it."""

    def __init__(self, layout: Layout) -> None:
        window = layout.spec.window
        self._layout = layout
        self._size, self._hop = window.size_ms, window.hop_ms
        self._width = math.gcd(self._size, self._hop)
        self._panes: dict[int, dict[Key, Cell]] = {}  # by start
        self._count = 0
        self.overflowed = 0

    def missing(self, at_ms: NDArray[np.int64], told_ms: Times) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which rows miss a window of theirs, and which miss all of them."""
        first_end = ((at_ms - self._size) // self._hop + 1) * self._hop + self._size
        last_end = at_ms // self._hop * self._hop + self._size
        return first_end <= told_ms, last_end <= told_ms

    def add(self, rows: Columns) -> None:
        keys = len(rows.keys)
        block = Block(rows, rows.at_ms // self._width * keys + rows.key)
        for group, cell in zip(block.groups, self._layout.fold(block), strict=True):
            pane, key = divmod(group, keys)
            self._put(pane * self._width, rows.keys[key], cell)

    @staticmethod
    def add_each(panes: "Sequence[Panes]", rows: Columns, source: NDArray[np.int64]) -> None:
        """``add`` the rows of each source, which are those with its number in ``source``, in one pass."""
        one, keys = panes[0], len(rows.keys)
        times, pane = np.unique(rows.at_ms // one._width, return_inverse=True)
        block = Block(rows, (source * len(times) + pane) * keys + rows.key)
        starts = (times * one._width).tolist()
        for group, cell in zip(block.groups, one._layout.fold(block), strict=True):
            rest, key = divmod(group, keys)
            number, time = divmod(rest, len(starts))
            panes[number]._put(starts[time], rows.keys[key], cell)

    def close(self, told_ms: int, until_ms: int) -> Iterator[Over]:
        """Windows with rows that end after ``told_ms`` and by ``until_ms``; panes no later window needs are gone after."""
        last = (until_ms - self._size) // self._hop * self._hop  # start of the last window that is over
        first = (told_ms - self._size) // self._hop * self._hop + self._hop
        if first > last:
            return
        starts: set[int] = set()
        for pane in self._panes:
            earliest = -(-(pane + self._width - self._size) // self._hop) * self._hop
            starts.update(range(max(earliest, first), min(pane, last) + 1, self._hop))
        for start in sorted(starts):
            yield from self._window(start)
        for pane in [pane for pane in self._panes if pane // self._hop * self._hop <= last]:
            self._count -= len(self._panes.pop(pane))

    def needed_from(self, told_ms: int) -> int:
        """Rows from before miss all windows."""
        return told_ms - self._size

    def end(self) -> int | None:
        """When the last open window ends; None: nothing is open."""
        return max(self._panes) // self._hop * self._hop + self._size if self._panes else None

    def __len__(self) -> int:
        """Panes and keys that are open."""
        return self._count

    def absorb(self, other: "Panes") -> None:
        for pane, cells in other._panes.items():
            for key, cell in cells.items():
                self._put(pane, key, cell)
        self.overflowed += other.overflowed

    def dump(self) -> list[Any]:
        return [
            [pane, *([list(key), self._layout.dump(cell)] for key, cell in sorted(cells.items(), key=_by_key))]
            for pane, cells in sorted(self._panes.items())
        ]

    def load(self, state: list[Any]) -> None:
        for pane, *cells in state:
            self._panes[pane] = {tuple(key): self._layout.load(cell) for key, cell in cells}
            self._count += len(cells)

    def _window(self, start: int) -> Iterator[Over]:
        whole: dict[Key, list[Cell]] = {}
        for pane in range(start, start + self._size, self._width):
            for key, cell in self._panes.get(pane, {}).items():
                whole.setdefault(key, []).append(cell)
        for key, cells in whole.items():
            yield start, start + self._size, key, cells[0] if len(cells) == 1 else self._layout.merged(cells)

    def _put(self, pane: int, key: Key, cell: Cell) -> None:
        cells = self._panes.setdefault(pane, {})
        if (found := cells.get(key)) is not None:
            self._layout.merge(found, cell)
        elif len(cells) < MAX_KEYS and self._count < MAX_CELLS:
            cells[key] = cell
            self._count += 1
        else:
            self.overflowed += cell[0]


def _by_key(item: tuple[Key, Cell]) -> Key:
    return item[0]
