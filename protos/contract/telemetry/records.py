"""Single records, each numbered within its (epoch, lane)."""

import math
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from protos.contract.errors import InvalidValue
from protos.contract.ids import Digest
from protos.contract.telemetry.bounds import (
    MAX_LATENCY_MS,
    MAX_NAME,
    MAX_TEXT,
    MAX_VALUE,
    MAX_VALUES,
    check_range,
    check_sequence,
    check_text,
    check_time,
)


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
        check_sequence(self.sequence)
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
        check_sequence(self.sequence)
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
        check_sequence(self.sequence)
        check_sequence(self.readings)
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
        check_range(self.first_sequence, self.last_sequence)
        if len(self.reason) > MAX_TEXT:
            raise InvalidValue(f"gap reason is longer than {MAX_TEXT} characters")
        check_text(self.reason)
        check_time(self.at)

    @property
    def records(self) -> int:
        return self.last_sequence - self.first_sequence + 1
