"""Which rows have been counted: sets of sequences per origin, as runs."""

from bisect import bisect_left
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_RUNS = 20_000  # over all origins; beyond it the oldest are forgotten, and counted: their repeats would count again

Run = list[int]  # first sequence, last sequence, newest event time in it in ms


class Seen:
    """A stream in sequence is one run, however long; every hole costs one more until its time has passed."""

    def __init__(self, state: dict[str, list[int]] | None = None) -> None:
        self._runs: dict[str, list[Run]] = {
            origin: [flat[i : i + 3] for i in range(0, len(flat), 3)] for origin, flat in (state or {}).items()
        }
        self.forgotten = 0  # runs given up because there were too many

    def claim(self, origin: str, sequence: NDArray[np.int64], at_ms: NDArray[np.int64]) -> NDArray[np.bool_] | None:
        """Mark rows as seen: which of them are new, or None for all. A sequence that stands twice is new once."""
        if not len(sequence):
            return None
        fresh = self._claim(self._runs.setdefault(origin, []), sequence, at_ms)
        if len(self._runs[origin]) > 1 or len(self._runs) > MAX_RUNS:
            self._bound()
        return fresh

    def forget_before(self, at_ms: int) -> None:
        """Runs whose every row is older: a repeat of theirs is late in any case."""
        for origin, runs in list(self._runs.items()):
            if len(runs) > 1 or runs[-1][2] < at_ms:
                runs[:] = [run for run in runs if run[2] >= at_ms]
            if not runs:
                del self._runs[origin]

    def absorb(self, other: "Seen") -> None:
        for origin, runs in other._runs.items():
            mine = self._runs.setdefault(origin, [])
            for run in runs:
                _insert(mine, list(run))

    def state(self) -> dict[str, Any]:
        return {origin: [number for run in runs for number in run] for origin, runs in sorted(self._runs.items()) if runs}

    def _claim(self, runs: list[Run], sequence: NDArray[np.int64], at_ms: NDArray[np.int64]) -> NDArray[np.bool_] | None:
        first, last = int(sequence[0]), int(sequence[-1])
        in_sequence = last - first + 1 == len(sequence) and bool(np.all(np.diff(sequence) == 1))
        if in_sequence and (not runs or first > runs[-1][1]):
            _append(runs, [first, last, int(at_ms.max())])
            return None
        order = np.argsort(sequence, kind="stable")
        ordered = sequence[order]
        new = np.concatenate(([True], ordered[1:] != ordered[:-1]))
        if runs:
            firsts, lasts = np.array([run[0] for run in runs]), np.array([run[1] for run in runs])
            below = np.searchsorted(firsts, ordered, side="right") - 1
            new &= (below < 0) | (ordered > lasts[below])
        times = at_ms[order][new]
        for start, end, rows in _runs_of(ordered[new]):
            _insert(runs, [start, end, int(times[rows].max())])
        fresh = np.empty(len(sequence), bool)
        fresh[order] = new
        return fresh

    def _bound(self) -> None:
        excess = sum(map(len, self._runs.values())) - MAX_RUNS
        if excess <= 0:
            return
        oldest = sorted((run[2], origin, run[0]) for origin, runs in self._runs.items() for run in runs)[:excess]
        self.forgotten += len(oldest)
        for _, origin, start in oldest:
            self._runs[origin] = [run for run in self._runs[origin] if run[0] != start]


def _append(runs: list[Run], run: Run) -> None:
    if runs and runs[-1][1] + 1 == run[0]:
        runs[-1][1] = run[1]
        runs[-1][2] = max(runs[-1][2], run[2])
    else:
        runs.append(run)


def _insert(runs: list[Run], run: Run) -> None:
    """Put a run in its place, joined with all it touches or overlaps."""
    start = end = bisect_left(runs, run[0], key=lambda other: other[1] + 1)
    while end < len(runs) and runs[end][0] <= run[1] + 1:
        run = [min(run[0], runs[end][0]), max(run[1], runs[end][1]), max(run[2], runs[end][2])]
        end += 1
    runs[start:end] = [run]


def _runs_of(ordered: NDArray[np.int64]) -> list[tuple[int, int, slice]]:
    """Runs of ascending different numbers: first, last, and where they stand."""
    if not len(ordered):
        return []
    breaks = np.flatnonzero(np.diff(ordered) != 1) + 1
    starts, ends = [0, *breaks.tolist()], [*breaks.tolist(), len(ordered)]
    return [(int(ordered[a]), int(ordered[b - 1]), slice(a, b)) for a, b in zip(starts, ends, strict=True)]
