"""Bearer tokens of users: a public id, and the digest of a secret that is never stored."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Index, Row, Table, Text, delete, func, insert, select, update

from cloud_hub.core.model import Role
from cloud_hub.store import schema
from cloud_hub.store.database import Tx
from protos.contract.ids import TenantId

tokens = Table(
    "tokens",
    schema.metadata,
    Column("id", Text, primary_key=True),  # the public part
    schema.tenant(),
    Column("user", Text, nullable=False),
    Column("scope", Text, nullable=False),  # a role; what it is worth depends on the user's role when it is used
    Column("digest", Text, nullable=False),  # sha256 of the secret, hexadecimal
    schema.time("created_at"),
    schema.time("expires_at"),
    schema.time("revoked_at", nullable=True),
    schema.time("used_at", nullable=True),  # the last time, to the minute
    Column("note", schema.Prose, nullable=False),
    Index("ix_tokens_tenant_user", "tenant", "user"),
    Index("ix_tokens_expires_at", "expires_at"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    id: str
    tenant: TenantId
    user: str
    scope: Role
    digest: str = field(repr=False)
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None
    used_at: datetime | None = None
    note: str = ""


def add(tx: Tx, token: Token) -> None:
    tx.execute(
        insert(tokens).values(
            id=token.id,
            tenant=token.tenant,
            user=token.user,
            scope=token.scope.value,
            digest=token.digest,
            created_at=token.created_at,
            expires_at=token.expires_at,
            note=token.note,
        )
    )


def find(tx: Tx, tenant: TenantId, id: str) -> Token | None:
    row = tx.execute(select(tokens).where(tokens.c.tenant == tenant, tokens.c.id == id)).first()
    return _token(row) if row else None


def of_user(tx: Tx, tenant: TenantId, user: str | None) -> list[Token]:
    """Of one user or of everyone, newest first, void ones too as long as they are kept."""
    t = tokens.c
    query = select(tokens).where(t.tenant == tenant).order_by(t.created_at.desc(), t.id)
    return [_token(row) for row in tx.execute(query if user is None else query.where(t.user == user))]


def good(tx: Tx, tenant: TenantId, user: str, now: datetime) -> int:
    """How many of a user's tokens work."""
    t = tokens.c
    chosen = (t.tenant == tenant) & (t.user == user) & t.revoked_at.is_(None) & (t.expires_at > now)
    return int(tx.execute(select(func.count()).select_from(tokens).where(chosen)).scalar_one())


def revoke(tx: Tx, tenant: TenantId, id: str, at: datetime) -> None:
    """A second time changes nothing."""
    t = tokens.c
    tx.execute(update(tokens).where(t.tenant == tenant, t.id == id, t.revoked_at.is_(None)).values(revoked_at=at))


def used(tx: Tx, id: str, at: datetime) -> None:
    tx.execute(update(tokens).where(tokens.c.id == id).values(used_at=at))


def forget(tx: Tx, before: datetime) -> int:
    """Drop those that expired before ``before``; how many."""
    return tx.execute(delete(tokens).where(tokens.c.expires_at < before)).rowcount


def _token(row: Row[Any]) -> Token:
    values = dict(row._mapping)
    return Token(**{**values, "tenant": TenantId(values["tenant"]), "scope": Role(values["scope"])})
