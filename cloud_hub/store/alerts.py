"""Rules of tenants, and what they fired: one open alert for each (tenant, rule, device, key)."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    Row,
    Select,
    Table,
    Text,
    bindparam,
    delete,
    func,
    insert,
    select,
    text,
    update,
)

from cloud_hub.core.alert_rules import Severity
from cloud_hub.core.alerts import Alert, AlertState
from cloud_hub.store import schema
from cloud_hub.store.database import Tx
from protos.contract.ids import TenantId

alert_rules = Table(
    "alert_rules",
    schema.metadata,
    Column("tenant", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("yaml", Text, nullable=False),  # every key as it holds, whatever the built-in rules become
    schema.time("updated_at"),
    Column("updated_by", Text, nullable=False),
)

alerts = Table(
    "alerts",
    schema.metadata,
    schema.row_id("number"),
    Column("id", Text, nullable=False, unique=True),
    schema.tenant(),
    Column("rule", Text, nullable=False),
    Column("device", Text, nullable=False),  # empty: of the tenant or of the hub
    Column("key", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("severity", Integer, nullable=False),
    Column("state", Integer, nullable=False),
    Column("summary", Text, nullable=False),
    Column("value", Float, nullable=False),
    Column("threshold", Float, nullable=False),
    Column("labels", schema.Json, nullable=False),
    Column("repeats", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),  # of its last transition; grows over all alerts in the order of commits
    Column("told", Boolean, nullable=False),  # somebody has been sent a notice of it
    schema.time("notice_at", nullable=True),  # when it is told next; null: nothing more to tell
    schema.time("fired_at"),
    schema.time("updated_at"),
    schema.time("acknowledged_at", nullable=True),
    Column("acknowledged_by", Text, nullable=False),
    Column("comment", Text, nullable=False),
    schema.time("resolved_at", nullable=True),
    Column("resolution", Text, nullable=False),
    Index(None, "tenant", "number"),
    Index(None, "tenant", "revision"),
    Index(None, "notice_at"),
    Index(None, "resolved_at"),
)
Index(
    "uq_alerts_open",
    alerts.c.tenant,
    alerts.c.rule,
    alerts.c.device,
    alerts.c.key,
    unique=True,
    sqlite_where=text("resolved_at IS NULL"),
    postgresql_where=text("resolved_at IS NULL"),
)

alert_cursors = Table(
    "alert_cursors",
    schema.metadata,
    Column("name", Text, primary_key=True),
    Column("number", BigInteger, nullable=False),
)

REVISION, EVENTS = "revision", "events"

_SEEN = (
    update(alerts)
    .where((alerts.c.id == bindparam("of")) & alerts.c.resolved_at.is_(None))
    .values(value=bindparam("last"), updated_at=bindparam("then"), repeats=alerts.c.repeats + bindparam("more"))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRule:
    tenant: TenantId
    name: str
    yaml: str
    updated_at: datetime
    updated_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which alerts to list; what is empty does not matter."""

    open_only: bool = False
    rule: str = ""
    device: str = ""
    min_severity: Severity = Severity.INFO
    state: AlertState | None = None


class New(NamedTuple):
    alert: Alert
    told: bool
    notice_at: datetime


def put_rule(tx: Tx, tenant: TenantId, name: str, yaml: str, at: datetime, by: str) -> None:
    put = schema.upsert(alert_rules, ("tenant", "name"))
    tx.execute(put, {"tenant": tenant, "name": name, "yaml": yaml, "updated_at": at, "updated_by": by})


def remove_rule(tx: Tx, tenant: TenantId, name: str) -> bool:
    """False where there is none."""
    r = alert_rules.c
    return tx.execute(delete(alert_rules).where((r.tenant == tenant) & (r.name == name))).rowcount == 1


def rules(tx: Tx) -> list[StoredRule]:
    """Of all tenants, by name."""
    rows = tx.execute(select(alert_rules).order_by(alert_rules.c.tenant, alert_rules.c.name))
    return [StoredRule(**{**row._mapping, "tenant": TenantId(row.tenant)}) for row in rows]


def add(tx: Tx, made: Sequence[New]) -> None:
    """Raises IntegrityError where one of the same rule, device and key is open."""
    if not made:
        return
    first = _next_revisions(tx, len(made))
    rows = [
        {name: getattr(new.alert, name) for name in Alert.__slots__}
        | {"severity": int(new.alert.severity), "state": int(new.alert.state), "labels": dict(new.alert.labels)}
        | {"revision": revision, "told": new.told, "notice_at": new.notice_at}
        for revision, new in enumerate(made, start=first)
    ]
    tx.execute(insert(alerts), rows)


def new_id() -> str:
    return secrets.token_hex(8)


def find(tx: Tx, id: str, tenant: TenantId | None = None) -> Alert | None:
    """Of ``tenant`` only, or of any for None."""
    query = select(alerts).where(alerts.c.id == id)
    row = tx.execute(query if tenant is None else query.where(alerts.c.tenant == tenant)).first()
    return _alert(row) if row else None


def was_told(tx: Tx, id: str) -> bool:
    return bool(tx.execute(select(alerts.c.told).where(alerts.c.id == id)).scalar())


def set_alert(tx: Tx, id: str, *, transition: bool = False, **values: Any) -> None:
    """With ``transition`` those who watch are told."""
    if transition:
        values["revision"] = _next_revisions(tx, 1)
    tx.execute(update(alerts).where(alerts.c.id == id).values(**values))


def seen(tx: Tx, looks: Sequence[tuple[str, float, int, datetime]]) -> None:
    """Last values of open alerts: (id, value, repeats to add, when)."""
    if looks:
        tx.execute(_SEEN, [{"of": id, "last": value, "more": repeats, "then": at} for id, value, repeats, at in looks])


def newest(tx: Tx, tenant: TenantId, query: Query, *, before: int | None, limit: int) -> list[tuple[int, Alert]]:
    """Those numbered below ``before`` (None: all), newest first, each with its number."""
    a = alerts.c
    found = select(alerts).where((a.tenant == tenant) & (a.severity >= int(query.min_severity)))
    found = found.where(a.resolved_at.is_(None)) if query.open_only else found
    found = found.where(a.rule == query.rule) if query.rule else found
    found = found.where(a.device == query.device) if query.device else found
    found = found.where(a.state == int(query.state)) if query.state is not None else found
    found = found if before is None else found.where(a.number < before)
    return [(row.number, _alert(row)) for row in tx.execute(found.order_by(a.number.desc()).limit(limit))]


def still_open(tx: Tx, tenant: TenantId) -> list[tuple[int, Alert]]:
    """Each with its revision, oldest transition first."""
    a = alerts.c
    return _revised(tx, select(alerts).where((a.tenant == tenant) & a.resolved_at.is_(None)).order_by(a.revision))


def changed_after(tx: Tx, tenant: TenantId, revision: int, limit: int) -> list[tuple[int, Alert]]:
    """Alerts whose last transition is newer, each with its revision, in their order."""
    a = alerts.c
    return _revised(tx, select(alerts).where((a.tenant == tenant) & (a.revision > revision)).order_by(a.revision).limit(limit))


def due(tx: Tx, now: datetime, limit: int) -> list[Alert]:
    """Open ones that are to be told now, the longest due first."""
    a = alerts.c
    query = select(alerts).where((a.notice_at <= now) & a.resolved_at.is_(None)).order_by(a.notice_at, a.number).limit(limit)
    return [_alert(row) for row in tx.execute(query)]


def open_count(tx: Tx) -> Mapping[Severity, int]:
    a = alerts.c
    query = select(a.severity, func.count()).where(a.resolved_at.is_(None)).group_by(a.severity)
    return {Severity(severity): int(count) for severity, count in tx.execute(query)}


def remove_resolved(tx: Tx, before: datetime, keep: int) -> int:
    """Those resolved before, and the oldest resolved ones beyond ``keep`` alerts; how many there were."""
    a = alerts.c
    last = tx.execute(select(func.coalesce(func.max(a.number), 0))).scalar_one()
    old = a.resolved_at.is_not(None) & ((a.resolved_at < before) | (a.number <= last - keep))
    return tx.execute(delete(alerts).where(old)).rowcount


def cursor(tx: Tx, name: str) -> int | None:
    """None: never put."""
    return tx.execute(select(alert_cursors.c.number).where(alert_cursors.c.name == name)).scalar()


def put_cursor(tx: Tx, name: str, number: int) -> None:
    tx.execute(schema.upsert(alert_cursors, ("name",)), {"name": name, "number": number})


def _next_revisions(tx: Tx, count: int) -> int:
    """The first of so many that are new."""
    last = cursor(tx, REVISION) or 0
    put_cursor(tx, REVISION, last + count)
    return last + 1


def _revised(tx: Tx, query: Select[Any]) -> list[tuple[int, Alert]]:
    return [(row.revision, _alert(row)) for row in tx.execute(query)]


def _alert(row: Row[Any]) -> Alert:
    values = {name: getattr(row, name) for name in Alert.__slots__}
    values |= {"tenant": TenantId(row.tenant), "severity": Severity(row.severity), "state": AlertState(row.state)}
    return Alert(**values)
