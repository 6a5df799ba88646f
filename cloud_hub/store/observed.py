"""What alert rules look at, a page of devices at a time: a handful of statements for a page, none for a device."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Row, and_, func, select, text

from cloud_hub.core.alerts import Subject
from cloud_hub.core.model import JobState
from cloud_hub.store.database import Tx
from cloud_hub.store.episodes import drift_episodes
from cloud_hub.store.events import device_events
from cloud_hub.store.fleet import device_labels, devices
from cloud_hub.store.quarantine import quarantine
from cloud_hub.store.streams import streams
from cloud_hub.store.training import training_jobs
from protos.contract.ids import TenantId
from protos.contract.telemetry import to_ms
from protos.contract.twin import Presence

_ENDED = (JobState.PUBLISHED, JobState.REJECTED, JobState.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """One device as the hub knows it."""

    subject: Subject
    presence: Presence | None
    heard_at: datetime | None  # None: never, and it is not enrolled either
    clock_at: datetime | None  # what its clock said in the last thing it said of itself
    reported: bytes | None
    dropped: int  # records that gaps stand in for, ever
    drifting: int  # open episodes


class Noticed(NamedTuple):
    """A device event, as far as rules care."""

    id: int
    tenant: TenantId
    device: str
    kind: str


def page(tx: Tx, after: str, limit: int) -> list[Observed]:
    """Devices of all tenants in the order of their ids, those behind ``after``."""
    rows = tx.execute(select(devices).where(devices.c.id > after).order_by(devices.c.id).limit(limit)).all()
    return _observed(tx, rows, after, rows[-1].id) if rows else []


def one(tx: Tx, device: str) -> Observed | None:
    row = tx.execute(select(devices).where(devices.c.id == device)).first()
    return _observed(tx, [row], None, device)[0] if row else None


def quarantined(tx: Tx, since: datetime) -> dict[tuple[TenantId, str], int]:
    """Messages that came since and cannot be used, by (tenant, device as the topic says); repeats of one are one."""
    q = quarantine.c
    query = select(q.tenant, q.topic, func.count()).where(q.last_ms >= to_ms(since)).group_by(q.tenant, q.topic)
    counts: dict[tuple[TenantId, str], int] = {}
    for tenant, topic, count in tx.execute(query):
        parts = topic.split("/")
        key = (TenantId(tenant), parts[3] if len(parts) > 4 else "")
        counts[key] = counts.get(key, 0) + int(count)
    return counts


def failed_models(tx: Tx) -> dict[tuple[TenantId, str], bool]:
    """Whether the job of each (tenant, model) that ended last is a failed one; cancelled ones do not count."""
    j = training_jobs.c
    ended = j.state.in_([int(state) for state in _ENDED])
    last = select(func.max(j.number)).where(ended).group_by(j.tenant, j.model)
    rows = tx.execute(select(j.tenant, j.model, j.state).where(j.number.in_(last)))
    return {(TenantId(tenant), model): state == int(JobState.FAILED) for tenant, model, state in rows}


def tenants(tx: Tx) -> list[TenantId]:
    """Those that have devices or jobs."""
    found = select(devices.c.tenant).union(select(training_jobs.c.tenant))
    return sorted(TenantId(tenant) for tenant in tx.execute(found).scalars())


def last_event(tx: Tx) -> int:
    """Its number; 0 where there is none."""
    return int(tx.execute(select(func.coalesce(func.max(device_events.c.id), 0))).scalar_one())


def events(tx: Tx, after: int, limit: int) -> list[Noticed]:
    """In the order of their numbers, none left out: those who add events at the same time are waited for.

    For a writing transaction.
    """
    if tx.dialect.name == "postgresql":  # numbers are given out before the commit: a lower one might still come
        tx.execute(text("LOCK TABLE device_events IN SHARE MODE"))
    e = device_events.c
    rows = tx.execute(select(e.id, e.tenant, e.device, e.kind).where(e.id > after).order_by(e.id).limit(limit))
    return [Noticed(id, TenantId(tenant), device, kind) for id, tenant, device, kind in rows]


def _observed(tx: Tx, rows: Sequence[Row[Any]], after: str | None, through: str) -> list[Observed]:
    """``rows`` are all devices behind ``after`` (None: just the one) and up to ``through``."""

    def among(column: Any) -> ColumnElement[bool]:
        return column == through if after is None else and_(column > after, column <= through)

    labels: dict[str, dict[str, str]] = {}
    for device, key, value in tx.execute(
        select(device_labels.c.device, device_labels.c.key, device_labels.c.value).where(among(device_labels.c.device))
    ):
        labels.setdefault(device, {})[key] = value
    s, e = streams.c, drift_episodes.c
    dropped = tx.execute(
        select(s.tenant, s.device, func.sum(s.dropped)).where(among(s.device) & (s.dropped > 0)).group_by(s.tenant, s.device)
    )
    gaps = {(tenant, device): int(count) for tenant, device, count in dropped}
    opened = tx.execute(
        select(e.tenant, e.device, func.count()).where(among(e.device) & e.closed_at.is_(None)).group_by(e.tenant, e.device)
    )
    drifting = {(tenant, device): int(count) for tenant, device, count in opened}
    return [_one(row, labels.get(row.id, {}), gaps, drifting) for row in rows]


def _one(
    row: Row[Any],
    labels: Mapping[str, str],
    gaps: Mapping[tuple[str, str], int],
    drifting: Mapping[tuple[str, str], int],
) -> Observed:
    key = (row.tenant, row.id)
    subject = Subject(
        tenant=TenantId(row.tenant),
        device=row.id,
        board=row.board,
        labels=labels,
        model=row.reported_name or "",
        version=row.reported_version or 0,
    )
    return Observed(
        subject=subject,
        presence=None if row.presence is None else Presence(row.presence),
        heard_at=row.last_seen or row.enrolled_at,
        clock_at=row.status_at,
        reported=row.reported,
        dropped=gaps.get(key, 0),
        drifting=drifting.get(key, 0),
    )
