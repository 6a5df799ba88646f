"""What has come of each device, in numbers."""

from sqlalchemy import func, select

from cloud_hub.core.model import DeviceStats
from cloud_hub.store.database import Tx
from cloud_hub.store.streams import streams
from protos.contract.ids import DeviceId, TenantId
from protos.contract.telemetry import from_ms


def stats(tx: Tx, tenant: TenantId, device: DeviceId | None) -> list[DeviceStats]:
    """By device id."""
    s = streams.c
    totals = [func.sum(s[name]).label(name) for name in ("batches", "records", "duplicates", "dropped", "payload_bytes")]
    query = select(s.device, *totals, func.max(s.last_captured_ms).label("last_ms")).where(s.tenant == tenant)
    if device is not None:
        query = query.where(s.device == device)
    return [
        DeviceStats(
            device=DeviceId(row.device),
            batches=int(row.batches),
            records=int(row.records),
            duplicate_batches=int(row.duplicates),
            gap_records=int(row.dropped),
            payload_bytes=int(row.payload_bytes),
            last_captured_at=None if row.last_ms is None else from_ms(row.last_ms),
        )
        for row in tx.execute(query.group_by(s.device).order_by(s.device))
    ]
