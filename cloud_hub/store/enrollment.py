"""One-time enrolment tokens, by their digest only. Each belongs to one registered device, whose tenant, board and labels stand
with it; with the device it goes."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Boolean, Column, ForeignKey, Index, Table, Text, delete, insert, select, update

from cloud_hub.store import schema
from cloud_hub.store.database import Tx
from cloud_hub.store.fleet import devices
from protos.contract.ids import DeviceId, Digest, TenantId

enrollment_tokens = Table(
    "enrollment_tokens",
    schema.metadata,
    Column("digest", Text, primary_key=True),
    Column("device", Text, ForeignKey("devices.id", ondelete="CASCADE"), nullable=False, index=True),
    schema.time("expires_at"),
    schema.time("used_at", nullable=True),
    Column("needs_approval", Boolean, nullable=False, default=False),
    Column("key_digest", Text),  # of the first key that came with it where approval is needed, of the certified one otherwise
    schema.time("approved_at", nullable=True),
    Index("ix_enrollment_tokens_expires_at", "expires_at"),
)

_AT_ONCE = 500  # in one statement


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    digest: Digest
    device: DeviceId
    tenant: TenantId  # of the device, as its board
    board: str
    used_at: datetime | None
    needs_approval: bool
    key_digest: Digest | None
    approved_at: datetime | None

    @property
    def waits(self) -> bool:
        return self.needs_approval and self.approved_at is None


def add(tx: Tx, device: DeviceId, digest: Digest, expires_at: datetime, *, needs_approval: bool = False) -> None:
    values = {"digest": digest, "device": device, "expires_at": expires_at, "needs_approval": needs_approval}
    tx.execute(insert(enrollment_tokens).values(**values))


def find(tx: Tx, digest: Digest, now: datetime) -> Token | None:
    """Unless it is unknown or expired."""
    t = enrollment_tokens.c
    found = select(enrollment_tokens, devices.c.tenant, devices.c.board).join(devices, devices.c.id == t.device)
    row = tx.execute(found.where(t.digest == digest, t.expires_at > now)).first()
    if row is None:
        return None
    return Token(
        digest=Digest(row.digest),
        device=DeviceId(row.device),
        tenant=TenantId(row.tenant),
        board=row.board,
        used_at=row.used_at,
        needs_approval=row.needs_approval,
        key_digest=None if row.key_digest is None else Digest(row.key_digest),
        approved_at=row.approved_at,
    )


def wait(tx: Tx, digest: Digest, key_digest: Digest, until: datetime) -> None:
    """The first key that came with it waits for approval; any other one is too late."""
    values = {"key_digest": key_digest, "expires_at": until}
    tx.execute(update(enrollment_tokens).where(enrollment_tokens.c.digest == digest).values(**values))


def waiting(tx: Tx, ids: Collection[DeviceId], now: datetime) -> dict[DeviceId, tuple[Digest, Digest]]:
    """Digests of token and key, for each device whose key waits."""
    t = enrollment_tokens.c
    pending = t.needs_approval & t.approved_at.is_(None) & t.key_digest.is_not(None) & t.used_at.is_(None)
    query = select(t.device, t.digest, t.key_digest).where(pending, t.expires_at > now)
    wanted = list(ids)
    parts = (wanted[start : start + _AT_ONCE] for start in range(0, len(wanted), _AT_ONCE))
    rows = [row for part in parts for row in tx.execute(query.where(t.device.in_(part)))]
    return {DeviceId(row.device): (Digest(row.digest), Digest(row.key_digest)) for row in rows}


def approve(tx: Tx, digest: Digest, at: datetime) -> None:
    tx.execute(update(enrollment_tokens).where(enrollment_tokens.c.digest == digest).values(approved_at=at))


def use(tx: Tx, digest: Digest, key_digest: Digest, at: datetime) -> None:
    values = {"used_at": at, "key_digest": key_digest}
    tx.execute(update(enrollment_tokens).where(enrollment_tokens.c.digest == digest).values(**values))


def drop(tx: Tx, device: DeviceId, *, used: bool) -> None:
    """Those of a device that wait to be used; ``used``: the others too."""
    own = enrollment_tokens.c.device == device
    tx.execute(delete(enrollment_tokens).where(own if used else own & enrollment_tokens.c.used_at.is_(None)))


def forget(tx: Tx, before: datetime) -> int:
    """Drop those that expired before ``before``; how many."""
    return tx.execute(delete(enrollment_tokens).where(enrollment_tokens.c.expires_at < before)).rowcount
