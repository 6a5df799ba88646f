"""The hub's database: short read snapshots, and writers one at a time."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeAlias

from alembic import command
from alembic.config import Config
from sqlalchemy import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from cloud_hub.core.errors import Fenced, Invalid, Unavailable
from cloud_hub.store import leases
from cloud_hub.store.claim import StandBy, refuse
from cloud_hub.store.leases import Lease
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

    def hold_term(self, tx: Tx) -> None:
        """In an ``append``: no term begins before it ends."""

    def end_terms(self, tx: Tx) -> None:
        """In a ``write``: wait for every ``append`` that holds the term before."""

    def claim(self, lost: Callable[[], None], stand_by: StandBy, still: Callable[[], bool]) -> AbstractContextManager[None]:
        """See ``Database.claim``. ``still``: whether nobody led while the lock was away."""


class Database:
    """Thread-safe; several processes may hold one on the same database.

    What a transaction raises, besides what happens in it:
        Unavailable: the database is busy, full or away: nothing was written (or, where it went away during the commit, perhaps
            all of it), and the same may succeed later.
        Fenced: it writes, and another hub leads by now: nothing was written.
        Invalid: a value that the database cannot hold, such as a text with a NUL character.
    """

    def __init__(self, url: str, *, epoch: int | None = None) -> None:
        """``epoch``: of the term in which this process writes, where it may write only as the hub that leads; see ``lead``.

        Raises Invalid for anything but a SQLite file or a PostgreSQL database, NotReady where its driver is missing.
        """
        self._epoch = epoch
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
        with self._transaction(self._reader, None) as tx:
            yield tx

    @contextmanager
    def write(self) -> Iterator[Tx]:
        """All or nothing; on return it survives a power cut. Writers of all processes come one at a time, so what one has read
        is still so when it writes (``append`` aside). Never open one inside another.

        Raises:
            Unavailable: also when another writer held the database for more than BUSY_S.
        """
        with self._in_turn(), self._transaction(self._writer, self._epoch) as tx:
            yield tx

    @contextmanager
    def append(self) -> Iterator[Tx]:
        """``write`` for telemetry: where the database can, it runs beside other transactions, so it must lock the rows that it
        reads in order to write."""
        with self._transaction(self._appender, self._epoch, appends=True) if self.parallel else self.write() as tx:
            yield tx

    def claim(self, lost: Callable[[], None], stand_by: StandBy = refuse) -> AbstractContextManager[None]:
        """Be the one hub of this database, from entering until leaving or death.

        ``lost`` is called once, from a thread of its own, when another hub took the place while the database was away, or while
        this process was stopped. ``stand_by`` is asked again and again, while another hub has the place, whether to go on
        waiting; by default nobody waits.

        Raises:
            Conflict: another hub has it.
            Unavailable: the database cannot be reached.
        """
        return self._backend.claim(lost, stand_by, self._still_leads)

    def lead(self, *, holder: str, authority: str, at: datetime) -> Lease:
        """Begin a term, while ``claim`` is held: every writer of a term before has ended on return, and whatever it begins
        later is refused as Fenced. From here on this database writes in the new term."""
        with self._in_turn(), self._transaction(self._writer, None) as tx:
            self._backend.end_terms(tx)
            lease = leases.begin(tx, holder=holder, authority=authority, at=at)
        self._epoch = lease.epoch
        return lease

    def close(self) -> None:
        self._backend.engine.dispose()

    def _still_leads(self) -> bool:
        if self._epoch is None:
            return True
        with self.read() as tx:
            return leases.epoch(tx) == self._epoch

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        if not self._turn.acquire(timeout=BUSY_S):
            raise Unavailable("the database is busy: another writer did not end in time; try again")
        try:
            yield
        finally:
            self._turn.release()

    @contextmanager
    def _transaction(self, engine: Engine, epoch: int | None, *, appends: bool = False) -> Iterator[Tx]:
        """``epoch``: of the term it must be in; None: of any."""
        try:
            with engine.connect() as connection, connection.begin():
                if epoch is not None:
                    self._check_term(connection, epoch, appends=appends)
                yield connection
        except DataError as error:
            raise Invalid(f"a value cannot be stored: {_first_line(error)}") from error
        except DBAPIError as error:
            if (why := self._backend.unavailable(error)) is None:
                raise
            raise Unavailable(f"{why}: {_first_line(error)}; try again") from error
        except PoolTimeout as error:
            raise Unavailable("the database is busy: every connection is in use; try again") from error

    def _check_term(self, tx: Tx, epoch: int, *, appends: bool) -> None:
        """On return no other term can begin before ``tx`` ends. Raises Fenced."""
        if appends:
            self._backend.hold_term(tx)
        if (now := leases.epoch(tx)) != epoch:
            raise Fenced(f"another hub leads since term {now}, this one led in term {epoch}: it writes nothing any more")


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
