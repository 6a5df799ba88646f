"""Devices whose labels, or model, or existence changed: rollouts look at these, never at the whole fleet."""

from collections.abc import Sequence

from sqlalchemy import Column, Table, Text, delete, select

from cloud_hub.store import schema
from cloud_hub.store.database import Tx
from protos.contract.ids import DeviceId

device_changes = Table(
    "device_changes",
    schema.metadata,
    schema.row_id(),
    Column("device", Text, nullable=False, unique=True),
)


def note(tx: Tx, device: DeviceId) -> None:
    """In the transaction that changes it; one that is noted already is looked at once."""
    tx.execute(schema.insert_new(device_changes).values(device=device))


def oldest(tx: Tx, limit: int) -> list[DeviceId]:
    c = device_changes.c
    return [DeviceId(device) for device in tx.execute(select(c.device).order_by(c.id).limit(limit)).scalars()]


def forget(tx: Tx, devices: Sequence[DeviceId]) -> None:
    """Those that ``oldest`` gave in the same transaction."""
    tx.execute(delete(device_changes).where(device_changes.c.device.in_(devices)))
