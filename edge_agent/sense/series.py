"""Readings one after the other -> windows."""

import math
from collections import deque
from collections.abc import Iterator
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.config import SourceConfig
from edge_agent.core.errors import BadFrame, SourceUnavailable
from edge_agent.sense.feeds import Line
from edge_agent.sense.shapes import Rows, Shaped
from protos.contract.inputs import MAX_FEATURES
from protos.contract.samples import Cell, Window

_FLOAT32 = float(np.finfo(np.float32).max)


class Series:
    """A window of ``steps`` readings after every ``stride`` new ones.

    With ``step_s`` the times of readings count: up to ``max_gap`` readings that did not come are NaN, and a longer gap begins a
    new window. A reading that is before the one before it, or less than half a step after, is skipped; one that is earlier by
    more than a window begins a new one, for clocks are put back. Without ``step_s`` each reading is the next step. A cell that
    is empty, or no number, is NaN. A window has the time and the name of its last reading.
    """

    def __init__(self, config: SourceConfig) -> None:
        series = config.series
        self._rows = Rows(config)
        self._others = {config.time_column, config.name_column}
        self._wanted = series.channels
        self._channels = series.channels
        self._steps, self._stride = series.steps, series.stride or series.steps
        self._step_s, self._max_gap = series.step_s, series.max_gap
        self._readings: deque[NDArray[np.float32]] = deque(maxlen=series.steps)
        self._new = 0  # steps since the last window
        self._last: datetime | None = None

    def of(self, line: Line) -> Iterator[Shaped]:
        if line.first and not self._wanted:
            self._channels = ()  # another file may have other columns
        for shaped in self._rows.of(line):
            if isinstance(shaped.content, dict):
                self._add(shaped.content, shaped.at)
                if len(self._readings) == self._steps and self._new >= self._stride:
                    self._new = 0
                    yield Shaped(Window(channels=self._channels, values=np.stack(self._readings)), shaped.at, shaped.name)
        if line.first:
            self._check()

    def _add(self, row: dict[str, Cell], at: datetime | None) -> None:
        channels = self._known(row)
        if self._step_s and at is not None and self._last is not None:
            missing = round((at - self._last).total_seconds() / self._step_s) - 1
            if missing < -self._steps:
                self._begin()
            elif missing < 0:
                raise BadFrame(f"a reading of {at.isoformat()} after one of {self._last.isoformat()}")
            if missing > self._max_gap:
                self._begin()
            for _ in range(missing if 0 < missing <= self._max_gap else 0):
                self._push(np.full(len(channels), np.nan, np.float32))
        self._last = at
        self._push(np.array([_number(row.get(name)) for name in channels], np.float32))

    def _push(self, reading: NDArray[np.float32]) -> None:
        self._readings.append(reading)
        self._new += 1

    def _begin(self) -> None:
        self._readings.clear()
        self._new = 0

    def _known(self, row: dict[str, Cell]) -> tuple[str, ...]:
        if not self._channels:
            self._begin()
            self._channels = tuple(name for name in (self._rows.header or sorted(row)) if name not in self._others)
            if len(self._channels) * self._steps > MAX_FEATURES:
                raise SourceUnavailable(f"a window of {len(self._channels)} columns holds more than {MAX_FEATURES} values")
        return self._channels

    def _check(self) -> None:
        header = self._rows.header
        if header and (missing := [name for name in self._wanted if name not in header]):
            raise SourceUnavailable(f"there is no column {missing[0]!r}")


def _number(cell: Cell) -> float:
    return cell if isinstance(cell, float | int) and abs(cell) <= _FLOAT32 else math.nan
