"""Windows that are over: of the hub's own streams, and those that devices made before they sent them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Row,
    Select,
    Table,
    Text,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    select,
    text,
)

from cloud_hub.core.model import StreamWindow, WindowFilter
from cloud_hub.store import schema
from cloud_hub.store.database import Tx
from protos.contract.ids import DeviceId, TenantId
from protos.contract.telemetry import from_ms, to_ms

stream_windows = Table(
    "stream_windows",
    schema.metadata,
    schema.row_id(),
    schema.tenant(),
    Column("stream", Text, nullable=False),
    Column("device", Text, nullable=False),  # empty: of the tenant's whole fleet
    Column("origin", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("start_ms", BigInteger, nullable=False),
    Column("end_ms", BigInteger, nullable=False),
    Column("readings", BigInteger, nullable=False),
    Column("aggregates", schema.Json, nullable=False),  # number by aggregate
    Column("counts", schema.Json, nullable=False),  # histograms by aggregate
    Column("holds", Boolean),  # null: the spec has no condition
    Column("complete", Boolean, nullable=False),
    Column("told_ms", BigInteger, nullable=False),  # when the hub had it
    Index(None, "tenant", "id"),
    Index(None, "tenant", "stream", "id"),
    Index(None, "tenant", "device", "id"),
    Index(None, "told_ms"),
    Index(
        "ix_stream_windows_of_devices",
        "device",
        "stream",
        "start_ms",
        sqlite_where=text("origin = 'device'"),
        postgresql_where=text("origin = 'device'"),
    ),
)

_SAME = ("tenant", "device", "stream", "key", "start_ms")
_SAME_OF_DEVICE = and_(
    *(stream_windows.c[name] == bindparam(f"its_{name}") for name in _SAME),
    text("origin = 'device'"),  # not bound: SQLite would not use the index
)
_WHOLE = select(exists().where(_SAME_OF_DEVICE & stream_windows.c.complete))
_DROP_PARTS = delete(stream_windows).where(_SAME_OF_DEVICE & ~stream_windows.c.complete)


def add(tx: Tx, windows: Iterable[tuple[TenantId, StreamWindow]], now_ms: int) -> None:
    """A device that was killed makes its last windows again, of a part of their readings: the whole ones are kept."""
    rows = [
        {
            "tenant": tenant,
            "stream": window.stream,
            "device": window.device or "",
            "origin": window.origin,
            "key": window.key,
            "start_ms": to_ms(window.start),
            "end_ms": to_ms(window.end),
            "readings": window.readings,
            "aggregates": dict(window.values),
            "counts": {name: list(counts) for name, counts in window.counts.items()},
            "holds": window.holds,
            "complete": window.complete,
            "told_ms": now_ms,
        }
        for tenant, window in windows
    ]
    if kept := _without_parts(tx, rows):
        tx.execute(insert(stream_windows), kept)


def newest(tx: Tx, tenant: TenantId, wanted: WindowFilter, *, before: int | None, limit: int) -> list[tuple[int, StreamWindow]]:
    """Those numbered below ``before`` (None: all), newest first in the order they closed, each with its number."""
    query = _of(tenant, wanted).order_by(stream_windows.c.id.desc()).limit(limit)
    query = query.where(stream_windows.c.id < before) if before is not None else query
    return [(row.id, _window(row)) for row in tx.execute(query)]


def after(tx: Tx, tenant: TenantId, wanted: WindowFilter, number: int, limit: int) -> list[tuple[int, StreamWindow]]:
    """Those numbered above ``number``, oldest first, each with its number."""
    query = _of(tenant, wanted).where(stream_windows.c.id > number).order_by(stream_windows.c.id).limit(limit)
    return [(row.id, _window(row)) for row in tx.execute(query)]


def last_number(tx: Tx) -> int:
    """0: there are none."""
    return tx.execute(select(func.max(stream_windows.c.id))).scalar() or 0


def forget(tx: Tx, before_ms: int, limit: int) -> int:
    """Remove at most ``limit`` windows that came before that time; how many they were.

    Never the last one: SQLite would give its number to the next window, and who watches by number would pass over that.
    """
    w = stream_windows.c
    newest = select(func.max(w.id)).scalar_subquery()
    old = select(w.id).where((w.told_ms < before_ms) & (w.id < newest)).limit(limit)
    return tx.execute(delete(stream_windows).where(w.id.in_(old.scalar_subquery()))).rowcount


def _without_parts(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """``rows`` but those of which the whole window is there or among them; parts that are there of whole ones go."""
    whole = {_same(row) for row in rows if row["origin"] == "device" and row["complete"]}
    if whole:
        tx.execute(_DROP_PARTS, [_bound(same) for same in whole])

    def is_part(row: Mapping[str, Any]) -> bool:
        if row["origin"] != "device" or row["complete"]:
            return False
        return _same(row) in whole or bool(tx.execute(_WHOLE, _bound(_same(row))).scalar())

    return [row for row in rows if not is_part(row)]


def _same(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in _SAME)


def _bound(same: tuple[Any, ...]) -> dict[str, Any]:
    return {f"its_{name}": value for name, value in zip(_SAME, same, strict=True)}


def _of(tenant: TenantId, wanted: WindowFilter) -> Select[Any]:
    w = stream_windows.c
    query = select(stream_windows).where(w.tenant == tenant)
    if wanted.stream:
        query = query.where(w.stream == wanted.stream)
    if wanted.device is not None:
        query = query.where(w.device == wanted.device)
    if wanted.since is not None:
        query = query.where(w.end_ms > to_ms(wanted.since))
    if wanted.until is not None:
        query = query.where(w.start_ms < to_ms(wanted.until))
    return query


def _window(row: Row[Any]) -> StreamWindow:
    return StreamWindow(
        stream=row.stream,
        device=DeviceId(row.device) if row.device else None,
        origin=row.origin,
        key=row.key,
        start=from_ms(row.start_ms),
        end=from_ms(row.end_ms),
        readings=row.readings,
        values=row._mapping["aggregates"],
        counts={name: tuple(counts) for name, counts in row.counts.items()},
        holds=row.holds,
        complete=row.complete,
    )
