"""SQLite as the hub's database: one file, WAL, every commit on the disk."""

import fcntl
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from sqlalchemy import URL, Connection, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry

from cloud_hub.core.errors import Conflict
from cloud_hub.store.claim import StandBy

# what a user or the system can mend; the extended codes are these in their lowest byte
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_AWAY = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM)


class Sqlite:
    parallel: ClassVar[bool] = False
    read: ClassVar[Mapping[str, Any]] = {}
    write: ClassVar[Mapping[str, Any]] = {"tideline_mode": "write"}
    append: ClassVar[Mapping[str, Any]] = {"tideline_mode": "write"}

    @staticmethod
    def takes(url: URL) -> bool:
        return url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:")

    def __init__(self, url: URL, *, busy_s: float) -> None:
        self._path = Path(url.database or "")
        self.engine = create_engine(url, pool_size=32, max_overflow=32, pool_timeout=busy_s, hide_parameters=True)
        pragmas = (
            # a row that holds a batch is about half a default page, which would waste the other half; only a new file takes it
            "page_size=16384",
            f"busy_timeout={busy_s * 1000:.0f}",
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
        )

        def prepare(connection: Any, _entry: ConnectionPoolEntry) -> None:
            connection.isolation_level = None  # the driver's implicit transactions would swallow our BEGIN
            for pragma in pragmas:
                connection.execute(f"PRAGMA {pragma}").close()

        event.listen(self.engine, "connect", prepare)
        event.listen(self.engine, "begin", _begin)

    def unavailable(self, error: DBAPIError) -> str | None:
        code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
        if code in _BUSY:
            return "the database is busy"
        return "the database is not available" if code in _AWAY else None

    def settle(self, tx: Connection) -> None:
        pass

    def hold_term(self, tx: Connection) -> None:
        """Writers come one at a time."""

    def end_terms(self, tx: Connection) -> None:
        """As ``hold_term``."""

    @contextmanager
    def claim(self, lost: Callable[[], None], stand_by: StandBy, still: Callable[[], bool]) -> Iterator[None]:
        """A lock beside the file, which only the end of the process or of the context takes away: it is never lost. Nobody
        stands by: on one machine the service manager starts the hub again as fast."""
        with Path(f"{self._path}.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Conflict(f"another hub runs on the database {self._path}: stop it first") from error
            yield


def _begin(connection: Connection) -> None:
    # a reader that turns writer in the middle cannot wait for its lock, so writers take it at once
    writes = "tideline_mode" in connection.get_execution_options()
    connection.exec_driver_sql(f"PRAGMA query_only={'OFF' if writes else 'ON'}")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
