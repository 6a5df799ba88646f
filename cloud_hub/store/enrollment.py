"""One-time enrolment tokens, by their digest only."""

from datetime import datetime

from sqlalchemy import Column, ForeignKey, Table, Text, insert, select, update

from cloud_hub.store import schema
from cloud_hub.store.database import Tx
from protos.contract.ids import DeviceId, Digest

enrollment_tokens = Table(
    "enrollment_tokens",
    schema.metadata,
    Column("digest", Text, primary_key=True),
    Column("device", Text, ForeignKey("devices.id", ondelete="CASCADE"), nullable=False, index=True),
    schema.time("expires_at"),
    schema.time("used_at", nullable=True),
)


def add(tx: Tx, device: DeviceId, digest: Digest, expires_at: datetime) -> None:
    tx.execute(insert(enrollment_tokens).values(digest=digest, device=device, expires_at=expires_at))


def find_usable(tx: Tx, digest: Digest, now: datetime) -> DeviceId | None:
    """The device a token is for, unless it is unknown, used or expired."""
    t = enrollment_tokens.c
    usable = (t.digest == digest) & t.used_at.is_(None) & (t.expires_at > now)
    device = tx.execute(select(t.device).where(usable)).scalar()
    return None if device is None else DeviceId(device)


def use(tx: Tx, digest: Digest, at: datetime) -> None:
    tx.execute(update(enrollment_tokens).where(enrollment_tokens.c.digest == digest).values(used_at=at))
