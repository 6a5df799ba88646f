"""What a device has believed once and never goes below again, in the update journal's database."""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from edge_agent.core.errors import DiskFull
from protos.contract.telemetry import from_ms, to_ms

MAX_NUMBER = (1 << 63) - 1  # a database's integer
EPOCH = datetime.fromtimestamp(0, UTC)
SCHEMA = """
CREATE TABLE IF NOT EXISTS trust_anchors (repository TEXT PRIMARY KEY, anchor TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS version_floors (
    repository TEXT NOT NULL, role TEXT NOT NULL,
    keys TEXT NOT NULL,                       -- whose word the version was
    version INTEGER NOT NULL,
    PRIMARY KEY (repository, role)
) STRICT;
CREATE TABLE IF NOT EXISTS release_floors (series TEXT PRIMARY KEY, release INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS time_floor (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    keys TEXT NOT NULL,                       -- whose word the time was
    at_ms INTEGER NOT NULL
) STRICT;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionFloor:
    """The newest version seen of one role. It holds as long as the same ``keys`` speak for the role."""

    keys: str
    version: int

    def __post_init__(self) -> None:
        if not 1 <= self.version <= MAX_NUMBER:
            raise ValueError(f"version must be in 1..2^63-1, got {self.version}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Which release of a series an update brings; a committed one is the floor of its series."""

    series: str  # "models/<tenant>/<model>"
    number: int

    def __post_init__(self) -> None:
        if not self.series or not 0 <= self.number <= MAX_NUMBER:
            raise ValueError(f"a release needs a series and a number in 0..2^63-1, got {self.series!r}, {self.number}")


class Floors:
    """Durable on return. Floors belong to the roots of trust the device was given: with other roots they begin again.

    What changes raises DiskFull where it cannot be written; then nothing has changed. Not thread-safe, as the journal.
    """

    def __init__(self, db: sqlite3.Connection, change: Callable[[], AbstractContextManager[None]], *, durable: bool) -> None:
        """``change``: a transaction of the journal's. ``durable``: they outlive the process."""
        self._db, self._change = db, change
        self.durable = durable

    def hold(self, anchors: Mapping[str, str]) -> None:
        """``anchors``: by repository, what its first root is known by. Where one is another than before, all floors fall."""
        before = dict(self._db.execute("SELECT repository, anchor FROM trust_anchors").fetchall())
        if before == dict(anchors):
            return
        with self._change():
            for table in ("trust_anchors", "version_floors", "release_floors", "time_floor"):
                self._db.execute(f"DELETE FROM {table}")
            self._db.executemany("INSERT INTO trust_anchors VALUES (?, ?)", sorted(anchors.items()))

    def time(self, keys: str) -> datetime:
        """The latest time ever believed, if it was by the word of ``keys``: a repository whose clock, or thief, was years
        ahead recovers as it does from a fast-forward, by new keys."""
        row = self._db.execute("SELECT at_ms FROM time_floor WHERE keys = ?", (keys,)).fetchone()
        return from_ms(row[0]) if row else EPOCH

    def release(self, series: str) -> int:
        """Of the newest release that was committed; 0: none."""
        row = self._db.execute("SELECT release FROM release_floors WHERE series = ?", (series,)).fetchone()
        return int(row[0]) if row else 0

    def versions(self, repository: str) -> dict[str, VersionFloor]:
        """By role."""
        rows = self._db.execute("SELECT role, keys, version FROM version_floors WHERE repository = ?", (repository,))
        return {role: VersionFloor(keys=keys, version=version) for role, keys, version in rows}

    def keep(self, seen: Mapping[str, Mapping[str, VersionFloor]], *, at: datetime | None = None, keys: str = "") -> None:
        """What was seen, by repository and role, and the time that was believed by the word of ``keys``; all in one
        transaction, nothing goes down.

        A version or a time under other keys takes the place of what the keys before said.
        """
        higher = [
            (repository, role, floor)
            for repository, roles in seen.items()
            for role, floor in roles.items()
            if not _covers(self.versions(repository).get(role), floor)
        ]
        later = at is not None and at > self.time(keys)
        if not higher and not later:
            return
        with self._change():
            for repository, role, floor in higher:
                self._db.execute(
                    "INSERT INTO version_floors VALUES (?, ?, ?, ?)"
                    " ON CONFLICT DO UPDATE SET keys = excluded.keys, version = excluded.version",
                    (repository, role, floor.keys, floor.version),
                )
            if at is not None and later:
                self._db.execute(
                    "INSERT INTO time_floor VALUES (1, ?, ?)"
                    " ON CONFLICT DO UPDATE SET keys = excluded.keys, at_ms = excluded.at_ms",
                    (keys, to_ms(at)),
                )


def beside(path: Path) -> Floors:
    """The floors of the journal at ``path``, over a connection of their own, for another thread. Raises DiskFull."""
    try:
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10.0)
        db.execute("PRAGMA synchronous = FULL")
        db.executescript(SCHEMA)
    except sqlite3.Error as error:
        raise DiskFull(f"the update journal {path} cannot be opened ({error}): free some space") from error

    @contextlib.contextmanager
    def change() -> Iterator[None]:
        try:
            db.execute("BEGIN IMMEDIATE")
            yield
            db.execute("COMMIT")
        except BaseException as error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError):
                raise DiskFull(f"the update journal cannot be written ({error}): free some space") from error
            raise

    return Floors(db, change, durable=True)


def commit_release(db: sqlite3.Connection, component: str, generation: int) -> None:
    """Raise the floor to the release of the update of ``generation``, in the caller's transaction."""
    db.execute(
        "INSERT INTO release_floors SELECT series, release FROM updates"
        " WHERE component = ? AND generation = ? AND series != ''"
        " ON CONFLICT DO UPDATE SET release = max(release, excluded.release)",
        (component, generation),
    )


def _covers(floor: VersionFloor | None, seen: VersionFloor) -> bool:
    return floor is not None and floor.keys == seen.keys and floor.version >= seen.version
