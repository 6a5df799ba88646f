"""What happened on devices besides inference, as they say it or as the hub notices it."""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import BigInteger, Column, Index, Table, Text, delete, exists, func, select

from cloud_hub.core.model import DeviceEvent
from cloud_hub.store import bulk, schema
from cloud_hub.store.database import Tx
from protos.contract.ids import DeviceId, TenantId
from protos.contract.telemetry import Event, from_ms, to_ms

device_events = Table(
    "device_events",
    schema.metadata,
    schema.row_id(),
    schema.tenant(),
    Column("device", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("received_ms", BigInteger),  # never null any more
    Index(None, "device", "id"),
    Index(None, "tenant", "id"),
    Index(None, "tenant", "kind", "received_ms"),
)


def add(tx: Tx, events: Iterable[tuple[TenantId, DeviceId, Event, int]]) -> None:
    """Each with when the hub received it, in ms."""
    rows = [(tenant, device, to_ms(event.at), event.kind, event.detail, ms) for tenant, device, event, ms in events]
    bulk.insert(tx, device_events, ("tenant", "device", "at_ms", "kind", "detail", "received_ms"), rows)


def add_once(tx: Tx, tenant: TenantId, device: DeviceId, event: Event, now: datetime) -> None:
    """One that the hub noticed ``now``, unless the same kind and detail of this device is there already."""
    e = device_events.c
    same = (e.device == device) & (e.kind == event.kind) & (e.detail == event.detail)
    if not tx.execute(select(exists().where(same))).scalar():
        add(tx, [(tenant, device, event, to_ms(now))])


def newest(tx: Tx, tenant: TenantId, device: DeviceId | None, limit: int) -> list[DeviceEvent]:
    """Newest first, in the order the hub learned of them."""
    e = device_events.c
    query = select(device_events).where(e.tenant == tenant).order_by(e.id.desc()).limit(limit)
    if device is not None:
        query = query.where(e.device == device)
    return [
        DeviceEvent(device=DeviceId(row.device), at=from_ms(row.at_ms), kind=row.kind, detail=row.detail)
        for row in tx.execute(query)
    ]


def forget(tx: Tx, before_ms: int, limit: int) -> int:
    """Remove at most ``limit`` events that came before that time; how many they were.

    Never the last one: SQLite would give its number to the next event, and who reads by number would pass over that.
    """
    e = device_events.c
    newest = select(func.max(e.id)).scalar_subquery()
    old = select(e.id).where((e.received_ms < before_ms) & (e.id < newest)).order_by(e.id).limit(limit).scalar_subquery()
    return tx.execute(delete(device_events).where(e.id.in_(old))).rowcount
