"""Where gates take from what nobody counts for them: what devices report, what happened on them, labels of their samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select

from cloud_hub.core.datasets import LabelOrigin
from cloud_hub.store.database import Tx
from cloud_hub.store.datasets import samples
from cloud_hub.store.events import device_events
from cloud_hub.store.fleet import devices
from cloud_hub.store.gates import parts
from protos.contract.ids import DeviceId, TenantId
from protos.contract.telemetry import from_ms, to_ms
from protos.contract.twin import Presence


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a device said last."""

    reported: bytes | None
    enrolled_at: datetime | None
    heard_until: datetime | None  # None: it is connected
    heard_at: datetime | None = None  # by our clock
    clock_at: datetime | None = None  # by its own, when it last said whether it is there

    def until(self, now: datetime) -> datetime:
        return now if self.heard_until is None else min(now, self.heard_until)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a device said of a sample, now that its label is known."""

    device: DeviceId
    at: datetime
    right: bool


def seen(tx: Tx, among: Sequence[DeviceId]) -> dict[DeviceId, Seen]:
    """Those that there still are."""
    d, found = devices.c, {}
    for part in parts(among):
        columns = (d.id, d.reported, d.enrolled_at, d.created_at, d.presence, d.last_seen, d.status_at)
        query = select(*columns).where(d.id.in_(part))
        for row in tx.execute(query):
            heard_until = None if row.presence == Presence.ONLINE else row.last_seen or row.created_at
            found[DeviceId(row.id)] = Seen(
                reported=row.reported,
                enrolled_at=row.enrolled_at,
                heard_until=heard_until,
                heard_at=row.last_seen,
                clock_at=row.status_at,
            )
    return found


def events(tx: Tx, tenant: TenantId, kinds: Sequence[str], since: datetime) -> list[tuple[DeviceId, datetime, str, str]]:
    """Device, when by its clock, kind and detail, of those that came since, whatever that clock said."""
    e = device_events.c
    came = e.received_ms >= to_ms(since)
    query = select(e.device, e.at_ms, e.kind, e.detail).where(e.tenant == tenant, e.kind.in_(kinds), came)
    return [(DeviceId(row.device), from_ms(row.at_ms), row.kind, row.detail) for row in tx.execute(query)]


def answers(tx: Tx, tenant: TenantId, among: Sequence[DeviceId], reason: str, since: datetime) -> list[Answer]:
    """Labelled samples that these devices took for ``reason``; a model's opinion is no label here."""
    s, found = samples.c, []
    for part in parts(among):
        query = select(s.device, s.captured_at, s.predicted, s.label)
        query = query.where(s.tenant == tenant, s.device.in_(part), s.captured_at >= since)
        labelled = s.label.is_not(None) & (func.coalesce(s.origin, "") != LabelOrigin.TEACHER.value)
        for row in tx.execute(query.where((s.reason == reason) & labelled)):
            found.append(Answer(device=DeviceId(row.device), at=row.captured_at, right=row.predicted == row.label))
    return found
