"""PostgreSQL as the hub's database, through psycopg 3."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar

from sqlalchemy import URL, Connection, create_engine, event, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from cloud_hub.core.errors import NotReady
from cloud_hub.store import claim

CONNECTIONS = 32  # of one process at most
_WRITERS = 0x7464_6C77  # the advisory lock that writers of all processes take: "tdlw"
_TERM = 0x7464_6C74  # that those who append share while they do, so that no term begins beside them: "tdlt"

# Unless the URL says otherwise. A server that vanished without a word is noticed after half a minute, not after hours.
_CONNECT = {
    "connect_timeout": "5",
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
    "target_session_attrs": "read-write",  # of several hosts the primary
}
# The server notices a vanished client as soon, and ends a stopped one's transaction: its locks must not outlive it.
_SESSION = {
    "tcp_keepalives_idle": "15",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "idle_in_transaction_session_timeout": "15s",
    "synchronous_commit": "on",
}

_BUSY = ("55P03", "57014")  # lock_not_available, query_canceled (a statement_timeout of the role)
_AWAY = (
    "08",  # the connection broke
    "25P03",  # idle_in_transaction_session_timeout: this process was stopped in the middle
    "40",  # deadlock, serialization failure
    "53",  # disk full, out of memory, too many connections
    "57P",  # shutdown, crash, starting up
    "58",  # the server's own files
)


class Postgres:
    parallel: ClassVar[bool] = True
    read: ClassVar[Mapping[str, Any]] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    # what a writer reads after its turn has come must be what the last one left, so each statement sees the newest
    write: ClassVar[Mapping[str, Any]] = {"isolation_level": "READ COMMITTED", "tideline_mode": "write"}
    append: ClassVar[Mapping[str, Any]] = {"isolation_level": "READ COMMITTED", "tideline_mode": "append"}

    @staticmethod
    def takes(url: URL) -> bool:
        return url.get_backend_name() == "postgresql" and bool(url.database)

    def __init__(self, url: URL, *, busy_s: float) -> None:
        """Connects later. Raises NotReady where psycopg is not installed."""
        session = {**_SESSION, "lock_timeout": f"{busy_s * 1000:.0f}"}
        options = " ".join(f"-c {name}={value}" for name, value in session.items())
        try:
            self.engine = create_engine(
                url.set(drivername="postgresql+psycopg").difference_update_query(["options"]),
                pool_size=CONNECTIONS // 2,
                max_overflow=CONNECTIONS // 2,
                pool_timeout=busy_s,
                pool_pre_ping=True,
                hide_parameters=True,
                connect_args={
                    **{name: value for name, value in _CONNECT.items() if name not in url.query},
                    "options": f"{options} {url.query.get('options', '')}".strip(),  # the last of a name wins
                },
            )
        except ImportError as error:
            raise NotReady("a PostgreSQL database needs psycopg: pip install 'tideline[postgres]'") from error
        event.listen(self.engine, "begin", _begin)
        event.listen(self.engine, "handle_error", _drop_stale)

    def unavailable(self, error: DBAPIError) -> str | None:
        state: str | None = getattr(error.orig, "sqlstate", None)
        if state in _BUSY:
            return "the database is busy"
        # without a state it is libpq's own: it could not connect, or the connection is gone
        away = state.startswith(_AWAY) if state else isinstance(error, (OperationalError, InterfaceError))
        return "the database is not available" if away or error.connection_invalidated else None

    def settle(self, tx: Connection) -> None:
        """Text sorts and compares by its bytes, as in SQLite and in Python, whatever the database was made with."""
        if (encoding := tx.execute(text("SHOW server_encoding")).scalar()) != "UTF8":
            raise NotReady(f"the database's encoding is {encoding}: make it anew with ENCODING 'UTF8'")
        quoted = tx.dialect.identifier_preparer.quote
        changes: dict[str, list[str]] = defaultdict(list)
        for table, column in tx.execute(_OTHER_COLLATIONS):
            changes[table].append(f'ALTER COLUMN {quoted(column)} TYPE text COLLATE "C"')
        for table, columns in changes.items():
            tx.exec_driver_sql(f"ALTER TABLE {quoted(table)} {', '.join(columns)}")

    def hold_term(self, tx: Connection) -> None:
        tx.exec_driver_sql(f"SELECT pg_advisory_xact_lock_shared({_TERM})")

    def end_terms(self, tx: Connection) -> None:
        tx.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_TERM})")

    def claim(
        self, lost: Callable[[], None], stand_by: claim.StandBy, still: Callable[[], bool]
    ) -> AbstractContextManager[None]:
        return claim.held(self.engine, lost, stand_by, still)


_OTHER_COLLATIONS = text(
    "SELECT c.table_name, c.column_name FROM information_schema.columns c JOIN information_schema.tables t "
    "USING (table_schema, table_name) WHERE c.table_schema = current_schema() AND t.table_type = 'BASE TABLE' "
    "AND c.data_type = 'text' AND c.collation_name IS NULL ORDER BY c.table_name, c.ordinal_position"
)


def _begin(connection: Connection) -> None:
    if connection.get_execution_options().get("tideline_mode") == "write":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITERS})")


def _drop_stale(context: ExceptionContext) -> None:
    """Throw away a connection that would say the same for ever."""
    state = getattr(context.original_exception, "sqlstate", None)
    writes = context.connection is not None and "tideline_mode" in context.connection.get_execution_options()
    demoted = writes and state == "25006"  # read_only_sql_transaction: what was the primary is a standby now
    diagnosis = getattr(context.original_exception, "diag", None)
    migrated = (
        state == "0A000" and getattr(diagnosis, "source_function", "") == "RevalidateCachedQuery"
    )  # a prepared statement's
    if demoted or migrated:
        context.is_disconnect = True
