"""What is waiting to become a training job, and what has become one by the clock."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Column, Table, Text, delete, func, select

from cloud_hub.store import schema
from cloud_hub.store.database import Tx
from protos.contract.ids import ModelName, TenantId

training_triggers = Table(  # asked for, but not enough new labels yet
    "training_triggers",
    schema.metadata,
    Column("tenant", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("trigger", Text, primary_key=True),
    Column("detail", schema.Prose, nullable=False),
    schema.time("created_at"),
)

training_slots = Table(  # times a schedule was due and has been seen to
    "training_slots",
    schema.metadata,
    Column("tenant", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("due", schema.Time, primary_key=True, autoincrement=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    trigger: str
    detail: str
    created_at: datetime


def put_pending(tx: Tx, tenant: TenantId, model: ModelName, trigger: str, detail: str, at: datetime) -> None:
    """The first of its kind stays."""
    values = {"tenant": tenant, "model": model, "trigger": trigger, "detail": detail, "created_at": at}
    tx.execute(schema.insert_new(training_triggers).values(values))


def pending(tx: Tx, tenant: TenantId, model: ModelName) -> list[Pending]:
    """Oldest first."""
    t = training_triggers.c
    rows = tx.execute(
        select(training_triggers).where((t.tenant == tenant) & (t.model == model)).order_by(t.created_at, t.trigger)
    )
    return [Pending(trigger=row.trigger, detail=row.detail, created_at=row.created_at) for row in rows]


def clear_pending(tx: Tx, tenant: TenantId, model: ModelName) -> None:
    t = training_triggers.c
    tx.execute(delete(training_triggers).where((t.tenant == tenant) & (t.model == model)))


def last_slot(tx: Tx, tenant: TenantId, model: ModelName) -> datetime | None:
    t = training_slots.c
    return tx.execute(select(func.max(t.due, type_=schema.Time)).where((t.tenant == tenant) & (t.model == model))).scalar()


def take_slot(tx: Tx, tenant: TenantId, model: ModelName, due: datetime) -> bool:
    """False where it is taken already. Earlier ones are forgotten."""
    t = training_slots.c
    tx.execute(delete(training_slots).where((t.tenant == tenant) & (t.model == model) & (t.due < due)))
    put = schema.insert_new(training_slots).values(tenant=tenant, model=model, due=due)
    return tx.execute(put, execution_options={"preserve_rowcount": True}).rowcount == 1
