"""What the archive holds: a row per file. A reading is either in ``landing`` or in one live file, never in both.

A file is written whole before its row is; whatever takes its place becomes live in the transaction that ends it. A file that is
no longer live stays on the disk while a query may still read it.
"""

from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Column, ColumnElement, Index, Row, Table, Text, delete, func, insert, select, update

from cloud_hub.core.errors import Conflict
from cloud_hub.store import schema
from cloud_hub.store.database import Tx
from cloud_hub.store.landing import Landed, landing
from cloud_hub.store.streams import streams
from protos.contract.ids import DeviceId, TenantId
from protos.contract.telemetry import Lane

SCATTERED = "scattered"  # stands for the day of a file whose readings are of many days
_STREAMED = 32  # batches fetched at once, of up to a megabyte each
_PER_STATEMENT = 500

archive_files = Table(
    "archive_files",
    schema.metadata,
    schema.row_id(),
    schema.tenant(),
    Column("kind", Text, nullable=False),
    Column("day", Text, nullable=False),  # of event time, as 2026-03-01, or SCATTERED
    Column("path", Text, nullable=False, unique=True),  # within the archive
    Column("rows", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("first_ms", BigInteger, nullable=False),  # event time of its first row; of a roll-up, its first hour
    Column("last_ms", BigInteger, nullable=False),
    Column("came_ms", BigInteger, nullable=False),  # when the hub received the newest of it
    Column("removed_ms", BigInteger),  # null: live
    Index(None, "tenant", "kind", "first_ms", "last_ms"),
    Index(None, "removed_ms"),
)

# One row: which archive belongs to this database. The archive names it back: no database sweeps the files of another.
archive_owner = Table("archive_owner", schema.metadata, Column("id", Text, primary_key=True))


class Kind(StrEnum):
    READINGS = "readings"
    WINDOWS = "windows"  # what streams on devices said
    EVENTS = "events"  # as their records were numbered; those that one looks at stand in device_events
    GAPS = "gaps"
    ROLLUPS = "rollups"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFile:
    tenant: TenantId
    kind: Kind
    day: str
    path: str
    rows: int
    bytes: int
    first_ms: int
    last_ms: int
    came_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveFile(NewFile):
    id: int


def owner(tx: Tx) -> str | None:
    return tx.execute(select(archive_owner.c.id)).scalar()


def own(tx: Tx, id: str) -> None:
    tx.execute(insert(archive_owner).values(id=id))


def ripe(tx: Tx, before_ms: int) -> Generator[Landed, None, None]:
    """Batches that every consumer has seen and that came before ``before_ms``, oldest first; close it before ``tx`` ends.

    Never the last row of ``landing``: SQLite would give its number to the next batch, and who reads by number relies on growth.
    """
    c, s = landing.c, streams.c
    of_stream = (c.device == s.device) & (c.epoch == s.epoch) & (c.lane == s.lane)
    newest = select(func.max(c.id)).scalar_subquery()
    query = (
        select(c.id, c.tenant, c.device, c.epoch, c.lane, c.first_sequence, c.last_sequence, c.received_ms, c.payload)
        .select_from(landing.join(streams, of_stream))
        .where((c.last_sequence <= s.folded_through) & (c.received_ms < before_ms) & (c.id < newest))
        .order_by(c.id)
    )
    rows = tx.execute(query, execution_options={"yield_per": _STREAMED})
    try:
        for id, tenant, device, epoch, lane, first, last, received, payload in rows:
            yield Landed(
                id=id,
                tenant=TenantId(tenant),
                device=DeviceId(device),
                epoch=epoch,
                lane=Lane(lane),
                first_sequence=first,
                last_sequence=last,
                received_ms=received,
                payload=payload,
            )
    finally:
        rows.close()


def landed(
    tx: Tx, tenant: TenantId, devices: Sequence[DeviceId] | None, since_ms: int, until_ms: int
) -> Generator[tuple[DeviceId, int, bytes], None, None]:
    """(device, received_ms, payload) of batches with readings in ``since_ms`` to before ``until_ms``, in no order."""
    c = landing.c
    query = select(c.device, c.received_ms, c.payload).where(
        (c.tenant == tenant) & (c.first_captured_ms < until_ms) & (c.last_captured_ms >= since_ms)
    )
    chunks = [None] if devices is None else list(_chunks(devices))
    for chunk in chunks:
        some = query if chunk is None else query.where(c.device.in_(chunk))
        rows = tx.execute(some, execution_options={"yield_per": _STREAMED})
        try:
            for device, received_ms, payload in rows:
                yield DeviceId(device), received_ms, payload
        finally:
            rows.close()


def moved(tx: Tx, batches: Sequence[int], into: Iterable[NewFile]) -> None:
    """These rows of ``landing`` are in ``into`` from now on. Raises Conflict where one of them is not there any more."""
    gone = sum(tx.execute(delete(landing).where(landing.c.id.in_(chunk))).rowcount for chunk in _chunks(batches))
    if gone != len(batches):
        raise Conflict("another hub archives these batches: one hub runs on a database")
    _add(tx, into)


def replaced(tx: Tx, files: Sequence[ArchiveFile], into: Iterable[NewFile], now_ms: int) -> None:
    """What ``files`` hold is in ``into`` from now on, or nowhere. Raises Conflict where one of them is not live any more."""
    f = archive_files.c
    ended = sum(
        tx.execute(update(archive_files).where(f.id.in_(chunk) & f.removed_ms.is_(None)).values(removed_ms=now_ms)).rowcount
        for chunk in _chunks([file.id for file in files])
    )
    if ended != len(files):
        raise Conflict("another hub works on these files: one hub runs on a database")
    _add(tx, into)


def live(tx: Tx, tenant: TenantId, kind: Kind, since_ms: int, until_ms: int) -> list[ArchiveFile]:
    """With rows from ``since_ms`` to before ``until_ms``, as far as first and last tell; by time."""
    f = archive_files.c
    overlaps = (f.first_ms < until_ms) & (f.last_ms >= since_ms)
    return _files(tx, (f.tenant == tenant) & (f.kind == kind) & f.removed_ms.is_(None) & overlaps, f.first_ms, f.id)


def live_partitions(tx: Tx) -> list[tuple[TenantId, Kind, str]]:
    """Those of more than one file."""
    f = archive_files.c
    rows = tx.execute(
        select(f.tenant, f.kind, f.day)
        .where(f.removed_ms.is_(None))
        .group_by(f.tenant, f.kind, f.day)
        .having(func.count() > 1)
        .order_by(f.tenant, f.kind, f.day)
    )
    return [(TenantId(row.tenant), Kind(row.kind), row.day) for row in rows]


def live_of(tx: Tx, tenant: TenantId, kind: Kind, day: str) -> list[ArchiveFile]:
    """Smallest first."""
    f = archive_files.c
    return _files(tx, (f.tenant == tenant) & (f.kind == kind) & (f.day == day) & f.removed_ms.is_(None), f.rows, f.id)


def expired(tx: Tx, kinds: Collection[Kind], before_ms: int, limit: int) -> list[ArchiveFile]:
    """Live files that came before ``before_ms``. Event time has no say: a device's clock may be years off."""
    f = archive_files.c
    return _files(tx, f.kind.in_(kinds) & f.removed_ms.is_(None) & (f.came_ms < before_ms), f.id, limit=limit)


def removed(tx: Tx, before_ms: int, limit: int) -> list[ArchiveFile]:
    """Those that ended before ``before_ms``, the first to end first."""
    f = archive_files.c
    return _files(tx, f.removed_ms < before_ms, f.removed_ms, f.id, limit=limit)


def forget(tx: Tx, files: Sequence[ArchiveFile]) -> None:
    for chunk in _chunks([file.id for file in files]):
        tx.execute(delete(archive_files).where(archive_files.c.id.in_(chunk)))


def paths(tx: Tx) -> tuple[set[str], set[str]]:
    """Of files that must be there, and of those that may be."""
    f = archive_files.c
    rows = tx.execute(select(f.path, f.removed_ms.is_(None).label("live"))).all()
    return {row.path for row in rows if row.live}, {row.path for row in rows if not row.live}


def _add(tx: Tx, files: Iterable[NewFile]) -> None:
    rows = [{name: getattr(file, name) for name in NewFile.__dataclass_fields__} for file in files]
    if rows:
        tx.execute(insert(archive_files), rows)


def _files(tx: Tx, where: ColumnElement[bool], *order: ColumnElement[Any], limit: int | None = None) -> list[ArchiveFile]:
    return [_file(row) for row in tx.execute(select(archive_files).where(where).order_by(*order).limit(limit))]


def _file(row: Row[Any]) -> ArchiveFile:
    return ArchiveFile(
        id=row.id,
        tenant=TenantId(row.tenant),
        kind=Kind(row.kind),
        day=row.day,
        path=row.path,
        rows=row.rows,
        bytes=row.bytes,
        first_ms=row.first_ms,
        last_ms=row.last_ms,
        came_ms=row.came_ms,
    )


def _chunks(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (items[start : start + _PER_STATEMENT] for start in range(0, len(items), _PER_STATEMENT))
