"""Desired twins on their way to the broker: a generation is delivered when the broker holds it."""

from sqlalchemy import select, update

from cloud_hub.store.database import Tx
from cloud_hub.store.fleet import desired_of, devices, retired_devices
from protos.contract.ids import DeviceId, TenantId
from protos.contract.twin import DesiredTwin


def undelivered(tx: Tx, limit: int) -> list[tuple[TenantId, DeviceId, DesiredTwin]]:
    """Desired twins that the broker does not hold yet; those of deleted devices say "keep what runs"."""
    d, r = devices.c, retired_devices.c
    waiting = tx.execute(select(devices).where(d.delivered_generation < d.desired_generation).order_by(d.id).limit(limit))
    twins = [(TenantId(row.tenant), DeviceId(row.id), desired_of(row)) for row in waiting]
    left = limit - len(twins)
    gone = tx.execute(select(retired_devices).where(r.delivered_generation < r.generation).order_by(r.id).limit(left))
    return twins + [(TenantId(row.tenant), DeviceId(row.id), DesiredTwin(generation=row.generation)) for row in gone]


def delivered(tx: Tx, id: DeviceId, generation: int) -> None:
    for table in (devices, retired_devices):
        behind = (table.c.id == id) & (table.c.delivered_generation < generation)
        tx.execute(update(table).where(behind).values(delivered_generation=generation))


def redeliver(tx: Tx) -> None:
    """Every desired twin is undelivered again."""
    for table in (devices, retired_devices):
        tx.execute(update(table).values(delivered_generation=0))
