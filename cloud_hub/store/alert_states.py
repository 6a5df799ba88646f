"""Where each rule stands for each device, and what it remembers of the device's counters; what is at rest has no row."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Column, Float, Index, Integer, Row, Table, Text, delete, select

from cloud_hub.core.alerts import Growth, Phase, Standing
from cloud_hub.store import schema
from cloud_hub.store.database import Tx
from protos.contract.ids import TenantId

alert_states = Table(
    "alert_states",
    schema.metadata,
    Column("tenant", Text, primary_key=True),
    Column("rule", Text, primary_key=True),
    Column("device", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("phase", Integer),  # null: only remembers
    schema.time("since", nullable=True),
    schema.time("clearing", nullable=True),
    Column("value", Float),  # as the alert shows it
    schema.time("at"),  # of what was seen last; of a stream: end of its last window
    schema.time("looked_at"),  # by our clock, when this row was written
    Column("alert", Text, nullable=False),  # id of the open one; empty: not firing
    Column("growth", schema.Json),
    Index(None, "device"),
)

_KEYS = ("tenant", "rule", "device", "key")
_PUT = schema.upsert(alert_states, _KEYS)


class StateKey(NamedTuple):
    tenant: TenantId
    rule: str
    device: str
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertMemory:
    """One row."""

    standing: Standing | None = None
    value: float | None = None
    at: datetime
    looked_at: datetime
    alert: str = ""
    growth: Growth | None = None

    @property
    def empty(self) -> bool:
        return self.standing is None and self.growth is None


def between(tx: Tx, after: str, through: str | None) -> dict[StateKey, AlertMemory]:
    """Of devices with ids behind ``after`` and up to ``through`` (None: to the end); never those without a device."""
    s = alert_states.c
    query = select(alert_states).where(s.device > after)
    return _states(tx.execute(query if through is None else query.where(s.device <= through)))


def of_devices(tx: Tx, devices: Collection[str], rules: Collection[str]) -> dict[StateKey, AlertMemory]:
    s = alert_states.c
    return _states(tx.execute(select(alert_states).where(s.device.in_(devices) & s.rule.in_(rules))))


def of_rule(tx: Tx, tenant: TenantId, rule: str) -> dict[StateKey, AlertMemory]:
    s = alert_states.c
    return _states(tx.execute(select(alert_states).where((s.tenant == tenant) & (s.rule == rule))))


def without_device(tx: Tx) -> dict[StateKey, AlertMemory]:
    return _states(tx.execute(select(alert_states).where(alert_states.c.device == "")))


def put(tx: Tx, states: Iterable[tuple[StateKey, AlertMemory]]) -> None:
    """An empty memory removes the row."""
    rows: list[dict[str, Any]] = []
    for key, memory in states:
        if memory.empty:
            s = alert_states.c
            same = (s.tenant == key.tenant) & (s.rule == key.rule) & (s.device == key.device) & (s.key == key.key)
            tx.execute(delete(alert_states).where(same))
        else:
            rows.append(_row(key, memory))
    if rows:
        tx.execute(_PUT, rows)


def _row(key: StateKey, memory: AlertMemory) -> dict[str, Any]:
    standing, growth = memory.standing, memory.growth
    return {
        **key._asdict(),
        "phase": int(standing.phase) if standing else None,
        "since": standing.since if standing else None,
        "clearing": standing.clearing if standing else None,
        "value": memory.value,
        "at": memory.at,
        "looked_at": memory.looked_at,
        "alert": memory.alert,
        "growth": [growth.last, growth.at_ms, growth.grown] if growth else None,
    }


def _states(rows: Iterable[Row[Any]]) -> dict[StateKey, AlertMemory]:
    return {StateKey(TenantId(row.tenant), row.rule, row.device, row.key): _memory(row) for row in rows}


def _memory(row: Row[Any]) -> AlertMemory:
    standing = None
    if row.phase is not None:
        standing = Standing(phase=Phase(row.phase), since=row.since, clearing=row.clearing)
    growth = None
    if row.growth is not None:
        last, at_ms, grown = row.growth
        growth = Growth(last=tuple(last), at_ms=at_ms, grown=tuple((ms, tuple(by)) for ms, by in grown))
    return AlertMemory(standing=standing, value=row.value, at=row.at, looked_at=row.looked_at, alert=row.alert, growth=growth)
