"""The spool's file: every SQL statement of the spool, and what SQLite's errors mean to it."""

import contextlib
import logging
import secrets
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_agent.core.errors import Corrupt, DiskFull, Retryable
from edge_agent.core.files import sync_folder
from edge_agent.spool.records import ROW_OVERHEAD_BYTES, Record, pack, span, unpack
from protos.contract.telemetry import Lane

log = logging.getLogger(__name__)

FORMAT = 1  # PRAGMA user_version of a file this code can read
SPARE_BYTES = 2 << 20  # pages for indexes, open rows and half-filled pages, on top of half as much again as the payloads
KEEP_DAMAGED = 2  # files set aside, for whoever looks into it; a device has no room for more

_SCHEMA = """
CREATE TABLE lane (lane INTEGER PRIMARY KEY, next INTEGER NOT NULL, dropped INTEGER NOT NULL) STRICT;
CREATE TABLE open (lane INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, row BLOB NOT NULL,
    PRIMARY KEY (lane, first)) STRICT, WITHOUT ROWID;
CREATE TABLE batch (epoch TEXT NOT NULL, lane INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    records INTEGER NOT NULL, sent INTEGER NOT NULL, payload BLOB NOT NULL, PRIMARY KEY (lane, first)) STRICT;
CREATE TABLE epoch (epoch TEXT NOT NULL) STRICT;
"""
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_NO_ROOM = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBatch:
    """``records`` is 0 for a batch of gaps only. ``sent``: handed out once, so its content is settled for ever."""

    first: int
    last: int
    records: int
    payload: bytes
    sent: bool = False

    @property
    def cost_bytes(self) -> int:
        return len(self.payload) + ROW_OVERHEAD_BYTES


class Store:
    """One open file. Not thread-safe. Changes go inside ``transaction``; ``batch_bytes`` and ``batch_records`` follow it.

    Raises:
        Retryable: another process holds the file.
        Corrupt: the file is damaged, or of a format this version cannot read.
        DiskFull: no room; the file is as it was.
    """

    def __init__(self, path: Path, *, max_bytes: int) -> None:
        fresh = not path.exists()
        with _translated(path):
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=2.0)
        self._path = path
        try:
            with _translated(path):
                self._prepare(max_bytes)
            if fresh:
                sync_folder(path.parent)
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self, max_bytes: int) -> None:
        db = self._connection
        for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL", "temp_store=MEMORY"):
            db.execute(f"PRAGMA {pragma}")
        (page_bytes,) = db.execute("PRAGMA page_size").fetchone()
        db.execute(f"PRAGMA max_page_count={(max_bytes * 3 // 2 + SPARE_BYTES) // page_bytes}")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._create()
        elif version != FORMAT:
            raise Corrupt(f"{self._path} has format {version}, this version reads {FORMAT}")
        (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise Corrupt(f"{self._path} is damaged: {verdict}")
        row = db.execute("SELECT epoch FROM epoch").fetchone()
        if row is None:
            raise Corrupt(f"{self._path} names no epoch")
        self.epoch: str = row[0]
        self.batch_bytes: int
        self.batch_records: int
        self.batch_bytes, self.batch_records = db.execute(
            "SELECT coalesce(sum(length(payload) + ?), 0), coalesce(sum(records), 0) FROM batch", (ROW_OVERHEAD_BYTES,)
        ).fetchone()

    def _create(self) -> None:
        db = self._connection
        db.execute("BEGIN EXCLUSIVE")
        for statement in _SCHEMA.split(";"):
            db.execute(statement)
        db.execute("INSERT INTO epoch VALUES (?)", (secrets.token_hex(8),))
        db.executemany("INSERT INTO lane VALUES (?, 0, 0)", [(lane,) for lane in Lane])
        db.execute(f"PRAGMA user_version={FORMAT}")
        db.execute("COMMIT")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, and durable on the way out."""
        before = self.batch_bytes, self.batch_records
        try:
            with _translated(self._path):
                self._connection.execute("BEGIN IMMEDIATE")
                yield
                self._connection.execute("COMMIT")
        except BaseException:
            self.batch_bytes, self.batch_records = before
            if self._connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
            raise

    def recycle(self) -> None:
        """Empty the write-ahead log into the file, so that the next transaction reuses its room."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()

    def close(self) -> None:
        self._connection.close()

    # -- lanes and open rows ----------------------------------------------------------------------------------------

    def lanes(self) -> Mapping[Lane, tuple[int, int]]:
        """Next sequence and records dropped so far."""
        with _translated(self._path):
            found = {lane: (n, dropped) for lane, n, dropped in self._connection.execute("SELECT * FROM lane")}
        if set(found) != set(Lane):
            raise Corrupt(f"{self._path} has lanes {sorted(found)}")
        return {Lane(lane): values for lane, values in found.items()}

    def set_lane(self, lane: Lane, *, next_sequence: int, dropped: int) -> None:
        self._connection.execute("UPDATE lane SET next=?, dropped=? WHERE lane=?", (next_sequence, dropped, lane))

    def open_rows(self, lane: Lane) -> list[tuple[int, int, Record | None]]:
        """First, last and the record, None where its row is damaged; in order."""
        with _translated(self._path):
            rows = self._connection.execute("SELECT first, last, row FROM open WHERE lane=? ORDER BY first", (lane,)).fetchall()
        return [(first, last, unpack(first, last, row)) for first, last, row in rows]

    def add_open(self, lane: Lane, records: Sequence[Record]) -> None:
        self._connection.executemany(
            "INSERT INTO open VALUES (?, ?, ?, ?)", [(lane, *span(record), pack(record)) for record in records]
        )

    def remove_open(self, lane: Lane, *, before: int) -> None:
        self._connection.execute("DELETE FROM open WHERE lane=? AND first<?", (lane, before))

    # -- batches ----------------------------------------------------------------------------------------------------

    def add_batch(self, lane: Lane, batch: StoredBatch) -> None:
        self._connection.execute(
            "INSERT INTO batch VALUES (?, ?, ?, ?, ?, ?, ?)",
            (self.epoch, lane, batch.first, batch.last, batch.records, batch.sent, batch.payload),
        )
        self.batch_bytes += batch.cost_bytes
        self.batch_records += batch.records

    def remove_batch(self, lane: Lane, batch: StoredBatch) -> None:
        self._connection.execute("DELETE FROM batch WHERE lane=? AND first=?", (lane, batch.first))
        self.batch_bytes -= batch.cost_bytes
        self.batch_records -= batch.records

    def batches(self, lane: Lane, *, behind: int, limit: int) -> list[StoredBatch]:
        """The oldest whose first sequence is beyond ``behind``."""
        return self._select("lane=? AND first>? ORDER BY first LIMIT ?", lane, behind, limit)

    def oldest_droppable(self, lane: Lane) -> StoredBatch | None:
        """Never handed out, and holding records."""
        found = self._select("lane=? AND sent=0 AND records>0 ORDER BY first LIMIT 1", lane)
        return found[0] if found else None

    def gaps_beside(self, lane: Lane, first: int, last: int) -> list[StoredBatch]:
        """Batches of gaps only, never handed out, that touch ``first..last`` from outside."""
        before = self._select("lane=? AND first<? ORDER BY first DESC LIMIT 1", lane, first)
        behind = self._select("lane=? AND first=?", lane, last + 1)
        near = [batch for batch in before + behind if not batch.sent and batch.records == 0]
        return [batch for batch in near if batch.last + 1 == first or batch.first == last + 1]

    def mark_sent(self, lane: Lane, *, first: int, last: int) -> None:
        self._connection.execute("UPDATE batch SET sent=1 WHERE lane=? AND first BETWEEN ? AND ?", (lane, first, last))

    def remove_through(self, lane: Lane, sequence: int) -> None:
        """Every batch that ends at or before ``sequence``."""
        where = "lane=? AND first<=? AND last<=?"
        cost, records = self._connection.execute(
            f"SELECT coalesce(sum(length(payload) + ?), 0), coalesce(sum(records), 0) FROM batch WHERE {where}",
            (ROW_OVERHEAD_BYTES, lane, sequence, sequence),
        ).fetchone()
        self._connection.execute(f"DELETE FROM batch WHERE {where}", (lane, sequence, sequence))
        self.batch_bytes -= cost
        self.batch_records -= records

    def _select(self, where: str, *values: int) -> list[StoredBatch]:
        with _translated(self._path):
            rows = self._connection.execute(
                f"SELECT first, last, records, payload, sent FROM batch WHERE {where}", values
            ).fetchall()
        return [
            StoredBatch(first=first, last=last, records=records, payload=payload, sent=bool(sent))
            for first, last, records, payload, sent in rows
        ]


def set_aside(path: Path) -> Path:
    """Move a damaged file out of the way, keeping the newest few."""
    earlier = sorted(path.parent.glob(f"{path.name}.corrupt-*"), key=_number)
    aside = path.with_name(f"{path.name}.corrupt-{_number(earlier[-1]) + 1 if earlier else 1}")
    for old in earlier[: max(0, len(earlier) + 1 - KEEP_DAMAGED)]:
        old.unlink(missing_ok=True)
    path.replace(aside)
    for suffix in ("-wal", "-shm", "-journal"):  # they belong to the file that is gone
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    sync_folder(path.parent)
    return aside


def _number(path: Path) -> int:
    suffix = path.name.rpartition("-")[2]
    return int(suffix) if suffix.isdecimal() else 0


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        primary = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest is detail
        if primary in _DAMAGE:
            raise Corrupt(f"{path} is damaged: {error}") from error
        if primary in _NO_ROOM:
            raise DiskFull(f"cannot write {path}: {error}") from error
        if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise Retryable(f"{path} is in use by another process: close whatever has it open") from error
        raise
