"""Targets of the image repository, and how far each is signed."""

from collections.abc import Collection, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Index, Row, Table, Text, bindparam, func, insert, select, text, update

from cloud_hub.core.targets import PACKAGES, Subject, Target, TargetKind
from cloud_hub.store import schema
from cloud_hub.store.database import Tx
from protos.contract.ids import Digest, TenantId

tuf_targets = Table(
    "tuf_targets",
    schema.metadata,
    Column("path", Text, primary_key=True),
    schema.tenant(),
    Column("subject", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("variant", Text, nullable=False),
    Column("length", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("boards", schema.Json, nullable=False),
    Column("bin", Text, nullable=False, index=True),
    Column("release", BigInteger, nullable=False),
    Column("signed_release", BigInteger, nullable=False, default=0),  # what the newest metadata says; 0: it is not in it
    schema.time("created_at"),
    schema.time("queued_at"),
    Index("ix_tuf_targets_name", "tenant", "subject", "name", "version"),
    Index("ix_tuf_targets_sha256", "tenant", "sha256"),
    Index(
        "ix_tuf_targets_waiting",
        "queued_at",
        sqlite_where=text("signed_release < release"),
        postgresql_where=text("signed_release < release"),
    ),
)

tuf_releases = Table(
    "tuf_releases",
    schema.metadata,
    Column("tenant", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("release", BigInteger, nullable=False),
)

_LOOK_AHEAD = 8
_WAITING = text("signed_release < release")  # as the index says it


def next_release(tx: Tx, tenant: TenantId, subject: Subject, name: str) -> int:
    """Handed out once; safe beside other transactions."""
    key = {"tenant": tenant, "subject": subject.value, "name": name}
    counted = schema.upsert(tuf_releases, tuple(key), {"release": tuf_releases.c.release + 1})
    tx.execute(counted.values(**key, release=1))
    return last_release(tx, tenant, subject, name)


def lift_releases(tx: Tx, least: int) -> None:
    """Let every model go on counting above ``least``."""
    r = tuf_releases.c
    tx.execute(update(tuf_releases).where(r.release < least).values(release=least))


def last_release(tx: Tx, tenant: TenantId, subject: Subject, name: str) -> int:
    """The highest that was handed out; 0: none."""
    r = tuf_releases.c
    query = select(r.release).where(r.tenant == tenant, r.subject == subject.value, r.name == name)
    return tx.execute(query).scalar() or 0


def add(tx: Tx, targets: Sequence[Target], at: datetime) -> None:
    """They wait to be signed. A path that is there already is an error of the database."""
    rows = [
        {
            **asdict(one),
            "kind": one.kind.value,
            "subject": one.subject.value,
            "boards": list(one.boards),
            "bin": one.bin,
            "created_at": at,
            "queued_at": at,
        }
        for one in targets
    ]
    tx.execute(insert(tuf_targets), rows)


def release(tx: Tx, tenant: TenantId, subject: Subject, name: str, version: str, number: int, at: datetime) -> None:
    """Give every target of a version another release number: they wait to be signed again."""
    own = _own(tenant, subject, name, version)
    tx.execute(update(tuf_targets).where(*own).values(release=number, queued_at=at))


def of_version(tx: Tx, tenant: TenantId, subject: Subject, name: str, version: str) -> list[tuple[Target, bool]]:
    """Each with whether the newest metadata says what is here; by path."""
    query = select(tuf_targets).where(*_own(tenant, subject, name, version)).order_by(tuf_targets.c.path)
    return [(_target(row), row.signed_release == row.release) for row in tx.execute(query)]


def find(tx: Tx, path: str) -> Target | None:
    row = tx.execute(select(tuf_targets).where(tuf_targets.c.path == path)).first()
    return None if row is None else _target(row)


def packages(
    tx: Tx, tenant: TenantId, subjects: Collection[Subject], *, from_: str, limit: int
) -> list[tuple[Target, bool, datetime]]:
    """By path, from this one on: (target, whether it is signed, when it was published)."""
    t = tuf_targets.c
    own = (t.tenant == tenant, t.subject.in_([subject.value for subject in subjects]), t.path >= from_)
    rows = tx.execute(select(tuf_targets).where(*own).order_by(t.path).limit(limit))
    return [(_target(row), row.signed_release == row.release, row.created_at) for row in rows]


def names_package(tx: Tx, tenant: TenantId, digest: Digest) -> bool:
    """Whether it is a package of this tenant."""
    t = tuf_targets.c
    own = (t.tenant == tenant, t.sha256 == digest.removeprefix("sha256:"), t.subject.in_([one.value for one in PACKAGES]))
    return tx.execute(select(t.path).where(*own).limit(1)).first() is not None


def waiting_bins(tx: Tx, limit: int) -> list[str]:
    """Bins with targets that wait to be signed, those that wait longest first."""
    t = tuf_targets.c
    waiting = select(t.bin).where(_WAITING).order_by(t.queued_at).limit(_LOOK_AHEAD * limit)  # grouped, it would read all rows
    return list(dict.fromkeys(tx.execute(waiting).scalars()))[:limit]


def any_waiting(tx: Tx) -> bool:
    return tx.execute(select(tuf_targets.c.path).where(_WAITING).limit(1)).first() is not None


def in_bins(tx: Tx, bins: Collection[str]) -> tuple[dict[str, list[Target]], list[Target]]:
    """Every target of these bins, signed or not, and those of them that wait."""
    found: dict[str, list[Target]] = {name: [] for name in bins}
    waiting = []
    for row in tx.execute(select(tuf_targets).where(tuf_targets.c.bin.in_(bins))):
        target = _target(row)
        found[row.bin].append(target)
        if row.signed_release < row.release:
            waiting.append(target)
    return found, waiting


def signed(tx: Tx, targets: Sequence[Target]) -> None:
    """The newest metadata says these releases; a target that was given another one meanwhile waits on."""
    if targets:
        t = tuf_targets.c
        says = update(tuf_targets).where(t.path == bindparam("one")).values(signed_release=bindparam("says"))
        tx.execute(says, [{"one": target.path, "says": target.release} for target in targets])


def counts(tx: Tx) -> tuple[int, int]:
    """(that the newest metadata names, that wait to be signed)."""
    t = tuf_targets.c
    named = tx.execute(select(func.count()).where(t.signed_release > 0)).scalar_one()
    waiting = tx.execute(select(func.count()).select_from(tuf_targets).where(_WAITING)).scalar_one()
    return int(named), int(waiting)


def _own(tenant: TenantId, subject: Subject, name: str, version: str) -> tuple[Any, ...]:
    t = tuf_targets.c
    return (t.tenant == tenant, t.subject == subject.value, t.name == name, t.version == version)


def _target(row: Row[Any]) -> Target:
    return Target(
        path=row.path,
        tenant=TenantId(row.tenant),
        kind=TargetKind(row.kind),
        name=row.name,
        version=row.version,
        variant=row.variant,
        length=row.length,
        sha256=row.sha256,
        boards=tuple(row.boards),
        release=row.release,
    )
