"""Certificates that this hub issued to devices and users, and which of them are void."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Column, ForeignKey, Index, Row, Table, Text, delete, func, insert, select, update

from cloud_hub.core.model import Role
from cloud_hub.store import schema
from cloud_hub.store.database import Tx
from protos.contract.ids import DeviceId, TenantId
from protos.contract.telemetry import to_ms

certificates = Table(
    "certificates",
    schema.metadata,
    Column("serial", Text, primary_key=True),  # hexadecimal, lower case
    schema.tenant(),
    Column("role", Text, nullable=False),  # "device", or "user": what a user may do stands with the user
    Column("subject", Text, nullable=False),  # device id or user name
    Column("key_digest", Text, nullable=False),  # of the public key
    schema.time("issued_at"),
    schema.time("expires_at"),
    schema.time("used_at", nullable=True),  # when a device showed it first
    schema.time("revoked_at", nullable=True),
    Column("reason", schema.Prose, nullable=False, default=""),
    Index("ix_certificates_role_subject", "role", "subject"),
    Index("ix_certificates_revoked_at", "revoked_at"),
    Index("ix_certificates_expires_at", "expires_at"),
)

# What a device was answered, until it shows that it has it: an answer that was lost is given again, and is the same one.
unclaimed_chains = Table(
    "unclaimed_chains",
    schema.metadata,
    Column("serial", Text, ForeignKey("certificates.serial", ondelete="CASCADE"), primary_key=True),
    Column("pem", Text, nullable=False),
)

USER = "user"
DEVICE = Role.DEVICE.value
SUPERSEDED = "superseded"  # reason of one whose device showed a newer one
REPLACED = "enrolled anew"  # reason of one whose device used a new token
_NOBODYS = (SUPERSEDED, REPLACED)  # whoever revokes says who it was, so that no reason of theirs is one of these
_AT_ONCE = 500  # in one statement


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    serial: str
    tenant: TenantId
    role: str  # USER or DEVICE
    subject: str
    key_digest: str
    issued_at: datetime
    expires_at: datetime
    used_at: datetime | None = None
    revoked_at: datetime | None = None
    reason: str = ""


def add(tx: Tx, certificate: Certificate) -> None:
    tx.execute(
        insert(certificates).values(
            serial=certificate.serial,
            tenant=certificate.tenant,
            role=certificate.role,
            subject=certificate.subject,
            key_digest=certificate.key_digest,
            issued_at=certificate.issued_at,
            expires_at=certificate.expires_at,
        )
    )


def add_unclaimed(tx: Tx, certificate: Certificate, chain_pem: str) -> None:
    """``add``, and keep the answer until it is ``used``."""
    add(tx, certificate)
    tx.execute(insert(unclaimed_chains).values(serial=certificate.serial, pem=chain_pem))


def unclaimed(tx: Tx, device: DeviceId, key_digest: str, now: datetime) -> tuple[Certificate, str] | None:
    """The newest good certificate of this key that the device has not shown yet, and the chain it was answered with."""
    c = certificates.c
    good = (c.role == DEVICE) & (c.subject == device) & (c.key_digest == key_digest) & c.revoked_at.is_(None)
    found = (
        select(certificates, unclaimed_chains.c.pem)
        .join(unclaimed_chains, unclaimed_chains.c.serial == c.serial)
        .where(good, c.expires_at > now)
        .order_by(c.issued_at.desc(), c.serial)
    )
    row = tx.execute(found.limit(1)).first()
    return None if row is None else (_certificate(row), row.pem)


def find(tx: Tx, serial: str) -> Certificate | None:
    row = tx.execute(select(certificates).where(certificates.c.serial == serial)).first()
    return None if row is None else _certificate(row)


def newest(tx: Tx, devices: Collection[DeviceId]) -> dict[DeviceId, Certificate]:
    """Of each device that ever had one, the one that was issued last, whatever became of it."""
    c = certificates.c
    found: dict[DeviceId, Certificate] = {}
    for part in _parts(devices):
        rows = tx.execute(select(certificates).where(c.role == DEVICE, c.subject.in_(part)).order_by(c.issued_at, c.serial))
        found |= {DeviceId(row.subject): _certificate(row) for row in rows}
    return found


def issued_since(tx: Tx, device: DeviceId, since: datetime) -> int:
    c = certificates.c
    own = select(func.count()).where(c.role == DEVICE, c.subject == device, c.issued_at > since)
    return int(tx.execute(own).scalar_one())


def banned(tx: Tx, device: DeviceId, key_digest: str) -> bool:
    """Whether somebody revoked a certificate of this key: the key itself is not to be trusted again."""
    c = certificates.c
    own = (c.role == DEVICE) & (c.subject == device) & (c.key_digest == key_digest)
    found = select(c.serial).where(own, c.revoked_at.is_not(None), c.reason.not_in(_NOBODYS))
    return tx.execute(found.limit(1)).first() is not None


def shown(tx: Tx, serials: Collection[str], at: datetime) -> int:
    """Devices showed these certificates, so each has the answer that brought it and needs none of its good ones before it any
    more: they are SUPERSEDED. How many were."""
    c = certificates.c
    first = select(certificates).where(c.role == DEVICE, c.used_at.is_(None), c.revoked_at.is_(None))
    superseded = 0
    for row in [row for part in _parts(serials) for row in tx.execute(first.where(c.serial.in_(part)))]:
        tx.execute(update(certificates).where(c.serial == row.serial).values(used_at=at))
        tx.execute(delete(unclaimed_chains).where(unclaimed_chains.c.serial == row.serial))
        before = (c.role == DEVICE) & (c.subject == row.subject) & c.revoked_at.is_(None) & (c.issued_at < row.issued_at)
        superseded += tx.execute(update(certificates).where(before).values(revoked_at=at, reason=SUPERSEDED)).rowcount
    return superseded


def revoke(
    tx: Tx, role: str, subject: str, at: datetime, reason: str, *, but: Sequence[str] = (), tenant: TenantId | None = None
) -> int:
    """Void every certificate of a subject that is not void yet, except the serials in ``but``; how many there were.

    ``tenant``: users of two tenants may have one name; device ids are the hub's.
    """
    c = certificates.c
    good = (c.role == role) & (c.subject == subject) & c.revoked_at.is_(None) & c.serial.not_in(but)
    good = good if tenant is None else good & (c.tenant == tenant)
    return tx.execute(update(certificates).where(good).values(revoked_at=at, reason=reason)).rowcount


def revoked(tx: Tx, now: datetime) -> list[Certificate]:
    """Void ones that have not expired: what a revocation list must hold."""
    c = certificates.c
    rows = tx.execute(select(certificates).where(c.revoked_at.is_not(None), c.expires_at > now).order_by(c.serial))
    return [_certificate(row) for row in rows]


def revocations(tx: Tx) -> int:
    """A number that is another one after every revocation, so that a change is seen without reading them."""
    c = certificates.c
    row = tx.execute(select(func.max(c.revoked_at), func.count()).where(c.revoked_at.is_not(None))).one()
    last, count = row
    # the time too: one that was forgotten and one that was revoked make no other count
    return 0 if last is None else to_ms(last) << 20 | count & 0xFFFFF


def forget(tx: Tx, before: datetime, *, superseded_before: datetime) -> int:
    """Drop those that expired before ``before``, and earlier those that were superseded or replaced; how many.

    A serial is unknown afterwards, which is as good as revoked.
    """
    c = certificates.c
    old = (c.expires_at < before) | ((c.expires_at < superseded_before) & c.reason.in_(_NOBODYS))
    return tx.execute(delete(certificates).where(old)).rowcount


def _certificate(row: Row[Any]) -> Certificate:
    return Certificate(
        serial=row.serial,
        tenant=TenantId(row.tenant),
        role=row.role,
        subject=row.subject,
        key_digest=row.key_digest,
        issued_at=row.issued_at,
        expires_at=row.expires_at,
        used_at=row.used_at,
        revoked_at=row.revoked_at,
        reason=row.reason,
    )


def _parts(keys: Iterable[str]) -> list[list[str]]:
    wanted = list(keys)
    return [wanted[start : start + _AT_ONCE] for start in range(0, len(wanted), _AT_ONCE)]
