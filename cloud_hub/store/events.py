"""What happened on devices besides inference, as they say it or as the hub notices it."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import BigInteger, Column, Index, Table, Text, exists, insert, select

from cloud_hub.core.model import DeviceEvent
from cloud_hub.store import schema
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
    Index(None, "device", "id"),
    Index(None, "tenant", "id"),
)


def add(tx: Tx, events: Iterable[tuple[TenantId, DeviceId, Event]]) -> None:
    rows: list[dict[str, Any]] = [
        {"tenant": tenant, "device": device, "at_ms": to_ms(event.at), "kind": event.kind, "detail": event.detail}
        for tenant, device, event in events
    ]
    if rows:
        tx.execute(insert(device_events), rows)


def add_once(tx: Tx, tenant: TenantId, device: DeviceId, event: Event) -> None:
    """Unless the same kind and detail of this device is there already."""
    e = device_events.c
    same = (e.device == device) & (e.kind == event.kind) & (e.detail == event.detail)
    if not tx.execute(select(exists().where(same))).scalar():
        add(tx, [(tenant, device, event)])


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
