"""Numbered records: as compact rows while they wait, and as batches once they are cut."""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar

from edge_agent.core.model import Item, Outcome, Summary
from protos.contract import ids
from protos.contract.telemetry import (
    FLAG_CAPTURED,
    FLAG_UNCERTAIN,
    MAX_TEXT,
    Batch,
    Event,
    Gap,
    Inference,
    InferenceTable,
    Lane,
    Window,
    from_ms,
    to_ms,
)

Record = Inference | Event | Window | Gap
R = TypeVar("R", bound=Record)

ROW_OVERHEAD_BYTES = 48  # what SQLite adds to a row: header, key, page share
MAX_BATCH_MODELS = 256  # the model column is one byte
MAX_BATCH_ROW_BYTES = 256 * 1024  # of rows: far enough below the contract's limit, even where no byte compresses
MAX_KIND = 64

_INFERENCE, _EVENT, _GAP, _WINDOW, _VALUED = 1, 2, 3, 4, 5
_HEAD = struct.Struct("<Bq")  # kind, time in ms
_READING = struct.Struct("<HffBQ")  # label, confidence, latency, flags, frame key; the model follows
_VALUE = struct.Struct("<f")  # between these two in a row of kind _VALUED
_SPAN = struct.Struct("<qQ?H")  # end in ms, readings, complete, number of values; these follow as doubles, then all names
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)


def number(item: Item, sequence: int) -> Inference | Event | Window:
    """Raises InvalidValue for what no batch could carry, before it is queued."""
    if isinstance(item, Outcome):
        return Inference(
            sequence=sequence,
            captured_at=max(item.captured_at, _EARLIEST),  # a board without a clock battery may start before it
            model=ids.digest(item.model),
            label=item.label,
            confidence=item.confidence,
            latency_ms=item.latency_ms,
            captured=item.captured,
            uncertain=item.uncertain,
            frame_key=item.frame_key,
            value=item.value,
        )
    if isinstance(item, Summary):
        return Window(
            sequence=sequence,
            stream=item.stream,
            start=max(item.start, _EARLIEST),
            end=item.end,
            readings=item.readings,
            values=item.values,
            key=_clean(item.key)[:MAX_TEXT],
            complete=item.complete,
        )
    return Event(
        sequence=sequence,
        at=max(item.at, _EARLIEST),
        kind=_clean(item.kind)[:MAX_KIND] or "unnamed",
        detail=_clean(item.detail)[:MAX_TEXT],
    )


def span(record: Record) -> tuple[int, int]:
    """First and last sequence it accounts for."""
    if isinstance(record, Gap):
        return record.first_sequence, record.last_sequence
    return record.sequence, record.sequence


def happened_at(record: Record) -> datetime:
    """Event time."""
    if isinstance(record, Inference):
        return record.captured_at
    return record.start if isinstance(record, Window) else record.at


def count(records: Sequence[Record]) -> int:
    """Records that were produced and kept: gaps do not count."""
    return sum(not isinstance(record, Gap) for record in records)


def merged(records: Sequence[Record], *, reason: str, at: datetime) -> Gap:
    """One gap in the place of records whose sequences follow each other."""
    return Gap(first_sequence=span(records[0])[0], last_sequence=span(records[-1])[1], reason=reason[:MAX_TEXT], at=at)


def renumber(records: Sequence[Record], first: int) -> list[Record]:
    """The same records in a new epoch, which owes nothing for the gaps of the old one."""
    kept = [record for record in records if not isinstance(record, Gap)]
    return [replace(record, sequence=first + i) for i, record in enumerate(kept)]


def shifted(record: R, by: int) -> R:
    """The same record with its sequence lower by ``by``."""
    if isinstance(record, Gap):
        return replace(record, first_sequence=record.first_sequence - by, last_sequence=record.last_sequence - by)
    return replace(record, sequence=record.sequence - by)


def row_bytes(record: Record) -> int:
    """What one open row costs."""
    if isinstance(record, Inference):
        valued = 0 if record.value is None else _VALUE.size
        return ROW_OVERHEAD_BYTES + _HEAD.size + _READING.size + valued + len(record.model)
    if isinstance(record, Event):
        return ROW_OVERHEAD_BYTES + _HEAD.size + len(record.kind.encode()) + len(record.detail.encode())
    if isinstance(record, Window):
        return ROW_OVERHEAD_BYTES + len(pack(record))
    return ROW_OVERHEAD_BYTES + _HEAD.size + len(record.reason.encode())


def pack(record: Record) -> bytes:
    if isinstance(record, Inference):
        flags = FLAG_CAPTURED * record.captured | FLAG_UNCERTAIN * record.uncertain
        reading = _READING.pack(record.label, record.confidence, record.latency_ms, flags, record.frame_key)
        if record.value is not None:
            reading += _VALUE.pack(record.value)
        kind = _INFERENCE if record.value is None else _VALUED
        return _HEAD.pack(kind, to_ms(record.captured_at)) + reading + record.model.encode()
    if isinstance(record, Event):
        return _HEAD.pack(_EVENT, to_ms(record.at)) + f"{record.kind}\0{record.detail}".encode()
    if isinstance(record, Window):
        values = [value for _, value in record.values]
        names = "\0".join((record.stream, record.key, *(name for name, _ in record.values)))
        said = _SPAN.pack(to_ms(record.end), record.readings, record.complete, len(values))
        return _HEAD.pack(_WINDOW, to_ms(record.start)) + said + struct.pack(f"<{len(values)}d", *values) + names.encode()
    return _HEAD.pack(_GAP, to_ms(record.at)) + record.reason.encode()


def unpack(first: int, last: int, row: bytes) -> Record | None:
    """None for a row that ``pack`` did not make."""
    try:
        kind, at_ms = _HEAD.unpack_from(row)
        at, body = from_ms(at_ms), row[_HEAD.size :]
        if kind in (_INFERENCE, _VALUED):
            label, confidence, latency_ms, flags, frame_key = _READING.unpack_from(body)
            (value,) = _VALUE.unpack_from(body, _READING.size) if kind == _VALUED else (None,)
            model = body[_READING.size + (_VALUE.size if kind == _VALUED else 0) :]
            return Inference(
                sequence=first,
                captured_at=at,
                model=ids.digest(model.decode()),
                label=label,
                confidence=confidence,
                latency_ms=latency_ms,
                captured=bool(flags & FLAG_CAPTURED),
                uncertain=bool(flags & FLAG_UNCERTAIN),
                frame_key=frame_key,
                value=value,
            )
        if kind == _EVENT:
            name, _, detail = body.decode().partition("\0")
            return Event(sequence=first, at=at, kind=name, detail=detail)
        if kind == _WINDOW:
            return _window(first, at, body)
        if kind == _GAP:
            return Gap(first_sequence=first, last_sequence=last, reason=body.decode(), at=at)
    except (struct.error, ValueError):  # what is no text, no digest or out of bounds is a ValueError too
        return None
    return None


def chunks(records: Sequence[Record], limit: int) -> Iterator[Sequence[Record]]:
    """Runs of at most ``limit`` records that each fit a batch; the last one may be short."""
    start, size, models = 0, 0, set[str]()
    for i, record in enumerate(records):
        cost = row_bytes(record)
        model = {record.model} if isinstance(record, Inference) else set()
        if i - start >= limit or size + cost > MAX_BATCH_ROW_BYTES or len(models | model) > MAX_BATCH_MODELS:
            yield records[start:i]
            start, size, models = i, 0, set()
        size += cost
        models |= model
    if start < len(records):
        yield records[start:]


def batch_of(epoch: str, lane: Lane, records: Sequence[Record]) -> Batch:
    """One batch of records whose sequences follow each other."""
    return Batch(
        epoch=epoch,
        lane=lane,
        first_sequence=span(records[0])[0],
        last_sequence=span(records[-1])[1],
        inferences=InferenceTable.of([r for r in records if isinstance(r, Inference)]),
        events=tuple(r for r in records if isinstance(r, Event)),
        gaps=tuple(r for r in records if isinstance(r, Gap)),
        windows=tuple(r for r in records if isinstance(r, Window)),
    )


def _window(sequence: int, start: datetime, body: bytes) -> Window:
    end_ms, readings, complete, count = _SPAN.unpack_from(body)
    values = struct.unpack_from(f"<{count}d", body, _SPAN.size)
    stream, key, *names = body[_SPAN.size + 8 * count :].decode().split("\0")
    return Window(
        sequence=sequence,
        stream=stream,
        start=start,
        end=from_ms(end_ms),
        readings=readings,
        values=tuple(zip(names, values, strict=True)),
        key=key,
        complete=complete,
    )


def _clean(text: str) -> str:
    """Without what UTF-8 cannot carry (lone surrogates from odd file names) and without our separator."""
    return text.encode("utf-8", "replace").decode().replace("\0", " ")
