"""Which process is the one hub of a PostgreSQL database: a lock held by a session of its own, watched while the hub runs."""

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from cloud_hub.core.errors import Conflict, Unavailable

TAKE_S = 5.0  # the server may need a moment to notice that the hub before this one was killed
WATCH_S = 2.0  # between two looks whether the session still lives
_LOOK_S = 0.1
_JOIN_S = 5.0
_KEY = 0x7464_6C68  # of the advisory lock: "tdlh"


@contextmanager
def held(engine: Engine, lost: Callable[[], None]) -> Iterator[None]:
    """``Database.claim``. A session that breaks takes the lock with it; a thread takes it again once the server answers."""
    claim = _Claim(engine, lost)
    claim.take_or_wait()
    claim.watch()
    try:
        yield
    finally:
        claim.end()


class _Claim:
    def __init__(self, engine: Engine, lost: Callable[[], None]) -> None:
        # AUTOCOMMIT: a transaction that stays open would keep the server from cleaning up
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._lost = lost
        self._name = f"cloud-hub {socket.gethostname()[:30]} {os.getpid()} {secrets.token_hex(4)}"
        self._connection: Connection | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="database-claim", daemon=True)

    def take_or_wait(self) -> None:
        """Raises Conflict, Unavailable."""
        deadline = time.monotonic() + TAKE_S
        while True:
            try:
                return self._take()
            except Conflict:
                if time.monotonic() >= deadline:
                    raise
                self._ending.wait(_LOOK_S)

    def watch(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._ending.set()
        self._thread.join(_JOIN_S)
        if not self._thread.is_alive():  # else it waits for a server that does not answer
            self._drop()

    def _run(self) -> None:
        while not self._ending.wait(WATCH_S):
            try:
                if self._connection is None:
                    self._take()
                else:
                    self._connection.execute(text("SELECT 1"))
            except Conflict:
                self._lost()
                return
            except (Unavailable, SQLAlchemyError):  # of the pool too, where every connection is in use
                self._drop()

    def _take(self) -> None:
        try:
            self._connection = self._engine.connect()
            holder = self._ask(self._connection)
        except SQLAlchemyError as error:
            self._drop()
            lines = str(getattr(error, "orig", error)).strip().splitlines()
            raise Unavailable(f"the database is not available: {lines[0] if lines else 'no answer'}") from error
        if holder is not None:
            self._drop()
            raise Conflict(f"another hub runs on this database ({holder}): stop it first")

    def _ask(self, connection: Connection) -> str | None:
        """None: the lock is ours; else who has it."""
        connection.execute(text("SELECT set_config('application_name', :name, false)"), {"name": self._name})
        for _ in range(2):
            if connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": _KEY}).scalar():
                return None
            holder = connection.execute(_HOLDER, {"key": _KEY}).first()
            if holder is None:
                continue
            if holder.name != self._name:
                return f"{holder.name}, from {holder.host}"
            # our own session, which the server has not seen break
            connection.execute(text("SELECT pg_terminate_backend(:pid, 2000)"), {"pid": holder.pid})
        return "one that is just leaving"

    def _drop(self) -> None:
        """The session ends, and with it the lock."""
        if self._connection is not None:
            self._connection.invalidate()
            self._connection.close()
            self._connection = None


_HOLDER = text(
    "SELECT a.pid, a.application_name AS name, coalesce(host(a.client_addr), 'this machine') AS host "
    "FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid "
    "WHERE l.locktype = 'advisory' AND l.granted AND l.classid = 0 AND l.objid = :key AND l.objsubid = 1 "
    "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
