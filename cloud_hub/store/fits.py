"""What golden runs on devices measured, by variant and device."""

from collections.abc import Sequence
from datetime import datetime
from statistics import median
from typing import Any

from sqlalchemy import BigInteger, Column, Float, Table, Text, func, insert, select, update

from cloud_hub.core.model import MeasuredFit, Variant
from cloud_hub.store import schema
from cloud_hub.store.database import Tx
from protos.contract.ids import DeviceId, Digest, TenantId
from protos.contract.twin import Fit

fits = Table(
    "fits",
    schema.metadata,
    Column("tenant", Text, primary_key=True),
    Column("manifest_digest", Text, primary_key=True),
    Column("device", Text, primary_key=True),
    Column("board", Text, nullable=False),
    Column("p50_ms", Float, nullable=False),
    Column("p95_ms", Float, nullable=False),
    Column("peak_bytes", BigInteger, nullable=False),
    Column("error", Float, nullable=False),
    Column("agreement", Float, nullable=False),
    schema.time("measured_at"),
)


def find(tx: Tx, tenant: TenantId, manifest: Digest, device: DeviceId) -> Fit | None:
    row = tx.execute(select(*(fits.c[name] for name in Fit.__slots__)).where(*_own(tenant, manifest, device))).first()
    return Fit(**row._mapping) if row else None


def put(tx: Tx, tenant: TenantId, manifest: Digest, device: DeviceId, board: str, fit: Fit, at: datetime, *, most: int) -> None:
    """The newest of a device counts. Of one board the first ``most`` devices are kept: more would tell nothing new."""
    values = {name: getattr(fit, name) for name in Fit.__slots__} | {"board": board, "measured_at": at}
    if tx.execute(update(fits).where(*_own(tenant, manifest, device)).values(**values)).rowcount:
        return
    f = fits.c
    of_board = (f.tenant == tenant, f.manifest_digest == manifest, f.board == board)
    if tx.execute(select(func.count()).select_from(fits).where(*of_board)).scalar_one() < most:
        tx.execute(insert(fits).values(tenant=tenant, manifest_digest=manifest, device=device, **values))


def of_variants(tx: Tx, tenant: TenantId, variants: Sequence[Variant]) -> tuple[MeasuredFit, ...]:
    """By target and board; the median of each figure, so that one device that lies changes little."""
    targets = {variant.manifest_digest: variant.target for variant in variants}
    query = select(fits).where(fits.c.tenant == tenant, fits.c.manifest_digest.in_(list(targets)))
    found: dict[tuple[str, str], list[Fit]] = {}
    for row in tx.execute(query):
        fit = Fit(**{name: getattr(row, name) for name in Fit.__slots__})
        found.setdefault((targets[Digest(row.manifest_digest)], row.board), []).append(fit)
    return tuple(
        MeasuredFit(
            target=target,
            board=board,
            devices=len(measured),
            p50_ms=median(fit.p50_ms for fit in measured),
            p95_ms=median(fit.p95_ms for fit in measured),
            peak_bytes=int(median(fit.peak_bytes for fit in measured)),
            error=median(fit.error for fit in measured),
            agreement=median(fit.agreement for fit in measured),
        )
        for (target, board), measured in sorted(found.items())
    )


def _own(tenant: TenantId, manifest: Digest, device: DeviceId) -> tuple[Any, ...]:
    f = fits.c
    return f.tenant == tenant, f.manifest_digest == manifest, f.device == device
