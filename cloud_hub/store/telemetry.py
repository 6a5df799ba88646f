"""Reading what has landed, and what could not be read."""

from typing import NamedTuple

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    delete,
    func,
    select,
    tuple_,
)
from sqlalchemy.dialects.sqlite import insert as upsert

from cloud_hub.core.model import DeviceStats, Quarantined
from cloud_hub.store import schema
from cloud_hub.store.database import Tx
from cloud_hub.store.landing import landing
from cloud_hub.store.streams import streams
from protos.contract import ids
from protos.contract.ids import DeviceId, TenantId
from protos.contract.telemetry import from_ms

MAX_QUARANTINED = 10_000  # messages kept; the oldest go first, so that a broken device cannot fill the disk
MAX_QUARANTINED_BYTES = 64 << 10  # kept of each

quarantine = Table(
    "quarantine",
    schema.metadata,
    schema.row_id(),
    schema.tenant(),
    Column("topic", Text, nullable=False),
    Column("digest", Text, nullable=False),  # of the whole payload
    Column("reason", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),  # its first MAX_QUARANTINED_BYTES
    Column("messages", BigInteger, nullable=False),
    Column("first_ms", BigInteger, nullable=False),
    Column("last_ms", BigInteger, nullable=False),
    UniqueConstraint("topic", "digest"),
    Index(None, "tenant", "id"),
)


class Position(NamedTuple):
    """Where a scan over the batches of one device goes on."""

    first_captured_ms: int = -1
    id: int = 0


class Stored(NamedTuple):
    position: Position
    payload: bytes


def scan(tx: Tx, tenant: TenantId, device: DeviceId, since_ms: int, until_ms: int, after: Position, limit: int) -> list[Stored]:
    """Batches with inferences that overlap ``since_ms`` (inclusive) to ``until_ms``, by the time of their first one."""
    c = landing.c
    rows = tx.execute(
        select(c.first_captured_ms, c.id, c.payload)
        .where((c.tenant == tenant) & (c.device == device))
        .where((c.first_captured_ms < until_ms) & (c.last_captured_ms >= since_ms))
        .where(tuple_(c.first_captured_ms, c.id) > tuple_(*after))
        .order_by(c.first_captured_ms, c.id)
        .limit(limit)
    )
    return [Stored(Position(first, id), payload) for first, id, payload in rows]


def devices(tx: Tx, tenant: TenantId) -> list[DeviceId]:
    """Those that ever sent telemetry, by id."""
    s = streams.c
    return [
        DeviceId(id) for id in tx.execute(select(s.device).distinct().where(s.tenant == tenant).order_by(s.device)).scalars()
    ]


def stats(tx: Tx, tenant: TenantId, device: DeviceId | None) -> list[DeviceStats]:
    """By device id."""
    s = streams.c
    totals = [func.sum(s[name]).label(name) for name in ("batches", "records", "duplicates", "dropped", "payload_bytes")]
    query = select(s.device, *totals, func.max(s.last_captured_ms).label("last_ms")).where(s.tenant == tenant)
    if device is not None:
        query = query.where(s.device == device)
    return [
        DeviceStats(
            device=DeviceId(row.device),
            batches=int(row.batches),
            records=int(row.records),
            duplicate_batches=int(row.duplicates),
            gap_records=int(row.dropped),
            payload_bytes=int(row.payload_bytes),
            last_captured_at=None if row.last_ms is None else from_ms(row.last_ms),
        )
        for row in tx.execute(query.group_by(s.device).order_by(s.device))
    ]


def add_quarantined(tx: Tx, tenant: TenantId, topic: str, payload: bytes, reason: str, at_ms: int) -> None:
    """The same bytes on the same topic are one row with a count and the latest reason."""
    put = upsert(quarantine).values(
        tenant=tenant,
        topic=topic,
        digest=ids.digest_of(payload),
        reason=reason,
        payload=payload[:MAX_QUARANTINED_BYTES],
        messages=1,
        first_ms=at_ms,
        last_ms=at_ms,
    )
    q = quarantine.c
    again = {"messages": q.messages + 1, "last_ms": at_ms, "reason": reason}
    tx.execute(put.on_conflict_do_update(index_elements=["topic", "digest"], set_=again))
    newest = tx.execute(select(func.max(q.id))).scalar_one()
    tx.execute(delete(quarantine).where(q.id <= newest - MAX_QUARANTINED))


def quarantined(tx: Tx, tenant: TenantId, limit: int) -> list[Quarantined]:
    """Newest first."""
    q = quarantine.c
    return [
        Quarantined(
            id=row.id,
            topic=row.topic,
            reason=row.reason,
            payload=row.payload,
            count=row.messages,
            first_at=from_ms(row.first_ms),
            last_at=from_ms(row.last_ms),
        )
        for row in tx.execute(select(quarantine).where(q.tenant == tenant).order_by(q.last_ms.desc(), q.id.desc()).limit(limit))
    ]


def quarantined_messages(tx: Tx, tenant: TenantId) -> int:
    """Messages, not rows: repeats count."""
    q = quarantine.c
    return int(tx.execute(select(func.coalesce(func.sum(q.messages), 0)).where(q.tenant == tenant)).scalar_one())
