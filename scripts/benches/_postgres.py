"""A PostgreSQL server of a bench's own: nothing of a commit is left to chance, everything else is as it comes."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

_START_S = 60.0


@contextmanager
def postgres() -> Iterator[Path]:
    """Gives the folder with its socket. Raises RuntimeError where no server is installed."""
    binaries, user = _binaries(), "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="bench-pg-", dir="/tmp"))  # a socket's name is short
    if user is not None:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    data = folder / "data"
    initdb: list[str | Path] = [binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"]
    subprocess.run(initdb, cwd="/", user=user, check=True, capture_output=True)
    command: list[str | Path] = [
        binaries / "postgres",
        "-D",
        data,
        "-k",
        folder,
        "-c",
        "listen_addresses=",
        "-c",
        "max_wal_size=4GB",
    ]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, cwd="/", user=user, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + _START_S
        while not _answers(folder):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL does not start: {(folder / 'log').read_text()[-500:]}")
            time.sleep(0.05)
        yield folder
    finally:
        server.terminate()
        server.wait(_START_S)
        shutil.rmtree(folder)


def database(socket: Path, name: str) -> str:
    """URL of a new database."""
    with psycopg.connect(f"postgresql://postgres@/postgres?host={socket}", autocommit=True) as connection:
        connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))
    return f"postgresql://postgres@/{name}?host={socket}"


def _answers(socket: Path) -> bool:
    try:
        psycopg.connect(f"postgresql://postgres@/postgres?host={socket}").close()
    except psycopg.OperationalError:
        return False
    return True


def _binaries() -> Path:
    """Debian keeps them out of PATH; the newest version."""
    found = shutil.which("postgres")
    if found is not None:
        return Path(found).resolve().parent
    versions = list(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not versions:
        raise RuntimeError("no PostgreSQL server is installed: scripts/setup does it where it can")
    return max((path.parent for path in versions), key=lambda path: int(path.parent.name))
