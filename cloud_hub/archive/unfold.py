"""Batches as tables: what the archive keeps of them, and what queries see of those that are not archived yet."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from cloud_hub.archive.parquet import SCHEMAS
from cloud_hub.store.archive import Kind
from protos.contract.ids import DeviceId
from protos.contract.telemetry import FLAG_CAPTURED, FLAG_UNCERTAIN, Batch, Event, Gap, Window, to_ms

_READING_BYTES = 64  # in memory, about
_ROW_BYTES = 512  # of a window or a gap without its texts
_VALUE_BYTES = 64


class Unfolded(NamedTuple):
    """A stored batch, decoded."""

    device: DeviceId
    received_ms: int
    batch: Batch


def rows(batch: Batch) -> int:
    return len(batch.inferences) + len(batch.windows) + len(batch.events) + len(batch.gaps)


def size_bytes(batch: Batch) -> int:
    """About what its tables take in memory: a small batch can unpack to much."""
    size = _READING_BYTES * len(batch.inferences) + _ROW_BYTES * (len(batch.windows) + len(batch.events) + len(batch.gaps))
    size += sum(len(event.detail) for event in batch.events)
    size += sum(len(gap.reason) for gap in batch.gaps)
    return size + sum(len(window.key) + _VALUE_BYTES * len(window.values) for window in batch.windows)


def tables(batches: Sequence[Unfolded]) -> Iterable[tuple[Kind, pa.Table]]:
    """Those that are not empty, rows in the order of ``batches``: together they account for every sequence."""
    for kind, make in ((Kind.READINGS, readings), (Kind.WINDOWS, _windows), (Kind.EVENTS, _events), (Kind.GAPS, _gaps)):
        table = make(batches)
        if len(table):
            yield kind, table


def readings(batches: Sequence[Unfolded]) -> pa.Table:
    full = [unfolded for unfolded in batches if len(unfolded.batch.inferences)]
    parts = [unfolded.batch.inferences for unfolded in full]
    counts = [len(part) for part in parts]
    flags = _joined([part.flags for part in parts], "u1")
    models = _Words()
    model_codes = [np.array([models.code(name) for name in part.models], dtype=np.int32)[part.model] for part in parts]
    columns = {
        "device": _repeated([unfolded.device for unfolded in full], counts),
        "epoch": _repeated([unfolded.batch.epoch for unfolded in full], counts),
        "lane": np.repeat(np.array([int(unfolded.batch.lane) for unfolded in full], dtype="i1"), counts),
        "sequence": _joined([part.sequence for part in parts], "u8").astype("i8"),
        "captured_at": _times(_joined([part.captured_at_ms for part in parts], "i8")),
        "received_at": _times(np.repeat(np.array([unfolded.received_ms for unfolded in full], dtype="i8"), counts)),
        "model": models.column(_joined(model_codes, "i4")),
        "label": _joined([part.label for part in parts], "u2"),
        "confidence": _joined([part.confidence for part in parts], "f4"),
        "latency_ms": _joined([part.latency_ms for part in parts], "f4"),
        "captured": (flags & FLAG_CAPTURED) != 0,
        "uncertain": (flags & FLAG_UNCERTAIN) != 0,
        "frame_key": _joined([part.frame_key for part in parts], "u8"),
        "value": pa.array(_joined([part.value for part in parts], "f4"), pa.float32(), from_pandas=True),  # NaN is NULL
    }
    return _table(Kind.READINGS, columns)


def _windows(batches: Sequence[Unfolded]) -> pa.Table:
    def row(window: Window) -> dict[str, Any]:
        return {
            "sequence": window.sequence,
            "start_at": to_ms(window.start),
            "end_at": to_ms(window.end),
            "stream": window.stream,
            "key": window.key,
            "readings": window.readings,
            "complete": window.complete,
            "values": list(window.values),
        }

    return _listed(Kind.WINDOWS, batches, lambda batch: [row(window) for window in batch.windows])


def _events(batches: Sequence[Unfolded]) -> pa.Table:
    def row(event: Event) -> dict[str, Any]:
        return {"sequence": event.sequence, "at": to_ms(event.at), "kind": event.kind, "detail": event.detail}

    return _listed(Kind.EVENTS, batches, lambda batch: [row(event) for event in batch.events])


def _gaps(batches: Sequence[Unfolded]) -> pa.Table:
    def row(gap: Gap) -> dict[str, Any]:
        return {"sequence": gap.first_sequence, "last_sequence": gap.last_sequence, "at": to_ms(gap.at), "reason": gap.reason}

    return _listed(Kind.GAPS, batches, lambda batch: [row(gap) for gap in batch.gaps])


def _listed(kind: Kind, batches: Sequence[Unfolded], rows_of: Callable[[Batch], list[dict[str, Any]]]) -> pa.Table:
    """Windows, events and gaps are few: row by row will do."""
    found = [
        {
            "device": unfolded.device,
            "epoch": unfolded.batch.epoch,
            "lane": int(unfolded.batch.lane),
            "received_at": unfolded.received_ms,
            **row,
        }
        for unfolded in batches
        for row in rows_of(unfolded.batch)
    ]
    schema = SCHEMAS[kind]
    return pa.table({field.name: pa.array([row[field.name] for row in found], field.type) for field in schema}, schema=schema)


class _Words:
    """A dictionary that grows."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}

    def code(self, word: str) -> int:
        return self._codes.setdefault(word, len(self._codes))

    def column(self, codes: Any) -> pa.DictionaryArray:
        return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(list(self._codes), pa.string()))


def _repeated(words: Sequence[str], counts: Sequence[int]) -> pa.DictionaryArray:
    known = _Words()
    codes = np.array([known.code(word) for word in words], dtype=np.int32)
    return known.column(np.repeat(codes, counts))


def _joined(parts: Sequence[Any], dtype: str) -> Any:
    return np.concatenate(parts) if parts else np.empty(0, dtype)


def _times(ms: Any) -> pa.Array:
    return pa.array(ms, pa.int64()).cast(pa.timestamp("ms", tz="UTC"))


def _table(kind: Kind, columns: dict[str, Any]) -> pa.Table:
    schema = SCHEMAS[kind]
    arrays = [
        columns[field.name] if isinstance(columns[field.name], pa.Array) else pa.array(columns[field.name], field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)
