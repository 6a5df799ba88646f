"""Signed metadata of the two TUF repositories: every version as it was signed, and which is the newest of each role."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import BigInteger, Column, LargeBinary, Table, Text, delete, insert, literal, select

from cloud_hub.store import schema
from cloud_hub.store.database import Tx

tuf_metadata = Table(
    "tuf_metadata",
    schema.metadata,
    Column("repository", Text, primary_key=True),
    Column("role", Text, primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    schema.time("signed_at"),
    Column("data", LargeBinary, nullable=False),
)

tuf_heads = Table(  # apart, so that a new version rewrites none of the old bytes
    "tuf_heads",
    schema.metadata,
    Column("repository", Text, primary_key=True),
    Column("role", Text, primary_key=True),
    Column("version", BigInteger, nullable=False),
    schema.time("expires_at"),
    Column("resign_at", schema.Time, nullable=True, index=True),  # null: not ours to sign
)

ROOT = "root"


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    role: str
    version: int
    expires_at: datetime
    resign_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One version of one role, as it goes into the database."""

    role: str
    version: int
    signed_at: datetime
    expires_at: datetime
    resign_at: datetime | None
    data: bytes


def put(tx: Tx, repository: str, files: Sequence[Stored]) -> None:
    """They are the newest of their roles from now on. A version that is there already is an error of the database."""
    if not files:
        return
    rows = [
        {"repository": repository, "role": f.role, "version": f.version, "signed_at": f.signed_at, "data": f.data}
        for f in files
    ]
    tx.execute(insert(tuf_metadata), rows)
    heads = [
        {"repository": repository, "role": f.role, "version": f.version, "expires_at": f.expires_at, "resign_at": f.resign_at}
        for f in files
    ]
    tx.execute(schema.upsert(tuf_heads, ("repository", "role")), heads)


def find(tx: Tx, repository: str, role: str, version: int | None = None) -> bytes | None:
    """The bytes of a version, or of the newest."""
    m, h = tuf_metadata.c, tuf_heads.c
    query = select(m.data).where(m.repository == repository, m.role == role)
    if version is None:
        newest = select(h.version).where(h.repository == repository, h.role == role).scalar_subquery()
        return tx.execute(query.where(m.version == newest)).scalar()
    return tx.execute(query.where(m.version == version)).scalar()


def head(tx: Tx, repository: str, role: str) -> Head | None:
    h = tuf_heads.c
    row = tx.execute(
        select(h.role, h.version, h.expires_at, h.resign_at).where(h.repository == repository, h.role == role)
    ).first()
    return None if row is None else Head(**row._mapping)


def heads(tx: Tx, repository: str) -> list[Head]:
    """By role."""
    h = tuf_heads.c
    query = select(h.role, h.version, h.expires_at, h.resign_at).where(h.repository == repository).order_by(h.role)
    return [Head(**row._mapping) for row in tx.execute(query)]


def versions(tx: Tx, repository: str) -> dict[str, int]:
    """The newest version of every role."""
    h = tuf_heads.c
    return {role: version for role, version in tx.execute(select(h.role, h.version).where(h.repository == repository))}


def root_version(tx: Tx, repository: str) -> int:
    """0: none yet."""
    h = tuf_heads.c
    return tx.execute(select(h.version).where(h.repository == repository, h.role == ROOT)).scalar() or 0


def due(tx: Tx, repository: str, now: datetime, limit: int) -> list[str]:
    """Roles that are to be signed again, most urgent first."""
    h = tuf_heads.c
    query = select(h.role).where(h.repository == repository, h.resign_at <= now).order_by(h.resign_at, h.role).limit(limit)
    return list(tx.execute(query).scalars())


def forget(tx: Tx, superseded_before: datetime) -> int:
    """Drop versions that had a newer one by then, except roots; how many."""
    m, newer = tuf_metadata.c, tuf_metadata.alias()
    followed = (
        select(literal(1))
        .where(newer.c.repository == m.repository, newer.c.role == m.role, newer.c.version == m.version + 1)
        .where(newer.c.signed_at < superseded_before)
        .exists()
    )
    return tx.execute(delete(tuf_metadata).where(m.role != ROOT, followed)).rowcount
