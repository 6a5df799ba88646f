"""Event-time windows of readings, and what was judged of them."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
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
from sqlalchemy.dialects.sqlite import Insert
from sqlalchemy.dialects.sqlite import insert as upsert

from cloud_hub.core.drift import Streak
from cloud_hub.core.model import DriftWindow
from cloud_hub.store import schema
from cloud_hub.store.database import Tx
from protos.contract.ids import DeviceId, ModelName, TenantId
from protos.contract.telemetry import from_ms, to_ms

drift_cursor = Table(
    "drift_cursor",
    schema.metadata,
    Column("name", Text, primary_key=True),
    Column("landing_id", BigInteger, nullable=False),  # every batch up to here is in the windows
)

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
    Column("closed", Boolean, nullable=False),
    Column("readings", Integer, nullable=False),
    Column("label_counts", schema.Json, nullable=False),
    Column("confidence_counts", schema.Json, nullable=False),
    Column("confidence_sum", Float, nullable=False),
    Column("label_psi", Float, nullable=False, default=0.0),
    Column("confidence_psi", Float, nullable=False, default=0.0),
    Column("confidence_shift", Float, nullable=False, default=0.0),
    Column("drifted", Boolean, nullable=False, default=False),
    Index(None, "closed", "end_ms"),
    Index(None, "device", "closed", "end_ms"),
    Index(None, "tenant", "model", "end_ms"),
)

_CURSOR = "windows"
_WINDOW_FIELDS = tuple(name for name in DriftWindow.__slots__ if name not in ("start", "end"))


def _upsert(table: Table, key: tuple[str, ...]) -> Insert:
    statement = upsert(table)
    rest = {column.name: statement.excluded[column.name] for column in table.columns if column.name not in key}
    return statement.on_conflict_do_update(index_elements=key, set_=rest)


_PUT_DEVICE = _upsert(drift_devices, ("device",))
_PUT_WINDOW = _upsert(drift_windows, ("device", "model", "version", "start_ms"))


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


def cursor(tx: Tx) -> int:
    """The last batch that is in the windows; 0 before the first."""
    return tx.execute(select(drift_cursor.c.landing_id).where(drift_cursor.c.name == _CURSOR)).scalar() or 0


def put_cursor(tx: Tx, landing_id: int) -> None:
    put = upsert(drift_cursor).values(name=_CURSOR, landing_id=landing_id)
    tx.execute(put.on_conflict_do_update(index_elements=["name"], set_={"landing_id": landing_id}))


def find_devices(tx: Tx, devices: Collection[DeviceId]) -> dict[DeviceId, DriftDevice]:
    """Those of ``devices`` that have been folded before."""
    rows = tx.execute(select(drift_devices).where(drift_devices.c.device.in_(devices)))
    return {DeviceId(row.device): DriftDevice(**row._mapping) for row in rows}


def put_devices(tx: Tx, states: Iterable[DriftDevice]) -> None:
    rows = [{name: getattr(state, name) for name in DriftDevice.__slots__} for state in states]
    if rows:
        tx.execute(_PUT_DEVICE, rows)


def open_windows(tx: Tx, devices: Collection[DeviceId]) -> list[DriftWindow]:
    """Those of ``devices`` that are not closed, oldest first."""
    w = drift_windows.c
    rows = tx.execute(select(drift_windows).where(w.device.in_(devices) & w.closed.is_(False)).order_by(w.start_ms, w.version))
    return [_to_window(row) for row in rows]


def is_closed(tx: Tx, device: DeviceId, model: ModelName, version: int, start: datetime) -> bool:
    """False also where there is no such window yet."""
    w = drift_windows.c
    key = (w.device == device) & (w.model == model) & (w.version == version) & (w.start_ms == to_ms(start))
    return bool(tx.execute(select(w.closed).where(key)).scalar())


def put_windows(tx: Tx, windows: Iterable[tuple[TenantId, DriftWindow, bool]]) -> None:
    """Make or replace windows; the flag says whether each is closed from now on."""
    rows = [
        {
            **{name: getattr(window, name) for name in _WINDOW_FIELDS},
            "tenant": tenant,
            "start_ms": to_ms(window.start),
            "end_ms": to_ms(window.end),
            "closed": closed,
        }
        for tenant, window, closed in windows
    ]
    if rows:
        tx.execute(_PUT_WINDOW, rows)


def idle_devices(tx: Tx, before_ms: int, limit: int) -> list[DeviceId]:
    """Devices with an open window that ended, and whose last batch came, at ``before_ms`` or earlier."""
    w, d = drift_windows.c, drift_devices.c
    query = (
        select(w.device)
        .join(drift_devices, d.device == w.device)
        .where(w.closed.is_(False) & (w.end_ms <= before_ms) & (d.received_ms <= before_ms))
        .distinct()
        .order_by(w.device)
        .limit(limit)
    )
    return [DeviceId(id) for id in tx.execute(query).scalars()]


def closed_windows(tx: Tx, tenant: TenantId, model: ModelName | None, device: DeviceId | None, limit: int) -> list[DriftWindow]:
    """Newest first."""
    w = drift_windows.c
    query = select(drift_windows).where((w.tenant == tenant) & w.closed.is_(True))
    query = query.where(w.model == model) if model is not None else query
    query = query.where(w.device == device) if device is not None else query
    return [_to_window(row) for row in tx.execute(query.order_by(w.end_ms.desc(), w.device, w.version).limit(limit))]


def any_closed(tx: Tx, before_ms: int) -> bool:
    """Whether there are closed windows that ended before."""
    w = drift_windows.c
    return bool(tx.execute(select(exists().where(w.closed.is_(True) & (w.end_ms < before_ms)))).scalar())


def remove_closed(tx: Tx, before_ms: int) -> int:
    """Those windows; how many there were."""
    w = drift_windows.c
    return tx.execute(delete(drift_windows).where(w.closed.is_(True) & (w.end_ms < before_ms))).rowcount


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
