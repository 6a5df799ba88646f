"""The archive's Parquet: schemas, and tables in and out of bytes.

A file holds one tenant, one kind and one day of event time (or scattered ones), in the order of device and time, so that the
statistics of its row groups tell a query what to skip.
"""

import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cloud_hub.store.archive import SCATTERED, Kind
from protos.contract.telemetry import from_ms

MAX_DAYS = 32  # files of one kind that one call makes: a device whose clock jumps must not make ten thousand
DAY_MS = 86_400_000
_ROW_GROUP = 1 << 16

_TEXT = pa.dictionary(pa.int32(), pa.string())
_TIME = pa.timestamp("ms", tz="UTC")
_STREAM = [("device", _TEXT), ("epoch", _TEXT), ("lane", pa.int8())]  # lane: 1 critical, 2 normal, 3 bulk
_SPREAD = [("sum", pa.float64()), ("min", pa.float64()), ("max", pa.float64()), ("histogram", pa.map_(pa.int32(), pa.int64()))]

SCHEMAS = {
    Kind.READINGS: pa.schema(
        [
            *_STREAM,
            ("sequence", pa.int64()),
            ("captured_at", _TIME),
            ("received_at", _TIME),
            ("model", _TEXT),  # digest of its manifest
            ("label", pa.uint16()),
            ("confidence", pa.float32()),
            ("latency_ms", pa.float32()),
            ("captured", pa.bool_()),
            ("uncertain", pa.bool_()),
            ("frame_key", pa.uint64()),
            ("value", pa.float32()),  # NULL: none
        ]
    ),
    Kind.WINDOWS: pa.schema(
        [
            *_STREAM,
            ("sequence", pa.int64()),
            ("start_at", _TIME),
            ("end_at", _TIME),
            ("received_at", _TIME),
            ("stream", _TEXT),
            ("key", _TEXT),
            ("readings", pa.int64()),
            ("complete", pa.bool_()),
            ("values", pa.map_(pa.string(), pa.float64())),
        ]
    ),
    Kind.EVENTS: pa.schema(
        [
            *_STREAM,
            ("sequence", pa.int64()),
            ("at", _TIME),
            ("received_at", _TIME),
            ("kind", _TEXT),
            ("detail", pa.string()),
        ]
    ),
    Kind.GAPS: pa.schema(
        [
            *_STREAM,
            ("sequence", pa.int64()),  # its first
            ("last_sequence", pa.int64()),
            ("at", _TIME),
            ("received_at", _TIME),
            ("reason", _TEXT),
        ]
    ),
    Kind.ROLLUPS: pa.schema(
        [
            ("device", _TEXT),
            ("hour", _TIME),  # its start
            ("model", _TEXT),
            ("label", pa.uint16()),
            ("readings", pa.int64()),
            ("uncertain", pa.int64()),
            ("captured", pa.int64()),
            *((f"confidence_{name}", kind) for name, kind in _SPREAD),
            *((f"latency_{name}", kind) for name, kind in _SPREAD),
        ]
    ),
}
TIME = {
    Kind.READINGS: "captured_at",
    Kind.WINDOWS: "start_at",
    Kind.EVENTS: "at",
    Kind.GAPS: "at",
    Kind.ROLLUPS: "hour",
}
_ASCENDING = {"sequence", "captured_at", "received_at", "start_at", "end_at", "hour"}  # their differences are small


def write(kind: Kind, table: pa.Table) -> bytes:
    """The same table gives the same bytes."""
    out = io.BytesIO()
    names = [
        name for name in table.schema.names if name not in _ASCENDING and not pa.types.is_map(table.schema.field(name).type)
    ]
    pq.write_table(
        table.cast(SCHEMAS[kind]),
        out,
        compression="zstd",
        compression_level=3,
        row_group_size=_ROW_GROUP,
        use_dictionary=[name for name in names if name not in ("frame_key", "confidence", "latency_ms", "value")],
        column_encoding={name: "DELTA_BINARY_PACKED" for name in table.schema.names if name in _ASCENDING},
    )
    return out.getvalue()


def read(data: bytes) -> pa.Table:
    return pq.read_table(pa.BufferReader(data))


def joined(kind: Kind, tables: Sequence[pa.Table]) -> pa.Table:
    """One table, in order."""
    return ordered(kind, pa.concat_tables([_whole(kind, table) for table in tables]))


def ordered(kind: Kind, table: pa.Table) -> pa.Table:
    """By device, time, lane and sequence."""
    table = table.unify_dictionaries().combine_chunks()
    keys: list[NDArray[Any]] = [_ranks(table["device"]), milliseconds(table[TIME[kind]])]
    keys += [table[name].to_numpy() for name in ("lane", "sequence") if name in table.schema.names]
    return table.take(pa.array(np.lexsort(keys[::-1])))


def by_day(kind: Kind, table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """(day, its rows in their order): a part for each of the fullest days, and one for all others."""
    days = milliseconds(table[TIME[kind]]) // DAY_MS
    values, counts = np.unique(days, return_counts=True)
    if len(values) == 1:
        yield from_ms(int(values[0]) * DAY_MS).date().isoformat(), table
        return
    if len(values) > MAX_DAYS:
        values = values[np.sort(np.argsort(-counts, kind="stable")[: MAX_DAYS - 1])]
    for value in values.tolist():
        yield from_ms(value * DAY_MS).date().isoformat(), table.filter(pa.array(days == value))
    others = ~np.isin(days, values)
    if others.any():
        yield SCATTERED, table.filter(pa.array(others))


def span_ms(kind: Kind, table: pa.Table) -> tuple[int, int]:
    """Event time of the first row and of the last one; the table is not empty."""
    times = milliseconds(table[TIME[kind]])
    return int(times.min()), int(times.max())


def milliseconds(times: pa.ChunkedArray) -> NDArray[np.int64]:
    return np.asarray(times.cast(pa.int64()))


def _whole(kind: Kind, table: pa.Table) -> pa.Table:
    """In today's columns: those that an older hub did not write are NULL."""
    for field in SCHEMAS[kind]:
        if field.name not in table.schema.names:
            table = table.append_column(field, pa.nulls(len(table), field.type))
    return table.select(SCHEMAS[kind].names).cast(SCHEMAS[kind])


def _ranks(column: pa.ChunkedArray) -> NDArray[Any]:
    """Numbers that sort as the texts do."""
    texts = column.combine_chunks()
    if isinstance(texts, pa.ChunkedArray):
        texts = pa.concat_arrays(texts.chunks)
    words = np.asarray(texts.dictionary.to_pylist(), dtype=object)
    rank = np.empty(len(words), dtype=np.int64)
    rank[np.argsort(words, kind="stable")] = np.arange(len(words))
    return np.asarray(rank[texts.indices.to_numpy()])
