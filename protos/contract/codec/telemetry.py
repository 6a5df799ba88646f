"""Batches and watermarks."""

import threading
from collections.abc import Iterator, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any

import numpy as np
import zstandard
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from protos.contract import ids
from protos.contract.codec.message import MAX_TWIN_BYTES, bounded, decoder, enum, parse
from protos.contract.errors import ContractError, InvalidMessage
from protos.contract.telemetry import (
    FLAG_CAPTURED,
    FLAG_UNCERTAIN,
    MAX_BATCH_BYTES,
    MAX_LATENCY_MS,
    MAX_ROWS,
    MAX_SEQUENCE,
    MAX_TIME_MS,
    MAX_VALUES,
    NO_INFERENCES,
    Batch,
    BatchHead,
    Event,
    Gap,
    InferenceTable,
    Lane,
    Mark,
    Window,
    check_epoch,
    from_ms,
    to_ms,
)
from protos.v1 import telemetry_pb2

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"  # RFC 8878, 3.1.1; no TelemetryBatch starts with it
COLUMNS = (
    ("offset", "<u4"),
    ("captured_at", "<i8"),
    ("label", "<u2"),
    ("confidence", "<f4"),
    ("latency", "<f4"),
    ("flags", "u1"),
    ("frame_key", "<u8"),
    ("model", "u1"),
)

COLUMN_VALUES = attrgetter(*(name for name, _ in COLUMNS))
_VALUE_BYTES = 4
COLUMN_SIZES = tuple(np.dtype(dtype).itemsize for _, dtype in COLUMNS)
VALUE = "<f4"  # of the column that is empty where no row has a value
_LANES = {int(lane): lane for lane in Lane}


def encode_batch(batch: Batch, *, compress: bool = True) -> bytes:
    """Protobuf, in a zstd frame unless ``compress`` is off. Bytes are stable for one batch and one library version."""
    table = batch.inferences
    message = telemetry_pb2.TelemetryBatch(
        epoch=batch.epoch,
        lane=enum(batch.lane),
        first_sequence=batch.first_sequence,
        last_sequence=batch.last_sequence,
        events=[
            telemetry_pb2.Event(sequence=e.sequence, at_ms=to_ms(e.at), kind=e.kind, detail=e.detail) for e in batch.events
        ],
        gaps=[
            telemetry_pb2.Gap(
                first_sequence=g.first_sequence, last_sequence=g.last_sequence, reason=g.reason, at_ms=to_ms(g.at)
            )
            for g in batch.gaps
        ],
        windows=map(_window_to_pb, batch.windows),
    )
    if len(table):
        message.inferences.CopyFrom(
            telemetry_pb2.InferenceColumns(
                rows=len(table),
                offset=(table.sequence - np.uint64(batch.first_sequence)).astype("<u4").tobytes(),
                captured_at=table.captured_at_ms.astype("<i8").tobytes(),
                label=table.label.astype("<u2").tobytes(),
                confidence=table.confidence.astype("<f4").tobytes(),
                latency=table.latency_ms.astype("<f4").tobytes(),
                flags=table.flags.tobytes(),
                frame_key=table.frame_key.astype("<u8").tobytes(),
                model=table.model.tobytes(),
                models=list(table.models),
                value=table.value.astype(VALUE).tobytes() if table.has_values else b"",
            )
        )
    data = message.SerializeToString(deterministic=True)
    return zstandard.ZstdCompressor(level=3, write_checksum=True).compress(data) if compress else data


@decoder
def decode_batch(data: bytes) -> Batch:
    """Raises InvalidMessage; unpacks at most MAX_BATCH_BYTES."""
    if data.startswith(ZSTD_MAGIC):
        data = decompressed(data)
    if len(data) > MAX_BATCH_BYTES:
        raise InvalidMessage(f"batch of {len(data)} bytes, more than {MAX_BATCH_BYTES}")
    message = parse(telemetry_pb2.TelemetryBatch(), data)
    return Batch(
        epoch=message.epoch,
        lane=Lane(message.lane),
        first_sequence=message.first_sequence,
        last_sequence=message.last_sequence,
        inferences=_table(message.inferences, message.first_sequence),
        events=tuple(
            Event(sequence=e.sequence, at=from_ms(e.at_ms), kind=e.kind, detail=e.detail)
            for e in message.events[: MAX_ROWS + 1]
        ),
        gaps=tuple(
            Gap(first_sequence=g.first_sequence, last_sequence=g.last_sequence, reason=g.reason, at=from_ms(g.at_ms))
            for g in message.gaps[: MAX_ROWS + 1]
        ),
        windows=tuple(map(_window_from_pb, message.windows[: MAX_ROWS + 1])),
    )


def decode_heads(payloads: Sequence[bytes]) -> list[BatchHead | InvalidMessage]:
    """``decode_batch(...).head`` of each, or its error, in order: the same checks, made on all columns of all batches at once.

    One by one, the checks cost many times what parsing does. A batch that is in any way out of the ordinary (events, gaps, a
    check that fails) goes through ``decode_batch``.
    """
    plain = _PlainBatches()
    found: list[BatchHead | InvalidMessage | None] = [None] * len(payloads)
    for index, payload in enumerate(payloads):
        plain.add(index, payload)
    for index, head in plain.heads():
        found[index] = head
    return [_head(payload) if head is None else head for payload, head in zip(payloads, found, strict=True)]


def _head(payload: bytes) -> BatchHead | InvalidMessage:
    try:
        return decode_batch(payload).head
    except InvalidMessage as error:
        return InvalidMessage(str(error))  # the raised one holds, by its traceback, all that was unpacked


class _PlainBatches:
    """Columns of batches that hold inferences only, in sequence, end to end."""

    def __init__(self) -> None:
        self._index: list[int] = []
        self._rows: list[int] = []
        self._models: list[int] = []
        self._heads: list[tuple[str, Lane, int, int]] = []
        self._columns: tuple[list[bytes], ...] = tuple([] for _ in COLUMNS)

    def add(self, index: int, payload: bytes) -> None:
        """Takes no notice of a batch that ``decode_batch`` must look at."""
        try:
            data = decompressed(payload) if payload.startswith(ZSTD_MAGIC) else payload
            if len(data) > MAX_BATCH_BYTES:
                return
            message = parse(telemetry_pb2.TelemetryBatch(), data)
            columns = message.inferences
            rows, models, first, last = columns.rows, columns.models, message.first_sequence, message.last_sequence
            if message.events or message.gaps or message.windows:
                return
            if not 0 < rows <= MAX_ROWS or last - first + 1 != rows or last > MAX_SEQUENCE:
                return
            values = COLUMN_VALUES(columns)
            if tuple(map(len, values)) != tuple([rows * size for size in COLUMN_SIZES]):
                return
            if (value := columns.value) and not told(value, rows):
                return
            for model in models:
                known_digest(model)
            head = (_known_epoch(message.epoch), _LANES[message.lane], first, last)
        except (ContractError, DecodeError, KeyError, ValueError, zstandard.ZstdError):
            return
        self._index.append(index)
        self._rows.append(rows)
        self._models.append(len(models))
        self._heads.append(head)
        for column, value in zip(self._columns, values, strict=True):
            column.append(value)

    def heads(self) -> Iterator[tuple[int, BatchHead]]:
        """Of those whose every row is within the bounds of ``Inference``."""
        if not self._index:
            return
        offset, captured_at, _label, confidence, latency, flags, _frame_key, model = (
            np.frombuffer(b"".join(column), dtype=dtype) for column, (_, dtype) in zip(self._columns, COLUMNS, strict=True)
        )
        rows = np.array(self._rows)
        starts = np.concatenate(([0], np.cumsum(rows)[:-1]))
        good = offset == np.arange(len(offset)) - np.repeat(starts, rows)
        good &= (confidence >= 0) & (confidence <= 1) & (latency >= 0) & (latency <= MAX_LATENCY_MS)
        good &= (captured_at >= 0) & (captured_at < MAX_TIME_MS) & (flags <= FLAG_CAPTURED | FLAG_UNCERTAIN)
        good &= model < np.repeat(np.array(self._models), rows)
        all_good = np.logical_and.reduceat(good, starts).tolist()
        earliest = np.minimum.reduceat(captured_at, starts).tolist()
        latest = np.maximum.reduceat(captured_at, starts).tolist()
        for i, index in enumerate(self._index):
            if all_good[i]:
                epoch, lane, first, last = self._heads[i]
                yield index, BatchHead(epoch, lane, first, last, self._rows[i], 0, earliest[i], latest[i], ())


def encode_watermark(marks: tuple[Mark, ...]) -> bytes:
    message = telemetry_pb2.Watermark(
        marks=[
            telemetry_pb2.Watermark.Mark(epoch=m.epoch, lane=enum(m.lane), committed_through=m.committed_through) for m in marks
        ]
    )
    return message.SerializeToString(deterministic=True)


@decoder
def decode_watermark(data: bytes) -> tuple[Mark, ...]:
    message = parse(telemetry_pb2.Watermark(), bounded(data, MAX_TWIN_BYTES))
    return tuple(Mark(epoch=m.epoch, lane=Lane(m.lane), committed_through=m.committed_through) for m in message.marks)


def _window_to_pb(window: Window) -> telemetry_pb2.Window:
    return telemetry_pb2.Window(
        sequence=window.sequence,
        stream=window.stream,
        key=window.key,
        start_ms=to_ms(window.start),
        end_ms=to_ms(window.end),
        readings=window.readings,
        complete=window.complete,
        values=[telemetry_pb2.Window.Value(name=name, value=value) for name, value in window.values],
    )


def _window_from_pb(message: telemetry_pb2.Window) -> Window:
    return Window(
        sequence=message.sequence,
        stream=message.stream,
        key=message.key,
        start=from_ms(message.start_ms),
        end=from_ms(message.end_ms),
        readings=message.readings,
        complete=message.complete,
        values=tuple((value.name, value.value) for value in message.values[: MAX_VALUES + 1]),
    )


def decompressed(data: bytes) -> bytes:
    params = zstandard.get_frame_parameters(data)
    if params.content_size > MAX_BATCH_BYTES or params.window_size > 8 * MAX_BATCH_BYTES:  # unknown size reads as 2^64-1
        raise InvalidMessage(f"zstd frame unpacks to more than {MAX_BATCH_BYTES} bytes")
    return _decompressor().decompress(data, max_output_size=MAX_BATCH_BYTES, allow_extra_data=False)


_local = threading.local()


def _decompressor() -> zstandard.ZstdDecompressor:
    """One per thread: making it costs five times what it does."""
    made: zstandard.ZstdDecompressor | None = getattr(_local, "decompressor", None)
    if made is None:
        made = _local.decompressor = zstandard.ZstdDecompressor(max_window_size=8 * MAX_BATCH_BYTES)
    return made


@lru_cache(maxsize=4096)
def known_digest(text: str) -> ids.Digest:
    return ids.digest(text)


@lru_cache(maxsize=4096)
def _known_epoch(text: str) -> str:
    check_epoch(text)
    return text


def _table(columns: telemetry_pb2.InferenceColumns, first_sequence: int) -> InferenceTable:
    rows = columns.rows
    if rows > MAX_ROWS:
        raise InvalidMessage(f"batch holds {rows} inferences, more than {MAX_ROWS}")
    arrays = {name: _column(columns, name, dtype, rows) for name, dtype in COLUMNS}
    if rows == 0:
        return NO_INFERENCES
    return InferenceTable(
        sequence=arrays["offset"].astype("<u8") + np.uint64(first_sequence),
        captured_at_ms=arrays["captured_at"],
        label=arrays["label"],
        confidence=arrays["confidence"],
        latency_ms=arrays["latency"],
        flags=arrays["flags"],
        frame_key=arrays["frame_key"],
        model=arrays["model"],
        models=tuple(known_digest(model) for model in columns.models),
        value=_column(columns, "value", VALUE, rows if columns.value else 0),
    )


def told(value: bytes, rows: int) -> bool:
    """Whether it is a column of values for so many rows, none of them infinite."""
    return len(value) == rows * _VALUE_BYTES and not bool(np.isinf(np.frombuffer(value, VALUE)).any())


def _column(columns: telemetry_pb2.InferenceColumns, name: str, dtype: str, rows: int) -> NDArray[Any]:
    data: bytes = getattr(columns, name)
    if len(data) != rows * np.dtype(dtype).itemsize:
        raise InvalidMessage(f"column {name} has {len(data)} bytes for {rows} rows of {dtype}")
    return np.frombuffer(data, dtype=dtype)
