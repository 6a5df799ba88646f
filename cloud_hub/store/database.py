"""The hub's database: short read snapshots, and writers one at a time."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeAlias

from alembic import command
from alembic.config import Config
from sqlalchemy import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from cloud_hub.core.errors import Invalid, Unavailable
from cloud_hub.store.postgres import Postgres
from cloud_hub.store.sqlite import Sqlite

Tx: TypeAlias = Connection  # an open transaction, as the functions of this package take it
Options: TypeAlias = Mapping[str, Any]  # SQLAlchemy's execution options

BUSY_S = 10.0  # how long a writer waits for another one
_MIGRATIONS = Path(__file__).parent / "migrations"
_alembic = threading.Lock()  # alembic's context is global to the process


class Backend(Protocol):
    """Where the two databases differ."""

    engine: Engine
    parallel: ClassVar[bool]  # whether ``append`` transactions run beside each other
    read: ClassVar[Options]  # of a transaction that is a snapshot and cannot write
    write: ClassVar[Options]  # of one that begins once every other writer has ended, and sees what the last one left
    append: ClassVar[Options]

    def unavailable(self, error: DBAPIError) -> str | None:
        """Why the database cannot serve this now though it may later; None: trying again does not help."""

    def settle(self, tx: Tx) -> None:
        """What its tables need besides the migrations, after them."""

    def claim(self, lost: Callable[[], None]) -> AbstractContextManager[None]:
        """See ``Database.claim``."""


class Database:
    """Thread-safe; several processes may hold one on the same database.

    What a transaction raises, besides what happens in it:
        Unavailable: the database is busy, full or away: nothing was written (or, where it went away during the commit, perhaps
            all of it), and the same may succeed later.
        Invalid: a value that the database cannot hold, such as a text with a NUL character.
    """

    def __init__(self, url: str) -> None:
        """Raises Invalid for anything but a SQLite file or a PostgreSQL database, NotReady where its driver is missing."""
        self._backend = _open(url)
        engine = self._backend.engine
        self._reader = engine.execution_options(**self._backend.read)
        self._writer = engine.execution_options(**self._backend.write)
        self._appender = engine.execution_options(**self._backend.append)
        self._turn = threading.Lock()  # the databases' own wait between threads polls or takes a connection; this one does not

    @property
    def parallel(self) -> bool:
        """Whether ``append`` transactions run beside each other."""
        return self._backend.parallel

    def migrate(self) -> None:
        """Bring the schema to the newest version, or leave it as it is; safe when several processes start at once."""
        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
        with _alembic, self.write() as tx:
            config.attributes["connection"] = tx
            command.upgrade(config, "head")
            self._backend.settle(tx)

    @contextmanager
    def read(self) -> Iterator[Tx]:
        """A consistent snapshot; never waits for a writer, never writes."""
        with self._transaction(self._reader) as tx:
            yield tx

    @contextmanager
    def write(self) -> Iterator[Tx]:
        """All or nothing; on return it survives a power cut. Writers of all processes come one at a time, so what one has read
        is still so when it writes (``append`` aside). Never open one inside another.

        Raises:
            Unavailable: also when another writer held the database for more than BUSY_S.
        """
        if not self._turn.acquire(timeout=BUSY_S):
            raise Unavailable("the database is busy: another writer did not end in time; try again")
        try:
            with self._transaction(self._writer) as tx:
                yield tx
        finally:
            self._turn.release()

    @contextmanager
    def append(self) -> Iterator[Tx]:
        """``write`` for telemetry: where the database can, it runs beside other transactions, so it must lock the rows that it
        reads in order to write."""
        with self._transaction(self._appender) if self.parallel else self.write() as tx:
            yield tx

    def claim(self, lost: Callable[[], None]) -> AbstractContextManager[None]:
        """Be the one hub of this database, from entering until leaving or death.

        ``lost`` is called once, from a thread of its own, when another hub took the place while the database was away.

        Raises:
            Conflict: another hub has it.
            Unavailable: the database cannot be reached.
        """
        return self._backend.claim(lost)

    def close(self) -> None:
        self._backend.engine.dispose()

    @contextmanager
    def _transaction(self, engine: Engine) -> Iterator[Tx]:
        try:
            with engine.connect() as connection, connection.begin():
                yield connection
        except DataError as error:
            raise Invalid(f"a value cannot be stored: {_first_line(error)}") from error
        except DBAPIError as error:
            if (why := self._backend.unavailable(error)) is None:
                raise
            raise Unavailable(f"{why}: {_first_line(error)}; try again") from error
        except PoolTimeout as error:
            raise Unavailable("the database is busy: every connection is in use; try again") from error


def _open(url: str) -> Backend:
    """No message shows a part of ``url``: it may be a part of the password."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise Invalid("database_url is not a SQLAlchemy URL; is every special character of the password %-encoded?") from error
    if Sqlite.takes(parsed):
        return Sqlite(parsed, busy_s=BUSY_S)
    if Postgres.takes(parsed):
        _check_host(parsed)
        return Postgres(parsed, busy_s=BUSY_S)
    raise Invalid(
        "database_url must name a SQLite file, as in sqlite:////var/lib/cloud-hub/hub.db, or a PostgreSQL database, as in "
        "postgresql://hub@db.example.org/hub"
    )


def _check_host(url: URL) -> None:
    if "@" in f"{url.host}{url.database}":  # what follows an @ in the password: the driver's errors would show it
        raise Invalid("database_url has more than one @: write an @ of the user's name or password as %40, and a / as %2F")


def _first_line(error: DBAPIError) -> str:
    """What the driver said: no statement, no values."""
    lines = str(error.orig).strip().splitlines()
    return lines[0][:500] if lines else type(error.orig).__name__
