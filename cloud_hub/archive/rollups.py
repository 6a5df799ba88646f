"""Readings as hourly sums per device, model and label. Sums of different files add up, so late readings need no rewriting."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cloud_hub.archive import histograms
from cloud_hub.archive.parquet import SCHEMAS, milliseconds
from cloud_hub.store.archive import Kind

HOUR_MS = 3_600_000


def rolled_up(readings: pa.Table) -> pa.Table:
    """A row for each device, hour, model and label; the table is not empty."""
    readings = readings.unify_dictionaries().combine_chunks()
    device, model = (_dictionary(readings[name]) for name in ("device", "model"))
    hour = milliseconds(readings["captured_at"]) // HOUR_MS * HOUR_MS
    label = readings["label"].to_numpy()
    keys = (device.indices.to_numpy(), hour, model.indices.to_numpy(), label)
    order = np.lexsort(keys[::-1])
    keys = tuple(key[order] for key in keys)
    starts = np.flatnonzero(np.r_[True, np.any([key[1:] != key[:-1] for key in keys], axis=0)])
    groups = _Groups(starts, len(order))
    columns: dict[str, Any] = {
        "device": device.take(pa.array(order[starts])),
        "hour": pa.array(keys[1][starts]).cast(SCHEMAS[Kind.ROLLUPS].field("hour").type),
        "model": model.take(pa.array(order[starts])),
        "label": keys[3][starts],
        "readings": groups.sizes,
        "uncertain": groups.sum(readings["uncertain"].to_numpy()[order].astype("i8")),
        "captured": groups.sum(readings["captured"].to_numpy()[order].astype("i8")),
    }
    for name, field, bucketed in (
        ("confidence", "confidence", histograms.confidence_buckets),
        ("latency", "latency_ms", histograms.latency_buckets),
    ):
        values = readings[field].to_numpy()[order]
        columns[f"{name}_sum"] = groups.sum(values.astype("f8"))
        columns[f"{name}_min"] = np.minimum.reduceat(values, starts).astype("f8")
        columns[f"{name}_max"] = np.maximum.reduceat(values, starts).astype("f8")
        columns[f"{name}_histogram"] = groups.histograms(bucketed(values))
    schema = SCHEMAS[Kind.ROLLUPS]
    arrays = [
        column if isinstance(column, pa.Array) else pa.array(column) for column in (columns[name] for name in schema.names)
    ]
    return pa.Table.from_arrays([array.cast(field.type) for array, field in zip(arrays, schema, strict=True)], schema=schema)


class _Groups:
    """Runs of rows that share a key."""

    def __init__(self, starts: NDArray[Any], rows: int) -> None:
        self._starts = starts
        self.sizes = np.diff(np.r_[starts, rows])

    def sum(self, values: NDArray[Any]) -> NDArray[Any]:
        return np.add.reduceat(values, self._starts)

    def histograms(self, buckets: NDArray[Any]) -> pa.MapArray:
        """Of each group: how often it has which bucket."""
        group = np.repeat(np.arange(len(self._starts)), self.sizes)
        lowest = int(buckets.min())
        width = int(buckets.max()) - lowest + 1
        cells, counts = np.unique(group * width + (buckets - lowest), return_counts=True)
        offsets = np.searchsorted(cells, np.arange(len(self._starts) + 1) * width)
        keys = (cells % width + lowest).astype("i4")
        return pa.MapArray.from_arrays(pa.array(offsets.astype("i4")), pa.array(keys), pa.array(counts.astype("i8")))


def _dictionary(column: pa.ChunkedArray) -> pa.DictionaryArray:
    chunk = column.combine_chunks()
    return pa.concat_arrays(chunk.chunks) if isinstance(chunk, pa.ChunkedArray) else chunk
