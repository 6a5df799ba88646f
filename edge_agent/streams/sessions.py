"""Session windows: rows of one key that are closer than the gap."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.streams.cells import Layout
from edge_agent.streams.columns import Block, Columns, Key, Times
from edge_agent.streams.panes import MAX_KEYS, Over
from edge_agent.streams.waiting import MAX_ROWS, Waiting

Session = list[Any]  # time of its first row, of its last row, cell
NO_BOUND = 1 << 62


class Sessions:
    """Rows wait until the watermark has passed them and are then taken in the order of their times, so a session that is too
    long is always cut at the same row.
    """

    def __init__(self, layout: Layout) -> None:
        window = layout.spec.window
        self._layout = layout
        self._gap, self._longest = window.gap_ms, window.size_ms or NO_BOUND
        self._waiting = Waiting()
        self._open: dict[Key, list[Session]] = {}  # one each, more only after ``absorb``
        self.overflowed = 0

    def missing(self, at_ms: NDArray[np.int64], told_ms: Times) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        passed = at_ms < told_ms
        return passed, passed

    def add(self, rows: Columns) -> None:
        room = MAX_ROWS - len(self._waiting)
        self._waiting.add(rows.take(np.arange(len(rows)) < room) if len(rows) > room else rows)
        self.overflowed += max(0, len(rows) - room)

    def close(self, told_ms: int, until_ms: int) -> Iterator[Over]:
        rows = self._waiting.take_before(until_ms)
        if rows is not None:
            self._take(rows)
        for key, sessions in list(self._open.items()):
            for session in sessions:
                if (end := self._end(session)) <= until_ms:
                    yield session[0], end, key, session[2]
            sessions[:] = [session for session in sessions if self._end(session) > until_ms]
            if not sessions:
                del self._open[key]

    def needed_from(self, told_ms: int) -> int:
        return told_ms

    def end(self) -> int | None:
        newest = self._waiting.newest()
        ends = [self._end(session) for sessions in self._open.values() for session in sessions]
        return max([*ends, *([newest + self._gap] if newest is not None else [])], default=None)

    def __len__(self) -> int:
        return len(self._open) + len(self._waiting)

    def absorb(self, other: "Sessions") -> None:
        """Sessions that touch become one, even if that is longer than the bound."""
        for key, sessions in other._open.items():
            self._open[key] = self._coalesced([*self._open.get(key, ()), *sessions])
        if (rows := other._waiting.rows()) is not None:
            self.add(rows)
        self.overflowed += other.overflowed

    def dump(self) -> list[Any]:
        sessions = [
            [list(key), session[0], session[1], self._layout.dump(session[2])]
            for key, sessions in sorted(self._open.items())
            for session in sessions
        ]
        return [sessions, self._waiting.dump()]

    def load(self, state: list[Any]) -> None:
        sessions, waiting = state
        for key, first, last, cell in sessions:
            self._open.setdefault(tuple(key), []).append([first, last, self._layout.load(cell)])
        self._waiting.load(waiting)

    def _end(self, session: Session) -> int:
        """So long without a row, or so long: exclusive."""
        first, last, _ = session
        return min(int(last) + self._gap, int(first) + self._longest)

    def _take(self, rows: Columns) -> None:
        ordered = Block(rows, rows.key)
        run_of_row: list[int] = []
        runs: list[tuple[Key, int, int]] = []  # key, first and last time
        for code, a, b in zip(ordered.groups, ordered.starts.tolist(), ordered.ends.tolist(), strict=True):
            key = rows.keys[code]
            found = self._runs(key, ordered.columns.at_ms[a:b].tolist())
            for first, last, count in found:
                run_of_row += [len(runs)] * count
                runs.append((key, first, last))
        cells = self._layout.fold(Block(ordered.columns, np.array(run_of_row, dtype=np.int64)))
        for (key, first, last), cell in zip(runs, cells, strict=True):
            if key not in self._open and len(self._open) >= MAX_KEYS:
                self.overflowed += cell[0]
            else:
                self._open[key] = self._coalesced([*self._open.get(key, ()), [first, last, cell]])

    def _runs(self, key: Key, times: list[int]) -> list[tuple[int, int, int]]:
        """First time, last time and rows of each session these ascending times make, the open one of the key continued."""
        before = self._open.get(key)
        began, last = (before[-1][0], before[-1][1]) if before else (-NO_BOUND, -NO_BOUND)
        runs: list[tuple[int, int, int]] = []
        first, count = times[0], 0
        for at in times:
            if at >= min(last + self._gap, began + self._longest):
                if count:
                    runs.append((first, last, count))
                began = first = at
                count = 0
            last = max(at, last)
            count += 1
        return [*runs, (first, last, count)]

    def _coalesced(self, sessions: list[Session]) -> list[Session]:
        if len(sessions) < 2:
            return sessions
        sessions.sort(key=lambda session: session[0])
        joined = [sessions[0]]
        for session in sessions[1:]:
            if session[0] < self._end(joined[-1]):
                joined[-1][1] = max(joined[-1][1], session[1])
                self._layout.merge(joined[-1][2], session[2])
            else:
                joined.append(session)
        return joined
