"""What every part of telemetry holds to: sizes, numbers, text and time."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import numpy as np

from protos.contract.errors import InvalidValue

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

_EPOCH_START = datetime(1970, 1, 1, tzinfo=UTC)


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


def check_sequence(sequence: int) -> None:
    if not 0 <= sequence <= MAX_SEQUENCE:
        raise InvalidValue(f"sequence must be in 0..2^63-1, got {sequence}")


def check_range(first: int, last: int) -> None:
    check_sequence(first)
    check_sequence(last)
    if first > last:
        raise InvalidValue(f"sequence range is empty: {first}..{last}")
