"""Databases for tests: a SQLite file and, where it is installed, a real PostgreSQL server of the tests' own.

``database_url`` and ``db`` give every test that asks for them a fresh, migrated database, first one kind and then the other.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from cloud_hub.store.database import Database
from tests.hub.mqtt_parts import wait_for

KINDS = ("sqlite", "postgres")
MISSING = "no PostgreSQL server, 15 or newer, is installed (Debian: apt-get install postgresql; scripts/setup does it)"
_START_S = 60.0

# The shell outlives a test run that is killed: its standard input ends with the run, then it ends the server and clears up.
_SUPERVISOR = """
(
  "$1/initdb" -D "$2/data" -U postgres -A trust -E UTF8 --locale=C --no-sync &&
  printf 'local all %s scram-sha-256\\nlocal all all trust\\n' "$3" >"$2/data/pg_hba.conf" &&
  "$1/postgres" -D "$2/data" -k "$2" -c listen_addresses= -c fsync=off -c max_connections=200
  : >"$2/ended"
) >"$2/log" 2>&1 &
read -r _
trap '' QUIT
kill -QUIT 0
wait
rm -rf "$2"
"""

_EMPTY = """
DO $$ DECLARE one record; BEGIN
  SET LOCAL session_replication_role = replica;  -- in any order
  FOR one IN SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version' LOOP
    EXECUTE format('DELETE FROM %I', one.name);
  END LOOP;
  FOR one IN SELECT sequencename AS name FROM pg_sequences WHERE schemaname = 'public' LOOP
    PERFORM setval(quote_ident(one.name), 1, false);
  END LOOP;
END $$
"""


@dataclass
class PostgresServer:
    """Listens on a Unix socket in ``folder``; whoever can open that may be any user, but ``password_user`` needs a password."""

    folder: Path
    binaries: Path
    password_user: str = "careful"
    password: str = "right-horse"
    made: int = 0
    _migrated: str = ""

    def start(self) -> None:
        """Raises RuntimeError with the server's own words."""
        user = server_user()
        if user is not None:
            os.chown(self.folder, pwd.getpwnam(user).pw_uid, -1)
        self._supervisor = subprocess.Popen(
            ["/bin/sh", "-c", _SUPERVISOR, "sh", self.binaries, self.folder, self.password_user],
            cwd="/",
            user=user,
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the tests
        )
        wait_for(self._answers, "the PostgreSQL server", _START_S)
        self.execute(f"CREATE ROLE {self.password_user} LOGIN PASSWORD '{self.password}'")

    def stop(self) -> None:
        assert self._supervisor.stdin is not None
        self._supervisor.stdin.close()
        self._supervisor.wait(_START_S)

    def url(self, database: str, user: str = "postgres", password: str = "") -> str:
        secret = f":{quote(password, safe='')}" if password else ""
        return f"postgresql://{user}{secret}@/{database}?host={self.folder}"

    def create(self, options: str = "") -> str:
        """A new database without tables; its name."""
        self.made += 1
        name = f"test{self.made}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE template0 {options}")
        return name

    def drop(self, name: str) -> None:
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def migrated(self) -> str:
        """The database with every table; its name."""
        if not self._migrated:
            self._migrated = self.create("LOCALE_PROVIDER icu ICU_LOCALE 'en'")  # sorts otherwise than SQLite and Python do
            _migrate(self.url(self._migrated))
        return self._migrated

    def empty(self, name: str) -> None:
        """Every row goes, and every connection. A copy of a database for each test would cost ten times as much."""
        self.execute(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'")
        self.execute(_EMPTY, name)

    def crash(self, pid: int) -> None:
        """Of the whole server: a session that is killed takes all of them with it."""
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not Path(f"/proc/{pid}").exists(), "the end of the session")

    def execute(self, statement: str, database: str = "postgres") -> None:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[call-overload]

    def _answers(self) -> bool:
        if (self.folder / "ended").exists():
            raise RuntimeError(f"the PostgreSQL server ended: {(self.folder / 'log').read_text()}")
        try:
            self.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One per test process, started when the first test asks for it."""
    if (binaries := server_binaries()) is None:
        pytest.skip(MISSING)
    # a short path, which any user can reach: a socket's name has 107 characters at most
    folder = Path(tempfile.mkdtemp(prefix="tideline-pg-", dir="/tmp"))
    server = PostgresServer(folder=folder, binaries=binaries)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("migrated") / "hub.db"
    _migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(params=KINDS)
def database_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def database_url(database_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Of a migrated database that is thrown away after the test."""
    if database_kind == "sqlite":
        shutil.copy(request.getfixturevalue("migrated_file"), tmp_path / "hub.db")
        yield f"sqlite:///{tmp_path / 'hub.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = server.migrated()
    yield server.url(name)
    server.empty(name)


@pytest.fixture
def empty_url(database_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Of a database without tables."""
    if database_kind == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = server.create()
    yield server.url(name)
    server.drop(name)


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


def _migrate(url: str) -> None:
    database = Database(url)
    database.migrate()
    database.close()


def server_binaries() -> Path | None:
    """Debian keeps them out of PATH; the newest version."""
    found = shutil.which("postgres")
    if found is not None:
        return Path(found).resolve().parent
    versions = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    return max((path.parent for path in versions), key=lambda path: int(path.parent.name), default=None)


def server_user() -> str | None:
    """The server refuses to run as root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        return "nobody"
