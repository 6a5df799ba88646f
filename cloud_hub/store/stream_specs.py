"""What streams each tenant has asked for, as it was written."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Row, Table, Text, delete, select

from cloud_hub.store import schema
from cloud_hub.store.database import Tx
from protos.contract.ids import TenantId

stream_specs = Table(
    "stream_specs",
    schema.metadata,
    Column("tenant", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("yaml", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    schema.time("updated_at"),
)

_PUT = schema.upsert(stream_specs, ("tenant", "name"))


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredStream:
    tenant: TenantId
    name: str
    yaml: str
    fingerprint: str
    updated_at: datetime


def put(tx: Tx, streams: Sequence[StoredStream]) -> None:
    """Make or replace them."""
    if streams:
        tx.execute(_PUT, [{name: getattr(stream, name) for name in StoredStream.__slots__} for stream in streams])


def remove(tx: Tx, tenant: TenantId, name: str) -> bool:
    """False where there is none."""
    s = stream_specs.c
    return tx.execute(delete(stream_specs).where((s.tenant == tenant) & (s.name == name))).rowcount > 0


def of_tenant(tx: Tx, tenant: TenantId) -> list[StoredStream]:
    """By name."""
    s = stream_specs.c
    rows = tx.execute(select(stream_specs).where(s.tenant == tenant).order_by(s.name))
    return [_stored(row) for row in rows]


def every(tx: Tx) -> list[StoredStream]:
    """Of all tenants."""
    s = stream_specs.c
    return [_stored(row) for row in tx.execute(select(stream_specs).order_by(s.tenant, s.name))]


def _stored(row: Row[Any]) -> StoredStream:
    return StoredStream(**row._mapping)
