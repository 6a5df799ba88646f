"""The hub's database: short read snapshots, and writers one at a time."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from cloud_hub.core.errors import Exhausted, Invalid

Tx: TypeAlias = Connection  # an open transaction, as the functions of this package take it

BUSY_S = 10.0  # how long a writer waits for another one
_MIGRATIONS = Path(__file__).parent / "migrations"
_alembic = threading.Lock()  # alembic's context is global to the process


class Database:
    """Thread-safe; several processes may hold one on the same file."""

    def __init__(self, url: str) -> None:
        """Raises Invalid for anything but a SQLite file."""
        self._engine = create_engine(_checked(url), pool_size=32, max_overflow=32, pool_timeout=BUSY_S)
        event.listen(self._engine, "connect", _prepare)
        event.listen(self._engine, "begin", _begin)
        self._writer = self._engine.execution_options(tideline_write=True)
        self._turn = threading.Lock()  # SQLite's own wait between threads polls; this one wakes at once

    def migrate(self) -> None:
        """Bring the schema to the newest version; safe when several processes start at once."""
        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
        with _alembic, self.write() as tx:
            config.attributes["connection"] = tx
            command.upgrade(config, "head")

    @contextmanager
    def read(self) -> Iterator[Tx]:
        """A consistent snapshot; never waits for a writer, never writes."""
        with self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Tx]:
        """All or nothing; on return it survives a power cut. Never open one inside another.

        Raises:
            Exhausted: another writer held the database for more than BUSY_S.
        """
        if not self._turn.acquire(timeout=BUSY_S):
            raise Exhausted("the database is busy: another writer did not end in time; try again")
        try:
            with self._writer.connect() as connection, _begun(connection):
                yield connection
        finally:
            self._turn.release()

    def close(self) -> None:
        self._engine.dispose()


@contextmanager
def _begun(connection: Connection) -> Iterator[None]:
    try:
        transaction = connection.begin()
    except OperationalError as error:
        if isinstance(error.orig, sqlite3.OperationalError) and error.orig.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            raise Exhausted("the database is busy: another process is writing; try again") from error
        raise
    with transaction:
        yield


def _checked(url: str) -> str:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise Invalid(f"database_url is not a SQLAlchemy URL: {error}") from error
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        raise Invalid("database_url must name a SQLite file, as in sqlite:////var/lib/cloud-hub/hub.db")
    return url


def _prepare(connection: Any, _entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # the driver's implicit transactions would swallow our BEGIN
    # a row that holds a batch is about half a default page, which would waste the other half; only a new file takes this on
    pragmas = (
        "page_size=16384",
        f"busy_timeout={BUSY_S * 1000:.0f}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
    )
    for pragma in pragmas:
        connection.execute(f"PRAGMA {pragma}").close()


def _begin(connection: Connection) -> None:
    # a reader that turns writer in the middle cannot wait for its lock, so writers take it at once
    immediate = connection.get_execution_options().get("tideline_write", False)
    connection.exec_driver_sql(f"PRAGMA query_only={'OFF' if immediate else 'ON'}")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
