"""What certificates and tokens prove, looked up many at a time: each with the device or user that holds it."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Row, and_, select

from cloud_hub.core.model import Role
from cloud_hub.store.certificates import DEVICE, USER, certificates
from cloud_hub.store.database import Tx
from cloud_hub.store.fleet import devices
from cloud_hub.store.tokens import tokens
from cloud_hub.store.users import users
from protos.contract.ids import TenantId

_AT_ONCE = 500  # in one statement


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """One certificate or token, and its holder as the database has it now."""

    tenant: TenantId
    name: str
    role: Role | None  # DEVICE, or the user's own; None: no such device or user is there any more
    disabled: bool = False
    digest: str = field(repr=False)  # of the certificate's key, or of the token's secret
    expires_at: datetime
    revoked_at: datetime | None
    reason: str = ""
    scope: Role | None = None  # of a token
    used_at: datetime | None = None  # a token last, a certificate of a device first


def certificates_of(tx: Tx, serials: Collection[str]) -> dict[str, Holding]:
    """Those that this hub issued, by serial."""
    c = certificates.c
    query = (
        select(certificates, devices.c.id.label("device"), users.c.role.label("user_role"), users.c.disabled)
        .outerjoin(devices, and_(c.role == DEVICE, devices.c.id == c.subject, devices.c.tenant == c.tenant))
        .outerjoin(users, and_(c.role == USER, users.c.name == c.subject, users.c.tenant == c.tenant))
    )
    return {row.serial: _certificate(row) for part in _parts(serials) for row in tx.execute(query.where(c.serial.in_(part)))}


def tokens_of(tx: Tx, ids: Collection[str]) -> dict[str, Holding]:
    """Those that there are, by id."""
    t = tokens.c
    query = select(tokens, users.c.role.label("user_role"), users.c.disabled).outerjoin(
        users, and_(users.c.name == t.user, users.c.tenant == t.tenant)
    )
    return {row.id: _token(row) for part in _parts(ids) for row in tx.execute(query.where(t.id.in_(part)))}


def _certificate(row: Row[tuple[object, ...]]) -> Holding:
    if row.role == DEVICE:
        role = Role.DEVICE if row.device is not None else None
    else:
        role = Role(row.user_role) if row.user_role is not None else None
    return Holding(
        tenant=TenantId(row.tenant),
        name=row.subject,
        role=role,
        disabled=bool(row.disabled),
        digest=row.key_digest,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        reason=row.reason,
        used_at=row.used_at,
    )


def _token(row: Row[tuple[object, ...]]) -> Holding:
    return Holding(
        tenant=TenantId(row.tenant),
        name=row.user,
        role=Role(row.user_role) if row.user_role is not None else None,
        disabled=bool(row.disabled),
        digest=row.digest,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        scope=Role(row.scope),
        used_at=row.used_at,
    )


def _parts(keys: Collection[str]) -> list[list[str]]:
    wanted = list(keys)
    return [wanted[start : start + _AT_ONCE] for start in range(0, len(wanted), _AT_ONCE)]
