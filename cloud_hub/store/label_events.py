"""Every label that a sample ever got; rows are added and never changed."""

from typing import Any

from sqlalchemy import Column, Float, Index, Row, Table, Text, insert, select

from cloud_hub.core.datasets import LabelEvent, LabelOrigin
from cloud_hub.store import schema
from cloud_hub.store.database import Tx
from protos.contract.ids import TenantId

label_events = Table(
    "label_events",
    schema.metadata,
    schema.row_id(),
    schema.tenant(),
    Column("sample", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("labelled_by", Text, nullable=False),
    Column("confidence", Float, nullable=False),
    schema.time("at"),
    Index(None, "tenant", "sample"),
)


def add(tx: Tx, tenant: TenantId, sample: str, event: LabelEvent) -> None:
    values = {name: getattr(event, name) for name in LabelEvent.__slots__}
    tx.execute(insert(label_events).values(tenant=tenant, sample=sample, **{**values, "origin": event.origin.value}))


def history(tx: Tx, tenant: TenantId, sample: str, limit: int) -> list[LabelEvent]:
    """The newest ``limit``, oldest first."""
    e = label_events.c
    query = select(label_events).where((e.tenant == tenant) & (e.sample == sample)).order_by(e.id.desc()).limit(limit)
    return [_event(row) for row in reversed(tx.execute(query).all())]


def _event(row: Row[Any]) -> LabelEvent:
    return LabelEvent(
        label=row.label,
        origin=LabelOrigin(row.origin),
        labelled_by=row.labelled_by,
        confidence=row.confidence,
        at=row.at,
    )
