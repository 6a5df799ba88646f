"""The form of the spool's file, how SQLite is told to treat it, and what SQLite's errors mean to the spool."""

import contextlib
import secrets
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from edge_agent.core.errors import Corrupt, DiskFull, Retryable
from protos.contract.telemetry import Lane

FORMAT = 2  # PRAGMA user_version of a file this code writes; it turns one of format 1 into this
SPARE_BYTES = 2 << 20  # pages for indexes, open rows and half-filled pages, on top of half as much again as the payloads
PAGE_BYTES = 4096
FIRST_BYTES = 512 << 10  # of a new file: room for what is critical on a disk that was full soon after
WAL_PAGES = 192  # in the write-ahead log before it is emptied into the file; what comes on top is within WAL_BYTES
WAL_BYTES = 1 << 20  # it shrinks to this once it is emptied

_SCHEMA = """
CREATE TABLE lane (lane INTEGER PRIMARY KEY, next INTEGER NOT NULL, dropped INTEGER NOT NULL,
    base INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE TABLE open (lane INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, row BLOB NOT NULL,
    PRIMARY KEY (lane, first)) STRICT, WITHOUT ROWID;
CREATE TABLE batch (epoch TEXT NOT NULL, lane INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    records INTEGER NOT NULL, sent INTEGER NOT NULL, payload BLOB NOT NULL, PRIMARY KEY (lane, first)) STRICT;
CREATE TABLE epoch (epoch TEXT NOT NULL, resets INTEGER NOT NULL DEFAULT 0) STRICT;
"""
_FROM_1 = """
ALTER TABLE lane ADD COLUMN base INTEGER NOT NULL DEFAULT 0;
ALTER TABLE epoch ADD COLUMN resets INTEGER NOT NULL DEFAULT 0
"""
_DAMAGE = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_ERROR,  # our statements are right for our schema: it is another one
    sqlite3.SQLITE_CONSTRAINT,  # two rows of one number
    sqlite3.SQLITE_MISMATCH,
}
_NO_ROOM = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}
_UNREADABLE = {sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS}  # the medium


def most_pages(max_bytes: int) -> int:
    """What the file of a spool of ``max_bytes`` may have."""
    return (max_bytes * 3 // 2 + SPARE_BYTES) // PAGE_BYTES


def prepare(db: sqlite3.Connection, path: Path) -> None:
    """Make it, or check it whole and bring it to this version's form. Raises Corrupt besides what ``translated`` does."""
    for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL", "temp_store=MEMORY"):
        db.execute(f"PRAGMA {pragma}")
    db.execute(f"PRAGMA wal_autocheckpoint={WAL_PAGES}")
    db.execute(f"PRAGMA journal_size_limit={WAL_BYTES}")
    db.execute(f"PRAGMA page_size={PAGE_BYTES}")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version == 0:
        _create(db)
    elif version not in (1, FORMAT):
        raise Corrupt(f"{path} has format {version}, this version reads {FORMAT}")
    (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise Corrupt(f"{path} is damaged: {verdict}")
    if version == 1:
        with _change(db):
            for statement in _FROM_1.split(";"):
                db.execute(statement)


def _create(db: sqlite3.Connection) -> None:
    with _change(db):
        for statement in _SCHEMA.split(";"):
            db.execute(statement)
        db.execute("CREATE TABLE room (bytes BLOB)")  # pages that stay in the file for when it may not grow
        db.execute("INSERT INTO room VALUES (zeroblob(?))", (FIRST_BYTES,))
        db.execute("DROP TABLE room")
        db.execute("INSERT INTO epoch VALUES (?, 0)", (secrets.token_hex(8),))
        db.executemany("INSERT INTO lane VALUES (?, 0, 0, 0)", [(lane,) for lane in Lane])


@contextlib.contextmanager
def _change(db: sqlite3.Connection) -> Iterator[None]:
    """One transaction; an error closes the connection, which undoes it."""
    db.execute("BEGIN EXCLUSIVE")
    yield
    db.execute(f"PRAGMA user_version={FORMAT}")
    db.execute("COMMIT")


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)  # without one Python could not read a value
        primary = code & 0xFF  # the rest is detail
        if primary in _DAMAGE or code in _UNREADABLE:
            raise Corrupt(f"{path} is damaged: {error}") from error
        if primary in _NO_ROOM:
            raise DiskFull(f"cannot write {path}: {error}") from error
        if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise Retryable(f"{path} is in use by another process: close whatever has it open") from error
        raise
