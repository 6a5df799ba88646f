"""Sums over windows of event time, of readings where they are kept and of roll-ups where they are not.

Readings and roll-ups are never of the same reading, so what the two say about one group is added.
"""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby, islice
from typing import Any, NamedTuple

import pyarrow as pa

from cloud_hub.archive import histograms
from cloud_hub.archive.engine import Question
from cloud_hub.archive.histograms import SQL_BUCKET
from cloud_hub.archive.rollups import HOUR_MS
from cloud_hub.core.errors import Invalid
from cloud_hub.services.snapshots import Scope, Snapshot
from cloud_hub.services.versions import Versions
from cloud_hub.store import registry
from cloud_hub.store.database import Database
from protos.contract.telemetry import from_ms

DEFAULT_ROWS = 10_000
MAX_ROWS = 100_000
FIELDS = ("confidence", "latency_ms")
KEYS = ("device", "model", "label")
SHARES = (0.5, 0.95)  # the percentiles
_HELD_BYTES = 64  # of one reading's values while DuckDB looks for a percentile

_ROLLUP_COLUMN = {"confidence": "confidence", "latency_ms": "latency"}  # their prefixes in roll-ups


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouping:
    window_ms: int = 0  # of event time, aligned to 1970; 0: the whole time is one window
    fields: Sequence[str] = FIELDS
    by: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Raises Invalid."""
        if self.window_ms < 0:
            raise Invalid(f"window must not be negative, got {self.window_ms} ms")
        for name, chosen, known in (("field", self.fields, FIELDS), ("group", self.by, KEYS)):
            for one in chosen:
                if one not in known:
                    raise Invalid(f"{name} must be one of {', '.join(known)}, got {one[:80]!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldSummary:
    name: str
    mean: float
    min: float
    max: float
    p50: float
    p95: float
    approximate: bool  # p50 and p95 come from histograms


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregate:
    """Of one window and group; a key that was not asked for is empty."""

    start: datetime
    end: datetime  # where only roll-ups are left, a window is at least an hour
    device: str
    model: str  # name:version, or the digest of an unknown one
    label: str  # name, or the index where the model is not known
    readings: int
    uncertain: int
    captured: int
    fields: tuple[FieldSummary, ...]


def names(db: Database, versions: Versions, scope: Scope, grouping: Grouping) -> pa.Table:
    """What models and labels are called, as a table for the SQL below; empty where nobody asked."""
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    if {"model", "label"} & set(grouping.by):
        with db.read() as tx:
            for digest, name, version in registry.manifests(tx, scope.tenant):
                if scope.models is None or digest in scope.models:
                    labels = versions.labels(tx, scope.tenant, digest) if "label" in grouping.by else ()
                    found[digest] = (f"{name}:{version}", labels)
    return pa.table(
        {
            "digest": pa.array(list(found), pa.string()),
            "called": pa.array([called for called, _ in found.values()], pa.string()),
            "labels": pa.array([labels for _, labels in found.values()], pa.list_(pa.string())),
        }
    )


def rows(snapshot: Snapshot, question: Question, called: pa.Table, grouping: Grouping, limit: int) -> Iterator[Aggregate]:
    """By window and group."""
    question.give("names", called)
    exact = snapshot.about_rows * _HELD_BYTES <= snapshot.memory_bytes
    sums = _Sql(grouping, exact=exact, histograms=not exact or bool(snapshot.rollups))
    found = [_parts(question.ask(sums.of_readings(snapshot, limit)))]
    if snapshot.rollups:
        found.append(_parts(question.ask(sums.of_rollups(snapshot, limit))))
    together = groupby(heapq.merge(*found, key=lambda part: part.key), key=lambda part: part.key)
    for key, parts in islice(together, limit):
        yield _aggregate(key, list(parts), grouping)


class _Key(NamedTuple):
    start_ms: int
    end_ms: int
    device: str
    model: str
    label: str


class _Part(NamedTuple):
    """What readings say of a group, or roll-ups."""

    key: _Key
    values: Mapping[str, Any]


class _Sql:
    def __init__(self, grouping: Grouping, *, exact: bool, histograms: bool) -> None:
        self._grouping = grouping
        self._exact = exact
        self._histograms = histograms

    def of_readings(self, snapshot: Snapshot, limit: int) -> str:
        columns = ["count(*) AS readings", "count(*) FILTER (uncertain) AS uncertain", "count(*) FILTER (captured) AS captured"]
        for field in self._grouping.fields:
            columns += [
                f"sum({field}::DOUBLE) AS {field}_sum",
                f"min({field})::DOUBLE AS {field}_min",
                f"max({field})::DOUBLE AS {field}_max",
            ]
            if self._exact:
                columns.append(f"quantile_cont({field}::DOUBLE, {list(SHARES)}) AS {field}_shares")
            if self._histograms:
                columns.append(f"histogram({SQL_BUCKET[field]}) AS {field}_histogram")
        source = (
            f"(SELECT * FROM {snapshot.readings} WHERE {snapshot.condition}) AS r LEFT JOIN names ON r.model = names.digest"
        )
        keys = self._keys(snapshot, "epoch_ms(captured_at)", self._grouping.window_ms)
        return f"SELECT {keys}, {', '.join(columns)} FROM {source} GROUP BY {_NUMBERS} ORDER BY {_NUMBERS} LIMIT {limit}"

    def of_rollups(self, snapshot: Snapshot, limit: int) -> str:
        window_ms = self._grouping.window_ms and max(self._grouping.window_ms, HOUR_MS)
        keys = self._keys(snapshot, "epoch_ms(hour)", window_ms)
        source = f"(SELECT * FROM {snapshot.rollups} WHERE {snapshot.rollup_condition}) AS r"
        columns = [f"sum({name})::BIGINT AS {name}" for name in ("readings", "uncertain", "captured")]
        tables, joins, told = [], "", ["sums.*"]
        for field in self._grouping.fields:
            prefix = _ROLLUP_COLUMN[field]
            columns += [f"{kind}({prefix}_{kind}) AS {field}_{kind}" for kind in ("sum", "min", "max")]
            cells = f"SELECT {_NAMES}, unnest(map_entries({prefix}_histogram)) AS cell FROM keyed"
            buckets = (
                f"SELECT {_NAMES}, cell.key AS bucket, sum(cell.value)::BIGINT AS n FROM ({cells}) GROUP BY {_NAMES}, bucket"
            )
            tables.append(f"{field}_h AS (SELECT {_NAMES}, map(list(bucket), list(n)) AS h FROM ({buckets}) GROUP BY {_NAMES})")
            joins += f" JOIN {field}_h USING ({_NAMES})"
            told.append(f"{field}_h.h AS {field}_histogram")
        named = f"{source} LEFT JOIN names ON r.model = names.digest"
        keyed = f"keyed AS (SELECT {keys}, r.* EXCLUDE (device, model, label) FROM {named})"
        sums = f"sums AS (SELECT {_NAMES}, {', '.join(columns)} FROM keyed GROUP BY {_NAMES})"
        parts = ", ".join([keyed, sums, *tables])
        return f"WITH {parts} SELECT {', '.join(told)} FROM sums{joins} ORDER BY {_NAMES} LIMIT {limit}"

    def _keys(self, snapshot: Snapshot, time_ms: str, window_ms: int) -> str:
        if window_ms:
            start = f"{time_ms} // {window_ms} * {window_ms}"
            end = f"{start} + {window_ms}"
        else:
            start, end = (f"{ms}::BIGINT" for ms in snapshot.span_ms)
        by = self._grouping.by
        device = "r.device" if "device" in by else "''"
        model = "coalesce(names.called, r.model)" if "model" in by else "''"
        label = "coalesce(names.labels[r.label + 1], r.label::VARCHAR)" if "label" in by else "''"
        return f"{start} AS start_ms, {end} AS end_ms, {device} AS device_key, {model} AS model_key, {label} AS label_key"


_NAMES = "start_ms, end_ms, device_key, model_key, label_key"
_NUMBERS = "1, 2, 3, 4, 5"


def _parts(found: Iterator[pa.RecordBatch]) -> Iterator[_Part]:
    for batch in found:
        for row in batch.to_pylist():
            yield _Part(_Key(row["start_ms"], row["end_ms"], row["device_key"], row["model_key"], row["label_key"]), row)


def _aggregate(key: _Key, parts: Sequence[_Part], grouping: Grouping) -> Aggregate:
    values = [part.values for part in parts]
    readings, uncertain, captured = (sum(part[name] for part in values) for name in ("readings", "uncertain", "captured"))
    return Aggregate(
        start=from_ms(key.start_ms),
        end=from_ms(key.end_ms),
        device=key.device,
        model=key.model,
        label=key.label,
        readings=readings,
        uncertain=uncertain,
        captured=captured,
        fields=tuple(_summary(field, values, readings) for field in grouping.fields),
    )


def _summary(field: str, parts: Sequence[Mapping[str, Any]], readings: int) -> FieldSummary:
    lowest, highest = min(part[f"{field}_min"] for part in parts), max(part[f"{field}_max"] for part in parts)
    exact = parts[0].get(f"{field}_shares") if len(parts) == 1 else None
    p50, p95 = exact or _estimated(field, parts, lowest, highest)
    return FieldSummary(
        name=field,
        mean=sum(part[f"{field}_sum"] for part in parts) / readings,
        min=lowest,
        max=highest,
        p50=p50,
        p95=p95,
        approximate=exact is None,
    )


def _estimated(field: str, parts: Sequence[Mapping[str, Any]], lowest: float, highest: float) -> list[float]:
    histogram: dict[int, int] = {}
    for part in parts:
        histogram = histograms.added(histogram, dict(part[f"{field}_histogram"]))
    return [min(max(histograms.percentile(field, histogram, share), lowest), highest) for share in SHARES]
