"""How far each (device, epoch, lane) is stored, and what has come over it."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Column, ColumnElement, Index, Integer, Row, Table, Text, select, text

from cloud_hub.store import bulk, schema
from cloud_hub.store.database import Tx
from protos.contract.ids import DeviceId, TenantId
from protos.contract.telemetry import Lane, Mark

MAX_MARKS = 64  # streams told to a device: those that moved last
_KEYS_PER_QUERY = 500  # a statement takes only so many parameters

streams = Table(
    "streams",
    schema.metadata,
    Column("device", Text, primary_key=True),
    Column("epoch", Text, primary_key=True),
    Column("lane", Integer, primary_key=True),
    schema.tenant(),
    Column("committed_through", BigInteger, nullable=False),  # the mark; -1: nothing yet
    Column("highest", BigInteger, nullable=False),  # last sequence stored, whatever is missing before it
    Column("folded_through", BigInteger, nullable=False, server_default=text("-1")),  # what the consumers have seen
    Column("early", schema.Json, nullable=False, server_default=text("'[]'")),  # spans stored behind the first hole
    Column("passes", Integer, nullable=False),  # in which the batch behind the first hole came again
    Column("pass_ms", BigInteger, nullable=False),  # when it came last
    Column("batches", BigInteger, nullable=False),
    Column("records", BigInteger, nullable=False),
    Column("duplicates", BigInteger, nullable=False),
    Column("dropped", BigInteger, nullable=False),
    Column("payload_bytes", BigInteger, nullable=False),
    Column("last_captured_ms", BigInteger),
    Column("updated_ms", BigInteger, nullable=False),
    Index(
        "ix_streams_unfolded",
        "updated_ms",
        sqlite_where=text("committed_through > folded_through"),
        postgresql_where=text("committed_through > folded_through"),
    ),
)


class StreamKey(NamedTuple):
    device: DeviceId
    epoch: str
    lane: int


def marks(tx: Tx, device: DeviceId) -> tuple[Mark, ...]:
    """How far each stream of ``device`` is whole; a stream without its start has none."""
    s = streams.c
    rows = tx.execute(
        select(s.epoch, s.lane, s.committed_through)
        .where((s.device == device) & (s.committed_through >= 0))
        .order_by(s.updated_ms.desc())
        .limit(MAX_MARKS)
    )
    return tuple(Mark(epoch=row.epoch, lane=Lane(row.lane), committed_through=row.committed_through) for row in rows)


def reached(tx: Tx, wanted: Sequence[StreamKey]) -> list[tuple[DeviceId, Mark]]:
    """The marks of these streams; one without its start has none."""
    return [
        (key.device, Mark(epoch=key.epoch, lane=Lane(key.lane), committed_through=through))
        for key, through in committed(tx, wanted).items()
        if through >= 0
    ]


def committed(tx: Tx, wanted: Collection[StreamKey]) -> dict[StreamKey, int]:
    """``committed_through`` of those that are known."""
    s = streams.c
    found, all_keys = {}, list(wanted)
    for start in range(0, len(all_keys), _KEYS_PER_QUERY):
        keys = set(all_keys[start : start + _KEYS_PER_QUERY])
        for row in tx.execute(select(s.device, s.epoch, s.lane, s.committed_through).where(near(keys))):
            key = StreamKey(row.device, row.epoch, row.lane)
            if key in keys:
                found[key] = row.committed_through
    return found


def lock(tx: Tx, wanted: Mapping[StreamKey, TenantId], at_ms: int) -> dict[StreamKey, Row[Any]]:
    """The rows of these streams, made where there are none, which nobody else changes before ``tx`` ends.

    All missing rows are made before any is locked, and either in the order of the keys, so that no two transactions can wait
    for each other.
    """
    there = {StreamKey(*row) for row in tx.execute(select(*streams.primary_key.columns).where(near(wanted)))}
    missing = sorted(wanted.keys() - there)
    columns = (*StreamKey._fields, "tenant", "updated_ms", *_FRESH)
    fresh = [(*key, wanted[key], at_ms, *_FRESH.values()) for key in missing]
    bulk.insert(tx, streams, columns, fresh, new_only=True)
    rows_now = tx.execute(select(streams).where(near(wanted)).order_by(*streams.primary_key.columns).with_for_update())
    found = {StreamKey(DeviceId(row.device), row.epoch, row.lane): row for row in rows_now}
    return {key: found[key] for key in wanted}


def near(keys: Collection[StreamKey]) -> ColumnElement[bool]:
    """All of ``keys`` and few others: by two lists SQLite finds rows in the index, for a list of triples it scans the table."""
    return streams.c.device.in_({key.device for key in keys}) & streams.c.epoch.in_({key.epoch for key in keys})


_FRESH = {
    "committed_through": -1,
    "folded_through": -1,
    "highest": -1,
    "early": "[]",
    "passes": 0,
    "pass_ms": 0,
    "batches": 0,
    "records": 0,
    "duplicates": 0,
    "dropped": 0,
    "payload_bytes": 0,
    "last_captured_ms": None,
}
