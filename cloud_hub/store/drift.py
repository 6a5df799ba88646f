"""Event-time windows of readings that are over, what was judged of them, and where each device stands."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    Row,
    Table,
    Text,
    delete,
    exists,
    select,
)

from cloud_hub.core.drift import Streak
from cloud_hub.core.model import DriftWindow
from cloud_hub.store import schema
from cloud_hub.store.database import Tx
from protos.contract.ids import DeviceId, ModelName, TenantId
from protos.contract.telemetry import from_ms, to_ms

drift_devices = Table(
    "drift_devices",
    schema.metadata,
    Column("device", Text, primary_key=True),
    schema.tenant(),
    Column("model", Text, nullable=False),  # of its newest reading
    Column("version", Integer, nullable=False),
    Column("event_ms", BigInteger, nullable=False),  # time of its newest reading
    Column("received_ms", BigInteger, nullable=False),  # when its last batch came
    Column("late", BigInteger, nullable=False),  # readings that came after their window was closed
    Column("future", BigInteger, nullable=False),  # readings from after they were received
    Column("unknown", BigInteger, nullable=False),  # readings of a model or class this hub does not have
    Column("drifted", Integer, nullable=False),  # judged windows in a row of the current version
    Column("quiet", Integer, nullable=False),
)

drift_windows = Table(
    "drift_windows",
    schema.metadata,
    Column("device", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("start_ms", BigInteger, primary_key=True, autoincrement=False),
    schema.tenant(),
    Column("end_ms", BigInteger, nullable=False),
    Column("readings", Integer, nullable=False),
    Column("label_counts", schema.Json, nullable=False),
    Column("confidence_counts", schema.Json, nullable=False),
    Column("confidence_sum", Float, nullable=False),
    Column("label_psi", Float, nullable=False, default=0.0),
    Column("confidence_psi", Float, nullable=False, default=0.0),
    Column("confidence_shift", Float, nullable=False, default=0.0),
    Column("drifted", Boolean, nullable=False, default=False),
    Index(None, "end_ms"),
    Index(None, "device", "end_ms"),
    Index(None, "tenant", "model", "end_ms"),
)

_WINDOW_FIELDS = tuple(name for name in DriftWindow.__slots__ if name not in ("start", "end"))
_PUT_DEVICE = schema.upsert(drift_devices, ("device",))
_PUT_WINDOW = schema.upsert(drift_windows, ("device", "model", "version", "start_ms"))
_KEYS_PER_QUERY = 500  # a statement takes only so many parameters


@dataclass(slots=True, kw_only=True)
class DriftDevice:
    """How far one device's readings are folded."""

    device: DeviceId
    tenant: TenantId
    model: ModelName
    version: int
    event_ms: int
    received_ms: int
    late: int = 0
    future: int = 0
    unknown: int = 0
    drifted: int = 0
    quiet: int = 0

    @property
    def streak(self) -> Streak:
        return Streak(drifted=self.drifted, quiet=self.quiet)

    @streak.setter
    def streak(self, streak: Streak) -> None:
        self.drifted, self.quiet = streak.drifted, streak.quiet


def find_devices(tx: Tx, devices: Collection[DeviceId]) -> dict[DeviceId, DriftDevice]:
    """Those of ``devices`` that have been folded before."""
    wanted = sorted(devices)
    found = {}
    for start in range(0, len(wanted), _KEYS_PER_QUERY):
        part = wanted[start : start + _KEYS_PER_QUERY]
        for row in tx.execute(select(drift_devices).where(drift_devices.c.device.in_(part))):
            found[DeviceId(row.device)] = DriftDevice(**row._mapping)
    return found


def put_devices(tx: Tx, states: Iterable[DriftDevice]) -> None:
    rows = [{name: getattr(state, name) for name in DriftDevice.__slots__} for state in states]
    if rows:
        tx.execute(_PUT_DEVICE, rows)


def put_windows(tx: Tx, windows: Iterable[tuple[TenantId, DriftWindow]]) -> None:
    """Make or replace windows that are over."""
    rows = [
        {
            **{name: getattr(window, name) for name in _WINDOW_FIELDS},
            "tenant": tenant,
            "start_ms": to_ms(window.start),
            "end_ms": to_ms(window.end),
        }
        for tenant, window in windows
    ]
    if rows:
        tx.execute(_PUT_WINDOW, rows)


def closed_windows(tx: Tx, tenant: TenantId, model: ModelName | None, device: DeviceId | None, limit: int) -> list[DriftWindow]:
    """Newest first."""
    w = drift_windows.c
    query = select(drift_windows).where(w.tenant == tenant)
    query = query.where(w.model == model) if model is not None else query
    query = query.where(w.device == device) if device is not None else query
    return [_to_window(row) for row in tx.execute(query.order_by(w.end_ms.desc(), w.device, w.version).limit(limit))]


def any_older(tx: Tx, before_ms: int) -> bool:
    """Whether there are windows that ended before."""
    return bool(tx.execute(select(exists().where(drift_windows.c.end_ms < before_ms))).scalar())


def remove_older(tx: Tx, before_ms: int) -> int:
    """Those windows; how many there were."""
    return tx.execute(delete(drift_windows).where(drift_windows.c.end_ms < before_ms)).rowcount


def _to_window(row: Row[Any]) -> DriftWindow:
    return DriftWindow(
        device=DeviceId(row.device),
        model=ModelName(row.model),
        version=row.version,
        start=from_ms(row.start_ms),
        end=from_ms(row.end_ms),
        readings=row.readings,
        label_counts=tuple(row.label_counts),
        confidence_counts=tuple(row.confidence_counts),
        confidence_sum=row.confidence_sum,
        label_psi=row.label_psi,
        confidence_psi=row.confidence_psi,
        confidence_shift=row.confidence_shift,
        drifted=bool(row.drifted),
    )
