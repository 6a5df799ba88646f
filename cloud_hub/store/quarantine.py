"""Messages that could not be used, as they came, until somebody has looked at them or they are the oldest."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import BigInteger, Column, Index, LargeBinary, Row, Table, Text, UniqueConstraint, delete, exists, func, select
from sqlalchemy.dialects.postgresql import insert as upsert

from cloud_hub.core.model import Quarantined
from cloud_hub.store import schema
from cloud_hub.store.database import Tx
from protos.contract import ids
from protos.contract.ids import TenantId
from protos.contract.telemetry import MAX_BATCH_BYTES, from_ms

MAX_QUARANTINED = 10_000  # messages kept of a tenant; the oldest go first, so that a broken device cannot fill the disk
MAX_QUARANTINED_TOTAL_BYTES = 256 << 20  # of a tenant's
MAX_QUARANTINED_BYTES = MAX_BATCH_BYTES  # kept of each

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
    Index(None, "last_ms"),
)


def add(tx: Tx, tenant: TenantId, topic: str, payload: bytes, reason: str, at_ms: int) -> None:
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
    again = {"messages": quarantine.c.messages + 1, "last_ms": at_ms, "reason": reason}
    tx.execute(put.on_conflict_do_update(index_elements=["topic", "digest"], set_=again))


def trim(tx: Tx, tenant: TenantId) -> None:
    """Keep the newest, as many and as large as the bounds allow."""
    q = quarantine.c
    sizes = (
        select(
            q.id,
            func.row_number().over(order_by=q.id.desc()).label("number"),
            func.sum(func.length(q.payload)).over(order_by=q.id.desc()).label("total"),
        )
        .where(q.tenant == tenant)
        .subquery()
    )
    beyond = (sizes.c.number > MAX_QUARANTINED) | (sizes.c.total > MAX_QUARANTINED_TOTAL_BYTES)
    oldest = tx.execute(select(func.max(sizes.c.id)).where(beyond)).scalar()
    if oldest is not None:
        tx.execute(delete(quarantine).where((q.tenant == tenant) & (q.id <= oldest)))


def forget(tx: Tx, before_ms: int) -> int:
    """Those that came last before ``before_ms``, and what is beyond a tenant's bounds; how many messages went by their age."""
    q = quarantine.c
    gone = tx.execute(delete(quarantine).where(q.last_ms < before_ms)).rowcount
    for tenant in tx.execute(select(q.tenant).distinct()).scalars().all():
        trim(tx, tenant)
    return gone


def newest(tx: Tx, tenant: TenantId, limit: int) -> list[Quarantined]:
    """By when they came last."""
    q = quarantine.c
    query = select(quarantine).where(q.tenant == tenant).order_by(q.last_ms.desc(), q.id.desc()).limit(limit)
    return [_made(row) for row in tx.execute(query)]


def find(tx: Tx, tenant: TenantId, id: int) -> Quarantined | None:
    row = tx.execute(select(quarantine).where((quarantine.c.tenant == tenant) & (quarantine.c.id == id))).first()
    return None if row is None else _made(row)


def all_ids(tx: Tx, tenant: TenantId) -> list[int]:
    """Oldest first."""
    return list(tx.execute(select(quarantine.c.id).where(quarantine.c.tenant == tenant).order_by(quarantine.c.id)).scalars())


def remove(tx: Tx, gone: Collection[int]) -> None:
    tx.execute(delete(quarantine).where(quarantine.c.id.in_(gone)))


def seen_since(tx: Tx, topic: str, since_ms: int) -> bool:
    """Whether a message of ``topic`` came at ``since_ms`` or later."""
    q = quarantine.c
    return bool(tx.execute(select(exists().where((q.topic == topic) & (q.last_ms >= since_ms)))).scalar())


def messages(tx: Tx, tenant: TenantId) -> int:
    """Repeats count."""
    q = quarantine.c
    return int(tx.execute(select(func.coalesce(func.sum(q.messages), 0)).where(q.tenant == tenant)).scalar_one())


def _made(row: Row[Any]) -> Quarantined:
    return Quarantined(
        id=row.id,
        topic=row.topic,
        reason=row.reason,
        payload=row.payload,
        cut=ids.digest_of(row.payload) != row.digest,
        count=row.messages,
        first_at=from_ms(row.first_ms),
        last_at=from_ms(row.last_ms),
    )
