"""Readings over time -> windows, each a sample.

Windows that share readings must not part across splits: a series is cut into blocks, no window crosses from one into the next,
and a block is what its windows have for a source.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloud_hub.app.hubctl.failure import refused
from cloud_hub.app.hubctl.imports.piece import Piece, Refusals
from cloud_hub.app.hubctl.imports.table import MISSING, Table
from cloud_hub.app.hubctl.imports.times import Clock, to_ms
from protos.contract.errors import InvalidValue
from protos.contract.samples import Window, encode_window

MAX_VALUES = 64 << 20  # of one file in memory: 256 MB
_WINDOWS_A_BLOCK = 10
_MOSTLY = 0.5  # share of a window that an event must fill, or of the event that the window must show


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """How windows are cut out of a series."""

    steps: int
    stride: int = 0  # 0: ``steps``, so that they do not overlap
    block: int = 0  # steps; 0: ten windows
    every_s: float = 0.0  # readings are averaged over spans of this length; 0: as they are
    channels: tuple[str, ...] = ()  # none: every column of numbers
    time: str = ""  # column
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        if self.steps < 1 or self.stride < 0 or self.block < 0 or self.every_s < 0:
            raise refused("--steps must be 1 or more, --stride, --block and --every not negative")
        if self.every_s and not self.time:
            raise refused("--every needs --time-column")
        if self.block and self.block < self.steps:
            raise refused(f"--block must be {self.steps} steps or more, or no window fits in")


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """What the label of a window is."""

    constant: str = ""
    column: str = ""  # its last value in the window; of classes the most frequent one
    events: Path | None = None  # a table of events with their beginning and end, on the series' clock
    event_columns: tuple[str, str, str] = ("event", "start", "end")
    from_start: bool = False  # events count from the first reading
    background: str = ""  # of windows without an event; empty: they are left out
    labels: Mapping[str, str] = field(default_factory=dict)
    values: bool = False  # labels are numbers


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Series:
    times: NDArray[np.float64]  # (N,) seconds; step numbers where no column says
    values: NDArray[np.float32]  # (N, channels)
    labels: Sequence[str]  # (N,) or none


class SeriesSource:
    """One file, or every CSV of a folder; memory holds one of them."""

    def __init__(
        self, path: Path, cut: Cut, naming: Naming, *, separator: str = "", join: Sequence[Path] = (), groups: bool = False
    ) -> None:
        """
        Args:
            join: other files of the same clock, whose readings are added by the nearest time before.
            groups: a file's windows have the file for a source, not blocks of it.
        """
        self.refusals = Refusals()
        self._files = sorted(path.glob("*.csv")) if path.is_dir() else [path]
        if not self._files:
            raise refused(f"{path} holds no .csv")
        if join and len(self._files) > 1:
            raise refused("--join goes with one file")
        self._cut = cut
        self._naming = naming
        self._separator = separator
        self._join = join
        self._groups = groups

    def __len__(self) -> int:
        return len(self._files)  # files are read one by one: what is in them is known then

    def __iter__(self) -> Iterator[Piece]:
        for path in self._files:
            yield from self._windows(path)

    def _windows(self, path: Path) -> Iterator[Piece]:
        channels, series = self._series(path)
        cut = self._cut
        stride, block = cut.stride or cut.steps, cut.block or _WINDOWS_A_BLOCK * cut.steps
        events = self._events(float(series.times[0])) if self._naming.events is not None else None
        unlabelled = 0
        for first in range(0, len(series.times), block):
            last = min(first + block, len(series.times))
            source = path.stem if self._groups else f"{path.stem} {first // block}"
            for start in range(first, last - cut.steps + 1, stride):
                label = self._label(series, start, events)
                if label is None:
                    unlabelled += 1
                    continue
                yield from self._piece(f"{path.name}:{start}", channels, series, start, label, source)
        if unlabelled:
            self.refusals.notes.append(
                f"{path.name}: {unlabelled} windows without an event are left out: --background names them"
            )

    def _piece(
        self, name: str, channels: tuple[str, ...], series: Series, start: int, label: str, source: str
    ) -> Iterator[Piece]:
        end = start + self._cut.steps
        values = series.values[start:end]
        if not np.isfinite(values).any():
            self.refusals.add(name, "no reading in the whole window")
            return
        try:
            data = encode_window(Window(channels=channels, values=np.ascontiguousarray(values)))
        except InvalidValue as error:
            self.refusals.add(name, str(error))
            return
        yield Piece(name=name, data=data, label=label, source=source, at_ms=to_ms(float(series.times[end - 1])))

    def _label(self, series: Series, start: int, events: "Sequence[tuple[str, float, float]] | None") -> str | None:
        """None: the window is left out."""
        naming, end = self._naming, start + self._cut.steps
        if events is not None:
            label = _event(events, float(series.times[start]), float(series.times[end - 1])) or naming.background or None
        elif naming.column:
            told = [label for label in series.labels[start:end] if label]
            if naming.values:
                return json.dumps(float(told[-1]), allow_nan=False) if told else ""
            label = max(sorted(set(told)), key=told.count) if told else ""
        else:
            label = naming.constant
        return naming.labels.get(label, label) if label else label

    def _events(self, start: float) -> list[tuple[str, float, float]]:
        assert self._naming.events is not None
        table = Table(self._naming.events)
        name, begin, end = self._naming.event_columns
        table.need(name, begin, end)
        places = [table.columns.index(column) for column in (name, begin, end)]
        offset = start if self._naming.from_start else 0.0
        found = []
        for line in table.rows(self.refusals):
            what, first, last = (line.cells[place] for place in places)
            try:  # events count in seconds where they count from the start
                seconds = float if self._naming.from_start else self._cut.clock.seconds
                found.append((what, offset + seconds(first), offset + seconds(last)))
            except ValueError as error:
                self.refusals.add(f"{table.name}:{line.number}", str(error))
        return found

    def _series(self, path: Path) -> tuple[tuple[str, ...], Series]:
        channels, series = self._read(path, self._cut.channels)
        for other in self._join:
            more, beside = self._read(other, ())
            at = np.searchsorted(beside.times, series.times, side="right") - 1
            joined = np.where(at[:, None] >= 0, beside.values[np.maximum(at, 0)], np.float32(np.nan))
            channels += tuple(f"{other.stem}.{name}" if name in channels else name for name in more)
            series = Series(times=series.times, values=np.concatenate([series.values, joined], axis=1), labels=series.labels)
        if self._cut.every_s:
            series = _averaged(series, self._cut.every_s)
        return channels, series

    def _read(self, path: Path, wanted: tuple[str, ...]) -> tuple[tuple[str, ...], Series]:
        table = Table(path, separator=self._separator)
        cut, naming = self._cut, self._naming
        table.need(*wanted, *([cut.time] if cut.time else []), *([naming.column] if naming.column else []))
        channels = wanted or tuple(name for name in table.columns if name not in (cut.time, naming.column))
        places = [table.columns.index(name) for name in channels]
        time = table.columns.index(cut.time) if cut.time else -1
        label = table.columns.index(naming.column) if naming.column else -1
        values: list[NDArray[np.float32]] = []
        times: list[float] = []
        labels: list[str] = []
        for line in table.rows(self.refusals):
            try:
                times.append(cut.clock.seconds(line.cells[time]) if time >= 0 else float(len(times)))
            except ValueError as error:
                self.refusals.add(f"{table.name}:{line.number}", f"no time: {error}")
                continue
            row = np.array([_reading(line.cells[place]) for place in places], np.float32)
            values.append(row)
            labels.append(line.cells[label] if label >= 0 else "")
            if len(values) * len(places) > MAX_VALUES:
                raise refused(f"{path} holds more than {MAX_VALUES} readings: part it")
        if not values:
            raise refused(f"{path} holds no reading")
        readings = np.stack(values)
        kept = [
            i for i in range(len(channels)) if wanted or np.isfinite(readings[:, i]).any()
        ]  # a column of texts is no channel
        readings = readings[:, kept]
        if wrong := int(np.isnan(readings).sum()):
            told = f"{wrong} cells ({wrong / readings.size:.1%}) hold no number and are missing"
            self.refusals.notes.append(f"{path.name}: {told}")
        order = np.argsort(np.array(times), kind="stable")
        series = Series(
            times=np.array(times)[order],
            values=readings[order],
            labels=[labels[i] for i in order] if label >= 0 else (),
        )
        return tuple(channels[i] for i in kept), series


def _reading(cell: str) -> float:
    if cell.lower() in MISSING:
        return math.nan
    try:
        value = float(cell)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def _event(events: Sequence[tuple[str, float, float]], start: float, end: float) -> str:
    """The event that fills most of the window, or is mostly in it; empty: none."""
    best, label = 0.0, ""
    for name, first, last in events:
        shared = min(end, last) - max(start, first)
        share = max(shared / max(end - start, 1e-9), shared / max(last - first, 1e-9))
        if share >= _MOSTLY and shared > best:
            best, label = shared, name
    return label


def _averaged(series: Series, every_s: float) -> Series:
    """Steps of equal length: the mean of what was read in each, NaN where nothing was."""
    width = series.values.shape[1]
    if not (series.times[-1] - series.times[0]) / every_s * width < MAX_VALUES:
        raise refused(f"--every {every_s:g} makes more than {MAX_VALUES} readings of it")
    step = ((series.times - series.times[0]) // every_s).astype(np.int64)
    count = int(step[-1]) + 1
    there = np.isfinite(series.values)
    sums, counts = np.zeros((count, width)), np.zeros((count, width))
    np.add.at(sums, step, np.where(there, series.values, 0.0))
    np.add.at(counts, step, there)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.where(counts > 0, sums / counts, np.nan).astype(np.float32)
    labels = [""] * count if len(series.labels) else []
    for i, label in zip(step, series.labels, strict=False):
        labels[i] = label
    return Series(times=series.times[0] + every_s * np.arange(1, count + 1), values=means, labels=labels)
