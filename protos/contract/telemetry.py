"""What a device says about its own work.

A record has a sequence within (epoch, lane). A batch accounts for every sequence in ``first..last`` exactly once: by an
inference, an event, a window or a gap. It is cut once and never cut again, so it is the unit of durability and of
deduplication.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from protos.contract.errors import InvalidValue
from protos.contract.ids import Digest

MAX_ROWS = 10_000  # inferences or events in one batch
MAX_BATCH_BYTES = 1 << 20  # decoded; the broker's packet limit is above it
MAX_SEQUENCE = (1 << 63) - 1  # SQLite's and PostgreSQL's integers
MAX_TEXT = 1024
MAX_NAME = 64  # characters: of a stream, of an aggregate, of an event's kind
MAX_VALUES = 64  # aggregates in one window
EPOCH_BYTES = 64
MAX_TIME_MS = 253_402_300_800_000  # the year 10000
MAX_LATENCY_MS = 1e9  # twelve days: well within the wire's 32-bit float
MAX_VALUE = float(np.finfo(np.float32).max)  # either way: the wire's 32-bit float
FLAG_CAPTURED = 1
FLAG_UNCERTAIN = 2

_EPOCH_START = datetime(1970, 1, 1, tzinfo=UTC)


class Lane(IntEnum):
    """Priority of a record; a lane is an ordered stream of its own."""

    CRITICAL = 1
    NORMAL = 2
    BULK = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Inference:
    """One inference, numbered."""

    sequence: int
    captured_at: datetime  # aware, UTC, whole milliseconds
    model: Digest  # of the manifest
    label: int  # class index, 0..65535
    confidence: float  # 0..1
    latency_ms: float
    captured: bool = False  # the frame was kept for the hub
    uncertain: bool = False  # confidence below the manifest's threshold
    frame_key: int = 0  # 64-bit hash of the frame's source name; 0: the source has no names
    value: float | None = None  # the number told beside the label: a forecast, an error, a count; 32 bits of it are kept

    def __post_init__(self) -> None:
        _check_sequence(self.sequence)
        if not 0 <= self.label <= 0xFFFF:
            raise InvalidValue(f"label must be in 0..65535, got {self.label}")
        if not 0.0 <= self.confidence <= 1.0:
            raise InvalidValue(f"confidence must be in 0..1, got {self.confidence}")
        if not 0.0 <= self.latency_ms <= MAX_LATENCY_MS:
            raise InvalidValue(f"latency_ms must be in 0..{MAX_LATENCY_MS:g}, got {self.latency_ms}")
        check_time(self.captured_at)
        if not 0 <= self.frame_key < 1 << 64:
            raise InvalidValue(f"frame_key must be an unsigned 64-bit number, got {self.frame_key}")
        if self.value is not None and not abs(self.value) <= MAX_VALUE:
            raise InvalidValue(f"value must be finite and fit 32 bits, got {self.value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened on the device, in dotted words: ``update.rolled_back``."""

    sequence: int
    at: datetime
    kind: str
    detail: str = ""

    def __post_init__(self) -> None:
        _check_sequence(self.sequence)
        if not self.kind or len(self.kind) > MAX_NAME or len(self.detail) > MAX_TEXT:
            raise InvalidValue(
                f"event needs a kind of 1..{MAX_NAME} and a detail of at most {MAX_TEXT} characters, got {self.kind!r}"
            )
        check_text(self.kind, self.detail)
        check_time(self.at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What a stream on the device said about one window of its readings; half-open, start inclusive."""

    sequence: int
    stream: str  # name of its spec
    start: datetime
    end: datetime
    readings: int
    values: tuple[tuple[str, float], ...]  # (aggregate, value), by name
    key: str = ""  # what the stream groups by, as "label=7"; empty: all readings together
    complete: bool = True  # False: the agent stopped without warning within it, some readings may be missing

    def __post_init__(self) -> None:
        _check_sequence(self.sequence)
        _check_sequence(self.readings)
        names = [name for name, _ in self.values]
        if not all(0 < len(name) <= MAX_NAME for name in (self.stream, *names)) or len(self.key) > MAX_TEXT:
            raise InvalidValue(f"window needs names of 1..{MAX_NAME} and a key of at most {MAX_TEXT} characters")
        if len(names) > MAX_VALUES or names != sorted(set(names)):
            raise InvalidValue(f"window needs at most {MAX_VALUES} values in the order of their names, got {names[:80]}")
        if not all(math.isfinite(value) for _, value in self.values):
            raise InvalidValue(f"window {self.stream!r} has a value that is not finite")
        check_text(self.stream, self.key, *names)
        check_time(self.start)
        if self.end <= self.start:
            raise InvalidValue(f"window {self.stream!r} ends at {self.end.isoformat()}, before it starts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Stands in for dropped records ``first..last``, so that the watermark can pass them."""

    first_sequence: int
    last_sequence: int
    reason: str
    at: datetime

    def __post_init__(self) -> None:
        _check_range(self.first_sequence, self.last_sequence)
        if len(self.reason) > MAX_TEXT:
            raise InvalidValue(f"gap reason is longer than {MAX_TEXT} characters")
        check_text(self.reason)
        check_time(self.at)

    @property
    def records(self) -> int:
        return self.last_sequence - self.first_sequence + 1


_NO_VALUES = np.empty(0, dtype="<f4")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InferenceTable:
    """Many inferences as columns, each ``(rows,)``; checked as a whole because an object per row costs more than the wire.

    Raises InvalidValue unless sequences ascend and every value is within the bounds of ``Inference``.
    """

    sequence: NDArray[np.uint64]
    captured_at_ms: NDArray[np.int64]
    label: NDArray[np.uint16]
    confidence: NDArray[np.float32]
    latency_ms: NDArray[np.float32]
    flags: NDArray[np.uint8]  # FLAG_CAPTURED | FLAG_UNCERTAIN
    frame_key: NDArray[np.uint64]
    model: NDArray[np.uint8]  # index into models
    models: tuple[Digest, ...]
    value: NDArray[np.float32] = field(default_factory=lambda: _NO_VALUES)  # NaN: none; empty: none in any row

    def __post_init__(self) -> None:
        rows = len(self.sequence)
        if len(self.value) == 0:
            object.__setattr__(self, "value", np.full(rows, np.nan, dtype="<f4"))
        if any(len(column) != rows for column in self._columns()):
            raise InvalidValue("inference columns have different lengths")
        if rows > MAX_ROWS:
            raise InvalidValue(f"batch holds {rows} inferences, more than {MAX_ROWS}")
        if rows == 0:
            return
        if not bool(np.all(self.sequence[1:] > self.sequence[:-1])):
            raise InvalidValue("inference sequences do not ascend")
        if not bool(np.all((self.confidence >= 0) & (self.confidence <= 1))):
            raise InvalidValue("confidence must be in 0..1")
        if not bool(np.all((self.latency_ms >= 0) & (self.latency_ms <= MAX_LATENCY_MS))):
            raise InvalidValue(f"latency must be in 0..{MAX_LATENCY_MS:g}")
        if int(self.captured_at_ms.min()) < 0 or int(self.captured_at_ms.max()) >= MAX_TIME_MS:
            raise InvalidValue("captured_at must be within 1970..9999")
        if int(self.flags.max()) > FLAG_CAPTURED | FLAG_UNCERTAIN:
            raise InvalidValue(f"unknown flag bits in {int(self.flags.max()):#x}")
        if int(self.model.max()) >= len(self.models):
            raise InvalidValue(f"model index {int(self.model.max())} of only {len(self.models)} models")
        if bool(np.isinf(self.value).any()):
            raise InvalidValue("a value is infinite")

    def __len__(self) -> int:
        return len(self.sequence)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, InferenceTable):
            return NotImplemented
        alike = np.array_equal(self.value, other.value, equal_nan=True)
        return alike and self.models == other.models and all(map(np.array_equal, self._columns()[:-1], other._columns()[:-1]))

    __hash__ = None  # type: ignore[assignment]  # arrays are mutable

    @classmethod
    def of(cls, rows: Sequence[Inference]) -> "InferenceTable":
        models = tuple(dict.fromkeys(row.model for row in rows))
        if len(models) > 256:
            raise InvalidValue(f"batch names {len(models)} models, more than 256")
        index = {model: i for i, model in enumerate(models)}
        return cls(
            sequence=np.array([row.sequence for row in rows], dtype="<u8"),
            captured_at_ms=np.array([to_ms(row.captured_at) for row in rows], dtype="<i8"),
            label=np.array([row.label for row in rows], dtype="<u2"),
            confidence=np.array([row.confidence for row in rows], dtype="<f4"),
            latency_ms=np.array([row.latency_ms for row in rows], dtype="<f4"),
            flags=np.array([FLAG_CAPTURED * row.captured | FLAG_UNCERTAIN * row.uncertain for row in rows], dtype="u1"),
            frame_key=np.array([row.frame_key for row in rows], dtype="<u8"),
            model=np.array([index[row.model] for row in rows], dtype="u1"),
            models=models,
            value=np.array([math.nan if row.value is None else row.value for row in rows], dtype="<f4"),
        )

    @property
    def has_values(self) -> bool:
        return not bool(np.isnan(self.value).all())

    def rows(self) -> Iterator[Inference]:
        for i in range(len(self)):
            flags, value = int(self.flags[i]), float(self.value[i])
            yield Inference(
                sequence=int(self.sequence[i]),
                captured_at=from_ms(int(self.captured_at_ms[i])),
                model=self.models[int(self.model[i])],
                label=int(self.label[i]),
                confidence=float(self.confidence[i]),
                latency_ms=float(self.latency_ms[i]),
                captured=bool(flags & FLAG_CAPTURED),
                uncertain=bool(flags & FLAG_UNCERTAIN),
                frame_key=int(self.frame_key[i]),
                value=None if math.isnan(value) else value,
            )

    def _columns(self) -> tuple[NDArray[Any], ...]:
        return (
            self.sequence, self.captured_at_ms, self.label, self.confidence,
            self.latency_ms, self.flags, self.frame_key, self.model, self.value,
        )  # fmt: skip


NO_INFERENCES = InferenceTable.of(())


class BatchHead(NamedTuple):
    """What a store must know of a valid batch without unfolding it; a tuple, because a hub makes tens of thousands a second."""

    epoch: str
    lane: Lane
    first_sequence: int
    last_sequence: int
    records: int  # produced and kept
    dropped: int  # what its gaps stand in for
    first_captured_ms: int | None  # None: no inferences
    last_captured_ms: int | None
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One durable unit of one (epoch, lane) stream. Raises InvalidValue unless every sequence is accounted for once."""

    epoch: str
    lane: Lane
    first_sequence: int
    last_sequence: int
    inferences: InferenceTable = field(default_factory=lambda: NO_INFERENCES)
    events: tuple[Event, ...] = ()
    gaps: tuple[Gap, ...] = ()
    windows: tuple[Window, ...] = ()

    def __post_init__(self) -> None:
        check_epoch(self.epoch)
        _check_range(self.first_sequence, self.last_sequence)
        if max(len(self.events), len(self.gaps), len(self.windows)) > MAX_ROWS:
            raise InvalidValue(f"batch holds more than {MAX_ROWS} rows of one kind")
        expected = self.first_sequence
        for first, last in self._spans():
            if first != expected:
                raise InvalidValue(f"batch {self.first_sequence}..{self.last_sequence} does not account for {expected} once")
            expected = last + 1
        if expected != self.last_sequence + 1:
            raise InvalidValue(f"batch {self.first_sequence}..{self.last_sequence} accounts only for what is below {expected}")

    @property
    def records(self) -> int:
        """Records produced and kept: gaps do not count."""
        return len(self.inferences) + len(self.events) + len(self.windows)

    @property
    def dropped(self) -> int:
        """Records the gaps stand in for."""
        return sum(gap.records for gap in self.gaps)

    @property
    def head(self) -> BatchHead:
        times = self.inferences.captured_at_ms
        return BatchHead(
            epoch=self.epoch,
            lane=self.lane,
            first_sequence=self.first_sequence,
            last_sequence=self.last_sequence,
            records=self.records,
            dropped=self.dropped,
            first_captured_ms=int(times.min()) if len(times) else None,
            last_captured_ms=int(times.max()) if len(times) else None,
            events=self.events,
        )

    def _spans(self) -> list[tuple[int, int]]:
        """Sorted (first, last) of everything in the batch, runs of inferences joined."""
        records: tuple[Event | Window, ...] = (*self.events, *self.windows)
        spans = [(record.sequence, record.sequence) for record in records]
        spans += [(gap.first_sequence, gap.last_sequence) for gap in self.gaps]
        sequence = self.inferences.sequence
        if len(sequence):
            breaks = np.flatnonzero(np.diff(sequence) != 1)
            firsts = np.concatenate((sequence[:1], sequence[breaks + 1]))
            lasts = np.concatenate((sequence[breaks], sequence[-1:]))
            spans += [(int(first), int(last)) for first, last in zip(firsts, lasts, strict=True)]
        return sorted(spans)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Every sequence of (epoch, lane) up to ``committed_through`` is in the store: the only licence to forget it."""

    epoch: str
    lane: Lane
    committed_through: int

    def __post_init__(self) -> None:
        check_epoch(self.epoch)
        _check_sequence(self.committed_through)


def check_epoch(epoch: str) -> None:
    if not 1 <= len(epoch) <= EPOCH_BYTES or not epoch.isascii() or not epoch.isalnum():
        raise InvalidValue(f"epoch must be 1..{EPOCH_BYTES} ASCII letters and digits, got {epoch[:80]!r}")


def check_text(*texts: str) -> None:
    """The wire is UTF-8, which has no lone surrogates; PostgreSQL's text has no NUL characters."""
    for text in texts:
        if "\0" in text or (not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text)):
            raise InvalidValue(f"text must be Unicode without NUL characters and lone surrogates, got {text[:80]!r}")


def check_time(at: datetime) -> None:
    """Aware, 1970..9999."""
    if at.tzinfo is None or at < _EPOCH_START:
        raise InvalidValue(f"time must be aware and within 1970..9999, got {at.isoformat()}")


def to_ms(at: datetime) -> int:
    """Unix epoch milliseconds of an aware time."""
    if at.tzinfo is None:
        raise InvalidValue(f"time must be aware, got {at.isoformat()}")
    return (at - _EPOCH_START) // timedelta(milliseconds=1)


def from_ms(ms: int) -> datetime:
    """Aware UTC time; raises InvalidValue outside the years 1970..9999."""
    if not 0 <= ms < MAX_TIME_MS:
        raise InvalidValue(f"time must be within 1970..9999, got {ms} ms")
    return _EPOCH_START + timedelta(milliseconds=ms)


def first_gap_free(ranges: Iterable[tuple[int, int]], *, after: int) -> int:
    """The highest sequence reached from ``after`` without a hole; ``ranges`` are sorted (first, last)."""
    for first, last in ranges:
        if first > after + 1:
            break
        after = max(after, last)
    return after


def _check_sequence(sequence: int) -> None:
    if not 0 <= sequence <= MAX_SEQUENCE:
        raise InvalidValue(f"sequence must be in 0..2^63-1, got {sequence}")


def _check_range(first: int, last: int) -> None:
    _check_sequence(first)
    _check_sequence(last)
    if first > last:
        raise InvalidValue(f"sequence range is empty: {first}..{last}")
