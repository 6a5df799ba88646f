"""The outbox of alerts: what each sink is still to be told, and how it went."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from enum import IntEnum
from typing import Any, NamedTuple

from sqlalchemy import Column, Index, Integer, Row, Table, Text, delete, func, insert, select, update

from cloud_hub.core.alert_rules import Severity
from cloud_hub.core.alerts import Alert, AlertState
from cloud_hub.core.notices import News, Notice
from cloud_hub.store import schema
from cloud_hub.store.database import Tx
from protos.contract.ids import TenantId
from protos.contract.telemetry import from_ms, to_ms

alert_notices = Table(
    "alert_notices",
    schema.metadata,
    schema.row_id(),
    schema.tenant(),
    Column("sink", Text, nullable=False),
    Column("news", Text, nullable=False),
    Column("alert", schema.Json, nullable=False),  # as it was then
    Column("state", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    schema.time("created_at"),
    schema.time("due_at"),
    schema.time("ended_at", nullable=True),
    Column("reason", Text, nullable=False),  # of the last failure
    Index(None, "sink", "state", "tenant", "id"),
    Index(None, "state", "ended_at"),
)

_TIMES = ("fired_at", "updated_at", "acknowledged_at", "resolved_at")


class NoticeState(IntEnum):
    WAITING = 1
    TOLD = 2
    DEAD = 3  # given up


class Queue(NamedTuple):
    """What waits for one sink of one tenant; its head is what decides when the rest may go."""

    tenant: TenantId
    head: int
    size: int


class Waiting(NamedTuple):
    id: int
    notice: Notice
    attempts: int
    created_at: datetime
    due_at: datetime


def add(tx: Tx, told: Iterable[tuple[str, News, Alert]], at: datetime) -> None:
    """(sink, what, alert), in this order."""
    rows: list[dict[str, Any]] = [
        {
            "tenant": alert.tenant,
            "sink": sink,
            "news": news.value,
            "alert": _plain(alert),
            "state": int(NoticeState.WAITING),
            "attempts": 0,
            "created_at": at,
            "due_at": at,
            "reason": "",
        }
        for sink, news, alert in told
    ]
    if rows:
        tx.execute(insert(alert_notices), rows)


def queues(tx: Tx, sink: str) -> list[Queue]:
    """By tenant."""
    n = alert_notices.c
    query = select(n.tenant, func.min(n.id), func.count()).where((n.sink == sink) & (n.state == int(NoticeState.WAITING)))
    return [
        Queue(TenantId(tenant), head, count) for tenant, head, count in tx.execute(query.group_by(n.tenant).order_by(n.tenant))
    ]


def waiting(tx: Tx, sink: str, tenant: TenantId, limit: int) -> list[Waiting]:
    """Oldest first."""
    n = alert_notices.c
    mine = (n.sink == sink) & (n.state == int(NoticeState.WAITING)) & (n.tenant == tenant)
    rows = tx.execute(select(alert_notices).where(mine).order_by(n.id).limit(limit))
    return [Waiting(row.id, _notice(row), row.attempts, row.created_at, row.due_at) for row in rows]


def told(tx: Tx, ids: Collection[int], at: datetime) -> None:
    _set(tx, ids, state=int(NoticeState.TOLD), ended_at=at, attempts=alert_notices.c.attempts + 1, reason="")


def failed(tx: Tx, ids: Collection[int], due_at: datetime, reason: str) -> None:
    _set(tx, ids, due_at=due_at, attempts=alert_notices.c.attempts + 1, reason=reason)


def give_up(tx: Tx, ids: Collection[int], at: datetime, reason: str) -> None:
    _set(tx, ids, state=int(NoticeState.DEAD), ended_at=at, attempts=alert_notices.c.attempts + 1, reason=reason)


def drop_others(tx: Tx, sinks: Collection[str], at: datetime) -> int:
    """What waits for sinks that are none any more is given up."""
    n = alert_notices.c
    lost = (n.state == int(NoticeState.WAITING)) & n.sink.not_in(sinks)
    values = {"state": int(NoticeState.DEAD), "ended_at": at, "reason": "there is no such sink any more"}
    return tx.execute(update(alert_notices).where(lost).values(**values)).rowcount


def dead_since(tx: Tx, since: datetime) -> int:
    n = alert_notices.c
    query = select(func.count()).select_from(alert_notices)
    return tx.execute(query.where((n.state == int(NoticeState.DEAD)) & (n.ended_at >= since))).scalar_one()


def counts(tx: Tx) -> Mapping[tuple[str, NoticeState], int]:
    """By sink and state, of those that are kept."""
    n = alert_notices.c
    rows = tx.execute(select(n.sink, n.state, func.count()).group_by(n.sink, n.state))
    return {(sink, NoticeState(state)): int(count) for sink, state, count in rows}


def remove_ended(tx: Tx, before: datetime) -> int:
    n = alert_notices.c
    ended = n.state.in_((int(NoticeState.TOLD), int(NoticeState.DEAD)))
    return tx.execute(delete(alert_notices).where(ended & (n.ended_at < before))).rowcount


def overflow(tx: Tx, sink: str, keep: int, at: datetime) -> int:
    """Give up the oldest of what waits beyond ``keep``; how many there were."""
    n = alert_notices.c
    mine = (n.sink == sink) & (n.state == int(NoticeState.WAITING))
    edge = tx.execute(select(n.id).where(mine).order_by(n.id.desc()).offset(keep).limit(1)).scalar()
    if edge is None:
        return 0
    values = {"state": int(NoticeState.DEAD), "ended_at": at, "reason": f"more than {keep} notices waited"}
    return tx.execute(update(alert_notices).where(mine & (n.id <= edge)).values(**values)).rowcount


def _set(tx: Tx, ids: Collection[int], **values: Any) -> None:
    tx.execute(update(alert_notices).where(alert_notices.c.id.in_(ids)).values(**values))


def _plain(alert: Alert) -> dict[str, Any]:
    values: dict[str, Any] = {name: getattr(alert, name) for name in Alert.__slots__}
    values |= {name: to_ms(values[name]) for name in _TIMES if values[name] is not None}
    return {**values, "severity": int(alert.severity), "state": int(alert.state), "labels": dict(alert.labels)}


def _notice(row: Row[Any]) -> Notice:
    values = dict(row.alert)
    values |= {name: from_ms(values[name]) for name in _TIMES if values[name] is not None}
    values |= {"severity": Severity(values["severity"]), "state": AlertState(values["state"])}
    return Notice(id=str(row.id), news=News(row.news), alert=Alert(**values))
