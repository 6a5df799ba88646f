"""Silences: which alerts nobody is told of, and until when."""

import secrets
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Index, Integer, Row, Table, Text, delete, func, insert, select, update

from cloud_hub.core.alert_rules import Severity
from cloud_hub.core.alerts import Matcher, Silence
from cloud_hub.store import schema
from cloud_hub.store.database import Tx
from protos.contract.ids import TenantId

alert_silences = Table(
    "alert_silences",
    schema.metadata,
    schema.row_id("number"),
    Column("id", Text, nullable=False, unique=True),
    schema.tenant(),
    Column("rule", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("severity", Integer),
    Column("labels", schema.Json, nullable=False),
    schema.time("starts_at"),
    schema.time("until"),
    Column("reason", Text, nullable=False),
    Column("created_by", Text, nullable=False),
    Index(None, "tenant", "until"),
)


def new_id() -> str:
    return secrets.token_hex(8)


def add(tx: Tx, silence: Silence) -> None:
    what = silence.what
    tx.execute(
        insert(alert_silences).values(
            id=silence.id,
            tenant=silence.tenant,
            rule=what.rule,
            device=what.device,
            severity=None if what.severity is None else int(what.severity),
            labels=dict(what.labels),
            starts_at=silence.starts_at,
            until=silence.until,
            reason=silence.reason,
            created_by=silence.created_by,
        )
    )


def find(tx: Tx, tenant: TenantId, id: str) -> Silence | None:
    s = alert_silences.c
    row = tx.execute(select(alert_silences).where((s.tenant == tenant) & (s.id == id))).first()
    return _silence(row) if row else None


def end(tx: Tx, id: str, at: datetime) -> None:
    tx.execute(update(alert_silences).where(alert_silences.c.id == id).values(until=at))


def active(tx: Tx, now: datetime, tenant: TenantId | None = None) -> list[Silence]:
    """Those that have not ended, of ``tenant`` or of all."""
    s = alert_silences.c
    query = select(alert_silences).where(s.until > now).order_by(s.number)
    return [_silence(row) for row in tx.execute(query if tenant is None else query.where(s.tenant == tenant))]


def active_count(tx: Tx, tenant: TenantId, now: datetime) -> int:
    s = alert_silences.c
    return tx.execute(
        select(func.count()).select_from(alert_silences).where((s.tenant == tenant) & (s.until > now))
    ).scalar_one()


def newest(
    tx: Tx, tenant: TenantId, active_at: datetime | None, *, before: int | None, limit: int
) -> list[tuple[int, Silence]]:
    """Those that had not ended at ``active_at`` (None: all), newest first, each with its number."""
    s = alert_silences.c
    query = select(alert_silences).where(s.tenant == tenant).order_by(s.number.desc()).limit(limit)
    query = query if active_at is None else query.where(s.until > active_at)
    query = query if before is None else query.where(s.number < before)
    return [(row.number, _silence(row)) for row in tx.execute(query)]


def remove_ended(tx: Tx, before: datetime) -> int:
    return tx.execute(delete(alert_silences).where(alert_silences.c.until < before)).rowcount


def _silence(row: Row[Any]) -> Silence:
    severity = None if row.severity is None else Severity(row.severity)
    return Silence(
        id=row.id,
        tenant=TenantId(row.tenant),
        what=Matcher(rule=row.rule, device=row.device, severity=severity, labels=row.labels),
        starts_at=row.starts_at,
        until=row.until,
        reason=row.reason,
        created_by=row.created_by,
    )
