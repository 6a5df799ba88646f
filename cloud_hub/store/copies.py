"""Which blobs have a copy in the object store that devices are sent to."""

from datetime import datetime

from sqlalchemy import Column, Index, Integer, Table, Text, select, update

from cloud_hub.store import schema
from cloud_hub.store.database import Tx

blob_copies = Table(
    "blob_copies",
    schema.metadata,
    Column("path", Text, primary_key=True),  # below the artifact folder, and below the root of the copies
    schema.time("copied_at", nullable=True),  # null: it is wanted
    schema.time("wanted_at"),
    Column("attempts", Integer, nullable=False, default=0),
    Index("ix_blob_copies_copied_at", "copied_at", "wanted_at"),
)


def has(tx: Tx, path: str) -> bool:
    copied = tx.execute(select(blob_copies.c.copied_at).where(blob_copies.c.path == path)).scalar()
    return copied is not None


def want(tx: Tx, path: str, at: datetime) -> None:
    """Again is harmless."""
    tx.execute(schema.insert_new(blob_copies).values(path=path, wanted_at=at))


def wanted(tx: Tx, limit: int) -> list[str]:
    """Those tried least often first, so that one that fails does not hold up the rest."""
    c = blob_copies.c
    query = select(c.path).where(c.copied_at.is_(None)).order_by(c.attempts, c.wanted_at).limit(limit)
    return list(tx.execute(query).scalars())


def tried(tx: Tx, path: str) -> None:
    tx.execute(update(blob_copies).where(blob_copies.c.path == path).values(attempts=blob_copies.c.attempts + 1))


def copied(tx: Tx, path: str, at: datetime) -> None:
    tx.execute(update(blob_copies).where(blob_copies.c.path == path).values(copied_at=at))
