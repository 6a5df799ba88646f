"""Which process is the one hub of a PostgreSQL database: a lock held by a session of its own, watched while the hub runs.

Whoever stands by looks ten times a second, so a hub that is killed is followed as soon as the server has noticed. One that is
stopped, or cut off, keeps its session: after SILENT_S without a word of its watch it is deposed.
"""

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, Row, text
from sqlalchemy.exc import SQLAlchemyError

from cloud_hub.core.errors import Conflict, Unavailable

StandBy = Callable[[str], bool]  # told who has the place; whether to wait for it. What it raises ends the waiting

TAKE_S = 5.0  # the server may need a moment to notice that the hub before this one was killed
WATCH_S = 2.0  # between two looks whether the session still lives
SILENT_S = 10.0  # a hub that has not looked for so long is stopped or cut off
_LOOK_S = 0.1
_JOIN_S = 5.0
_KEY = 0x7464_6C68  # of the advisory lock: "tdlh"


def refuse(_: str) -> bool:
    """Stands by for nobody."""
    return False


@contextmanager
def held(engine: Engine, lost: Callable[[], None], stand_by: StandBy, still: Callable[[], bool]) -> Iterator[None]:
    """``Database.claim``. A session that breaks takes the lock with it; a thread takes it again once the server answers, which
    is worth nothing unless ``still`` nobody else has led meanwhile."""
    claim = _Claim(engine, lost, still)
    claim.take_or_wait(stand_by)
    claim.watch()
    try:
        yield
    finally:
        claim.end()


class _Claim:
    def __init__(self, engine: Engine, lost: Callable[[], None], still: Callable[[], bool]) -> None:
        # AUTOCOMMIT: a transaction that stays open would keep the server from cleaning up
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._lost, self._still = lost, still
        self._name = f"cloud-hub {socket.gethostname()[:30]} {os.getpid()} {secrets.token_hex(4)}"
        self._connection: Connection | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="database-claim", daemon=True)

    def take_or_wait(self, stand_by: StandBy) -> None:
        """Raises Conflict, Unavailable, and what ``stand_by`` does."""
        try:
            self._try_until_taken(stand_by)
        except BaseException:
            self._drop()
            raise

    def watch(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._ending.set()
        self._thread.join(_JOIN_S)
        if not self._thread.is_alive():  # else it waits for a server that does not answer
            self._drop()

    def _try_until_taken(self, stand_by: StandBy) -> None:
        leader, deadline, not_before = "", time.monotonic() + TAKE_S, 0.0
        while True:
            try:
                if self._connection is None:
                    self._connect()
                    if leader:  # the database was away, for the one that leads as well: it goes first
                        not_before = time.monotonic() + 2 * WATCH_S
                if time.monotonic() >= not_before:
                    return self._take()
            except _Taken as taken:
                if stand_by(taken.by):
                    leader = taken.by
                elif time.monotonic() >= deadline:
                    raise
            except Unavailable:
                if not leader and time.monotonic() >= deadline:
                    raise  # a service manager starts it again
                if leader:
                    stand_by(leader)
            self._ending.wait(_LOOK_S)

    def _run(self) -> None:
        while not self._ending.wait(WATCH_S):
            try:
                if self._connection is None:
                    self._connect()
                    self._take()
                    if not self._still():
                        raise Conflict("another hub has led meanwhile")
                else:
                    self._connection.execute(text("SELECT 1"))
            except Conflict:
                self._drop()
                self._lost()
                return
            except (Unavailable, SQLAlchemyError):  # of the pool too, where every connection is in use
                self._drop()

    def _connect(self) -> None:
        """Raises Unavailable."""
        with self._available():
            self._connection = self._engine.connect()
            self._connection.execute(text("SELECT set_config('application_name', :name, false)"), {"name": self._name})

    def _take(self) -> None:
        """Over the connection there is. Raises _Taken, and then keeps it; Unavailable, and then does not."""
        assert self._connection is not None, "not connected"
        with self._available():
            holder = self._ask(self._connection)
        if holder is not None:
            raise _Taken(holder)

    @contextmanager
    def _available(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            self._drop()
            lines = str(getattr(error, "orig", error)).strip().splitlines()
            raise Unavailable(f"the database is not available: {lines[0] if lines else 'no answer'}") from error

    def _ask(self, connection: Connection) -> str | None:
        """None: the lock is ours; else who has it."""
        for _ in range(2):
            if connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": _KEY}).scalar():
                return None
            holder = connection.execute(_HOLDER, {"key": _KEY}).first()
            if holder is None:
                continue
            if not self._to_be_ended(holder):
                return f"{holder.name}, from {holder.host}"
            connection.execute(text("SELECT pg_terminate_backend(:pid, 2000)"), {"pid": holder.pid})
        return "one that is just leaving"

    def _to_be_ended(self, holder: Row[tuple[int, str, str, float]]) -> bool:
        """A session of our own, which the server has not seen break, or one that nobody speaks through any more."""
        return holder.name == self._name or (holder.silent_s is not None and holder.silent_s > SILENT_S)

    def _drop(self) -> None:
        """The session ends, and with it the lock."""
        if self._connection is not None:
            self._connection.invalidate()
            self._connection.close()
            self._connection = None


class _Taken(Conflict):
    def __init__(self, by: str) -> None:
        super().__init__(f"another hub runs on this database ({by}): stop it first")
        self.by = by


_HOLDER = text(
    "SELECT a.pid, a.application_name AS name, coalesce(host(a.client_addr), 'this machine') AS host, "
    "extract(epoch FROM clock_timestamp() - a.state_change)::float8 AS silent_s "
    "FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid "
    "WHERE l.locktype = 'advisory' AND l.granted AND l.classid = 0 AND l.objid = :key AND l.objsubid = 1 "
    "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
