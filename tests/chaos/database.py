"""A PostgreSQL server for a run, which can be killed and started again."""

import os
import pwd
import signal
import subprocess
import tempfile
from pathlib import Path

import psycopg

from tests.e2e.system import wait_for
from tests.hub.databases import server_binaries, server_user


class Postgres:
    """Commits are on the disk before they are acknowledged, as in production."""

    def __init__(self) -> None:
        binaries = server_binaries()
        assert binaries is not None, "no PostgreSQL server is installed"
        self._binaries = binaries
        self._user = server_user()
        # a short path, which any user can reach: a socket's name has 107 characters at most
        self._folder = Path(tempfile.mkdtemp(prefix="chaos-pg-", dir="/tmp"))
        self._process: subprocess.Popen[bytes] | None = None
        if self._user is not None:
            os.chown(self._folder, pwd.getpwnam(self._user).pw_uid, -1)
        options = ["-D", str(self._folder / "data"), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"]
        subprocess.run([binaries / "initdb", *options], cwd="/", user=self._user, capture_output=True, check=True)
        self.start()
        with psycopg.connect(f"host={self._folder} user=postgres dbname=postgres", autocommit=True) as connection:
            connection.execute("CREATE DATABASE hub TEMPLATE template0")

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://postgres@/hub?host={self._folder}"

    def start(self) -> None:
        with (self._folder / "log").open("ab") as log:
            command = [
                str(self._binaries / "postgres"),
                "-D",
                f"{self._folder}/data",
                "-k",
                str(self._folder),
                "-c",
                "listen_addresses=",
            ]
            self._process = subprocess.Popen(
                [*command, "-c", "max_connections=200"],
                cwd="/",
                user=self._user,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(self._answers, "PostgreSQL")

    def kill(self) -> None:
        """At once, every one of its processes, as a power cut would."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        subprocess.run(["pkill", "-KILL", "-f", f"^{self._binaries}/postgres -D {self._folder}/data"], check=False)
        (self._folder / "data" / "postmaster.pid").unlink(missing_ok=True)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(30)
        subprocess.run(["rm", "-rf", str(self._folder)], check=False)

    def _answers(self) -> bool:
        try:
            with psycopg.connect(f"host={self._folder} user=postgres dbname=postgres"):
                return True
        except psycopg.OperationalError:
            return False
