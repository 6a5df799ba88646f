"""Deltas between blobs: which are wanted, which there are, and which are not worth it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from sqlalchemy import BigInteger, Column, Index, Integer, Row, Table, Text, delete, func, select, update

from cloud_hub.store import schema
from cloud_hub.store.database import Tx
from cloud_hub.store.registry import model_aliases, model_variants, model_versions
from protos.contract.ids import Digest
from protos.contract.sources import Encoding

deltas = Table(
    "deltas",
    schema.metadata,
    Column("base_digest", Text, primary_key=True),
    Column("target_digest", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("encoding", Integer, nullable=False, default=0),
    Column("digest", Text, nullable=False, default=""),  # of the delta; empty until it is made
    Column("size_bytes", BigInteger, nullable=False, default=0),
    Column("decode_bytes", BigInteger, nullable=False, default=0),
    Column("attempts", Integer, nullable=False, default=0),  # counted before each: it may take the hub down
    Column("note", schema.Prose, nullable=False, default=""),  # why there is none
    schema.time("wanted_at"),
    schema.time("used_at"),  # told to a device, to the hour
    Index("ix_deltas_digest", "digest"),
    Index("ix_deltas_state", "state", "wanted_at"),
)


class DeltaState(Enum):
    WANTED = "wanted"
    MADE = "made"
    USELESS = "useless"  # it would not save enough, or cannot be made


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaRow:
    base: Digest
    target: Digest
    state: DeltaState
    encoding: Encoding
    digest: str
    size_bytes: int
    decode_bytes: int
    attempts: int
    note: str
    used_at: datetime


def want(tx: Tx, base: Digest, target: Digest, at: datetime) -> None:
    """To be made; nothing happens where it is, was, or was found useless."""
    row = {"state": DeltaState.WANTED.value, "wanted_at": at, "used_at": at}
    tx.execute(schema.insert_new(deltas).values(base_digest=base, target_digest=target, **row))


def between(tx: Tx, bases: Sequence[Digest], target: Digest) -> list[DeltaRow]:
    d = deltas.c
    query = select(deltas).where(d.target_digest == target, d.base_digest.in_(bases))
    return [_row(row) for row in tx.execute(query)]


def by_digest(tx: Tx, digest: Digest) -> list[DeltaRow]:
    """Those whose bytes these are: several pairs may give the same."""
    return [_row(row) for row in tx.execute(select(deltas).where(deltas.c.digest == digest))]


def next_wanted(tx: Tx) -> DeltaRow | None:
    """The one that waits longest."""
    d = deltas.c
    query = select(deltas).where(d.state == DeltaState.WANTED.value).order_by(d.wanted_at, d.base_digest, d.target_digest)
    row = tx.execute(query.limit(1)).first()
    return _row(row) if row else None


def waiting(tx: Tx) -> int:
    query = select(func.count()).select_from(deltas).where(deltas.c.state == DeltaState.WANTED.value)
    return int(tx.execute(query).scalar_one())


def count_attempt(tx: Tx, row: DeltaRow) -> None:
    tx.execute(update(deltas).where(*_own(row)).values(attempts=deltas.c.attempts + 1))


def made(
    tx: Tx, row: DeltaRow, encoding: Encoding, digest: Digest, *, size_bytes: int, decode_bytes: int, at: datetime
) -> None:
    """It counts as used now: it was made because it is wanted."""
    tx.execute(
        update(deltas)
        .where(*_own(row))
        .values(
            state=DeltaState.MADE.value,
            encoding=int(encoding),
            digest=digest,
            size_bytes=size_bytes,
            decode_bytes=decode_bytes,
            used_at=at,
        )
    )


def useless(tx: Tx, row: DeltaRow, note: str) -> None:
    tx.execute(update(deltas).where(*_own(row)).values(state=DeltaState.USELESS.value, note=note))


def used(tx: Tx, row: DeltaRow, at: datetime) -> None:
    tx.execute(update(deltas).where(*_own(row)).values(used_at=at))


def least_used(tx: Tx, limit: int) -> list[DeltaRow]:
    """Of those that are made, those longest not told to a device first."""
    query = select(deltas).where(deltas.c.state == DeltaState.MADE.value).order_by(deltas.c.used_at).limit(limit)
    return [_row(row) for row in tx.execute(query)]


def made_bytes(tx: Tx) -> int:
    query = select(func.coalesce(func.sum(deltas.c.size_bytes), 0)).where(deltas.c.state == DeltaState.MADE.value)
    return int(tx.execute(query).scalar_one())


def forget(tx: Tx, row: DeltaRow) -> None:
    """It is made again when it is wanted again."""
    tx.execute(delete(deltas).where(*_own(row)))


def published_pairs(tx: Tx, since: datetime, bases: int) -> list[tuple[Digest, Digest]]:
    """(base, target) for the files of versions published since then, each from the same files of the last ``bases`` versions
    before it and of those that have an alias."""
    v, a = model_versions.c, model_aliases.c
    pairs: list[tuple[Digest, Digest]] = []
    for new in tx.execute(select(v.tenant, v.name, v.version).where(v.created_at >= since).order_by(v.created_at)).all():
        own = (v.tenant == new.tenant, v.name == new.name)
        last = select(v.version).where(*own, v.version < new.version).order_by(v.version.desc()).limit(bases)
        named = select(a.version).where(a.tenant == new.tenant, a.name == new.name)
        before = {*tx.execute(last).scalars(), *tx.execute(named).scalars()} - {new.version}
        files = _files(tx, new.tenant, new.name, new.version)
        for version in sorted(before, reverse=True):
            for target, old in _files(tx, new.tenant, new.name, version).items():
                pairs += [pair for pair in zip(old, files.get(target, old), strict=True) if pair[0] != pair[1]]
    return pairs


def _files(tx: Tx, tenant: str, name: str, version: int) -> dict[str, tuple[Digest, Digest]]:
    """Target -> (artifact, golden set)."""
    f = model_variants.c
    query = select(f.target, f.artifact_digest, f.golden_digest)
    rows = tx.execute(query.where(f.tenant == tenant, f.name == name, f.version == version))
    return {row.target: (Digest(row.artifact_digest), Digest(row.golden_digest)) for row in rows}


def _own(row: DeltaRow) -> tuple[Any, ...]:
    return (deltas.c.base_digest == row.base, deltas.c.target_digest == row.target)


def _row(row: Row[Any]) -> DeltaRow:
    return DeltaRow(
        base=Digest(row.base_digest),
        target=Digest(row.target_digest),
        state=DeltaState(row.state),
        encoding=Encoding(row.encoding),
        digest=row.digest,
        size_bytes=row.size_bytes,
        decode_bytes=row.decode_bytes,
        attempts=row.attempts,
        note=row.note,
        used_at=row.used_at,
    )
