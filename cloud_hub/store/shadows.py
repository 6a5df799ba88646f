"""Challengers: on which devices each was started, and what each of them last said about it."""

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Float, ForeignKey, Index, Integer, Row, Table, Text, and_, case, func, select, update

from cloud_hub.core.model import ShadowDevice, ShadowTotals
from cloud_hub.store import schema
from cloud_hub.store.database import Tx
from protos.contract.ids import DeviceId, Digest, ModelName, TenantId
from protos.contract.twin import ModelAssignment, ShadowReport

shadow_devices = Table(
    "shadow_devices",
    schema.metadata,
    Column("tenant", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("device", Text, ForeignKey("devices.id", ondelete="CASCADE"), primary_key=True),
    Column("target", Text, nullable=False),
    Column("manifest_digest", Text, nullable=False),
    Column("manifest_size_bytes", Integer, nullable=False),
    Column("share", Float, nullable=False),
    Column("max_share_of_time", Float, nullable=False),
    Column("started_by", Text, nullable=False),
    schema.time("started_at"),
    schema.time("stopped_at", nullable=True),
    schema.time("reported_at", nullable=True),  # by our clock; null: nothing was heard of it
    schema.time("since", nullable=True),  # by the device's
    *(Column(name, BigInteger, nullable=False, default=0) for name in ("frames", "agreed", "skipped", "errors", "captured")),
    *(
        Column(name, Float, nullable=False, default=0.0)
        for name in (
            "champion_confidence",
            "challenger_confidence",
            "champion_p95_ms",
            "challenger_p50_ms",
            "challenger_p95_ms",
        )
    ),
    Column("problem", schema.Prose, nullable=False, default=""),
    Index(None, "device"),
)

_FIGURES = tuple(one.name for one in fields(ShadowReport) if one.name not in ("model", "fit"))
_KEY = ("tenant", "name", "version", "device")


def start(tx: Tx, tenant: TenantId, model: ModelAssignment, it: ShadowDevice) -> None:
    """Begin anew on a device, whatever it said before; another challenger that it had is stopped."""
    stop(tx, tenant, [it.device], it.started_at)
    begun = {"reported_at": None, "since": None, "stopped_at": None, "problem": ""}
    zeros = {name: 0 for name in _FIGURES if name not in ("since", "problem")}
    tx.execute(
        schema.upsert(shadow_devices, _KEY).values(
            tenant=tenant,
            name=model.name,
            version=model.version,
            device=it.device,
            target=it.target,
            manifest_digest=model.manifest_digest,
            manifest_size_bytes=model.manifest_size_bytes,
            share=it.share,
            max_share_of_time=it.max_share_of_time,
            started_by=it.started_by,
            started_at=it.started_at,
            **begun,
            **zeros,
        )
    )


def stop(tx: Tx, tenant: TenantId, devices: Sequence[DeviceId], at: datetime) -> None:
    """Whatever challenger each has. What it did stays."""
    s = shadow_devices.c
    own = (s.tenant == tenant, s.device.in_(devices), s.stopped_at.is_(None))
    tx.execute(update(shadow_devices).where(*own).values(stopped_at=at))


def report(tx: Tx, tenant: TenantId, device: DeviceId, said: ShadowReport, at: datetime) -> None:
    """What a device says about the challenger that it has; about another one it is not heard."""
    s = shadow_devices.c
    own = (s.tenant == tenant, s.device == device, s.stopped_at.is_(None), s.manifest_digest == said.model.manifest_digest)
    values = {name: getattr(said, name) for name in _FIGURES}
    tx.execute(update(shadow_devices).where(*own).values(reported_at=at, **values))


def active(tx: Tx, tenant: TenantId, name: ModelName, version: int | None, *, after: str, limit: int) -> list[DeviceId]:
    """Devices that have it, of any version where none is given; by id, those behind ``after``."""
    s = shadow_devices.c
    query = select(s.device).where(s.tenant == tenant, s.name == name, s.stopped_at.is_(None), s.device > after)
    query = query if version is None else query.where(s.version == version)
    return [DeviceId(id) for id in tx.execute(query.order_by(s.device).limit(limit)).scalars()]


def devices(tx: Tx, tenant: TenantId, name: ModelName, version: int, *, after: str, limit: int) -> list[ShadowDevice]:
    """By id, those behind ``after``."""
    s = shadow_devices.c
    own = (s.tenant == tenant, s.name == name, s.version == version, s.device > after)
    return [_device(row) for row in tx.execute(select(shadow_devices).where(*own).order_by(s.device).limit(limit))]


def totals(tx: Tx, tenant: TenantId, name: ModelName | None = None, version: int | None = None) -> list[ShadowTotals]:
    """Of each version that was ever a challenger, newest first."""
    s = shadow_devices.c
    is_active, frames = s.stopped_at.is_(None), func.sum(s.frames)
    own = [s.tenant == tenant]
    own += [] if name is None else [s.name == name]
    own += [] if version is None else [s.version == version]
    query = (
        select(
            s.name,
            s.version,
            func.count().label("devices"),
            _count(is_active).label("active"),
            _count(s.frames > 0).label("reporting"),
            _count(and_(is_active, s.problem != "")).label("troubled"),
            *(func.sum(s[name]).label(name) for name in ("frames", "agreed", "skipped", "errors", "captured")),
            *(
                (func.sum(s[name] * s.frames) / case((frames > 0, frames), else_=1)).label(name)
                for name in ("champion_confidence", "challenger_confidence")
            ),
            *(func.max(s[name]).label(name) for name in ("champion_p95_ms", "challenger_p95_ms")),
            func.min(s.started_at).label("started_at"),
        )
        .where(*own)
        .group_by(s.name, s.version)
        .order_by(func.min(s.started_at).desc(), s.name, s.version.desc())
    )
    return [_totals(row) for row in tx.execute(query)]


def _count(condition: Any) -> Any:
    return func.sum(case((condition, 1), else_=0))


def _totals(row: Row[Any]) -> ShadowTotals:
    counts = ("devices", "active", "reporting", "troubled", "frames", "agreed", "skipped", "errors", "captured")
    means = ("champion_confidence", "challenger_confidence", "champion_p95_ms", "challenger_p95_ms")
    values: dict[str, Any] = {name: int(getattr(row, name)) for name in counts}  # a sum is a Decimal in PostgreSQL
    values |= {name: float(getattr(row, name)) for name in means}
    return ShadowTotals(
        name=ModelName(row.name),
        version=row.version,
        started_at=row.started_at,
        **values,
    )


def _device(row: Row[Any]) -> ShadowDevice:
    said = None
    if row.reported_at is not None:
        model = ModelAssignment(
            name=ModelName(row.name),
            version=row.version,
            manifest_digest=Digest(row.manifest_digest),
            manifest_size_bytes=row.manifest_size_bytes,
        )
        said = ShadowReport(model=model, **{name: getattr(row, name) for name in _FIGURES})
    return ShadowDevice(
        device=DeviceId(row.device),
        target=row.target,
        share=row.share,
        max_share_of_time=row.max_share_of_time,
        started_by=row.started_by,
        started_at=row.started_at,
        stopped_at=row.stopped_at,
        reported_at=row.reported_at,
        report=said,
    )
