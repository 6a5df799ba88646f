"""Users: who there is in a tenant, and what each may do."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, Column, Row, Table, Text, func, insert, select, update

from cloud_hub.core.model import Role
from cloud_hub.store import schema
from cloud_hub.store.database import Tx
from protos.contract.ids import TenantId

users = Table(
    "users",
    schema.metadata,
    Column("tenant", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("role", Text, nullable=False),
    Column("disabled", Boolean, nullable=False, default=False),
    schema.time("created_at"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    tenant: TenantId
    name: str
    role: Role
    disabled: bool
    created_at: datetime


def add(tx: Tx, tenant: TenantId, name: str, role: Role, at: datetime) -> bool:
    """False where the tenant has a user of that name."""
    if find(tx, tenant, name) is not None:
        return False
    tx.execute(insert(users).values(tenant=tenant, name=name, role=role.value, disabled=False, created_at=at))
    return True


def find(tx: Tx, tenant: TenantId, name: str) -> User | None:
    row = tx.execute(select(users).where(users.c.tenant == tenant, users.c.name == name)).first()
    return _user(row) if row else None


def page(tx: Tx, tenant: TenantId, *, after: str, limit: int) -> list[User]:
    """In the order of their names, beginning behind ``after``; one order of bytes, whatever the database's locale is."""
    names = tx.execute(select(users.c.name).where(users.c.tenant == tenant)).scalars()
    chosen = sorted(name for name in names if name > after)[:limit]
    rows = tx.execute(select(users).where(users.c.tenant == tenant, users.c.name.in_(chosen)))
    return sorted((_user(row) for row in rows), key=lambda user: user.name)


def put(tx: Tx, tenant: TenantId, name: str, *, role: Role, disabled: bool) -> None:
    """Changes one that is there."""
    chosen = (users.c.tenant == tenant) & (users.c.name == name)
    tx.execute(update(users).where(chosen).values(role=role.value, disabled=disabled))


def count(tx: Tx, tenant: TenantId) -> int:
    return int(tx.execute(select(func.count()).select_from(users).where(users.c.tenant == tenant)).scalar_one())


def active_admins(tx: Tx, tenant: TenantId) -> list[str]:
    u = users.c
    found = select(u.name).where(u.tenant == tenant, u.role == Role.ADMIN.value, u.disabled.is_(False))
    return list(tx.execute(found).scalars())


def _user(row: Row[Any]) -> User:
    return User(
        tenant=TenantId(row.tenant), name=row.name, role=Role(row.role), disabled=row.disabled, created_at=row.created_at
    )
