"""The agent itself: two application bundles on a shelf, started by ``edge-agent-launcher`` and tried for a while.

A bundle is one zip file with the agent's own packages, as a wheel has them; what it imports besides is the board's.
"""

import contextlib
import json
import os
import subprocess
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_agent.core import launch
from edge_agent.core.errors import BadPackage, Corrupt
from edge_agent.core.files import sync_folder
from edge_agent.core.launch import App, Start
from edge_agent.update.components.shelved import CHECK_S, MAX_WORDS, SPARE_S, ShelvedInstaller, record_of
from edge_agent.update.components.trial import Trial
from edge_agent.update.fetch import Fetcher
from edge_agent.update.record import Component, Effect, Update, package_of
from edge_agent.update.shelf import Shelf
from protos.contract.twin import PackageAssignment, PackageKind

MAX_BYTES = 256 << 20
MAX_UNPACKED_BYTES = 1 << 30
_NEEDED = ("edge_agent/app/cli.py", "edge_agent/app/check.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """How a bundle is tried before it is ever started: its own ``edge_agent.app.check``, in a process of its own."""

    arguments: Callable[[], Sequence[str]]  # by which it finds this device's configuration, as it is then
    timeout_s: float = CHECK_S


class BundleInstaller(ShelvedInstaller):
    """See ``installer.Installer``. A bundle becomes active with a new start of the agent."""

    component = Component.AGENT

    def __init__(
        self,
        folder: Path,
        fetcher: Fetcher,
        trial: Trial,
        checked: Checked,
        *,
        started: Start | None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        """``started``: by the launcher, as what; None: without it, and then no bundle can ever be started."""
        super().__init__(Shelf(folder, PackageKind.AGENT), fetcher, trial, max_bytes=max_bytes)
        self._app = App(folder)
        self._checked, self._started = checked, started
        self.verify_s = checked.timeout_s + SPARE_S
        self.activate_s = SPARE_S
        self._running = self._find_running()

    def running(self) -> PackageAssignment | None:
        return self._running

    def boot(self, trial: Update | None, *, suspect: bool) -> str:
        """What is started was decided by the launcher, before this process was."""
        fallen = launch.read(self._app.fallen)
        reason = str(fallen.get("reason", "the launcher gave it up"))[:MAX_WORDS]
        if trial is None:
            digest = str(fallen.get("digest", ""))  # empty: it is the record beside the bundle that cannot be read
            self._damaged = bool(fallen) and (not digest or self._has_good(digest))
            with contextlib.suppress(OSError):
                self._forget_fall()
            return reason if self._damaged else ""
        if fallen.get("digest") == package_of(trial).digest:
            return reason
        current = self._shelf.current()
        if current is None or current.name != trial.place or self._runs(trial):
            return ""  # it is not active yet, or it runs
        return "the launcher did not start it" if self._started is not None else "the agent was started without its launcher"

    # -- in the order of an update ----------------------------------------------------------------------------------------

    def place(self, update: Update) -> str:
        """Not where this process lives: it still imports from there."""
        if self._started is None:
            raise BadPackage("the agent was not started by edge-agent-launcher: no other agent could take its place")
        kept: str | None = self._started.place
        if kept == launch.NONE:
            current = self._shelf.current()
            kept = current.name if current is not None else None
        return "b" if kept == "a" else "a"

    def present(self, update: Update) -> str:
        current = self._shelf.current()
        if current is None or self._started is None or self._started.place != current.name or not self._runs(update):
            return ""
        self._shelf.prepare(current, record_of(update))
        return current.name

    def verify(self, update: Update) -> None:
        """It holds an agent, which can import all of itself here and reads this device's configuration."""
        berth = self._berth(update)
        self._shelf.check(berth)
        _check_archive(berth.file)
        start = Start(place=berth.name, digest=package_of(update).digest)
        program, env = launch.command(self._app, start, (), os.environ)
        command = [program[0], "-P", "-B", "-m", "edge_agent.app.check", *self._checked.arguments()]
        try:
            done = subprocess.run(
                command, env=env, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, timeout=self._checked.timeout_s
            )
        except subprocess.TimeoutExpired as error:
            raise BadPackage(f"its check took longer than {self._checked.timeout_s:.0f} s") from error
        if done.returncode != 0:
            raise BadPackage(f"its check ended with {done.returncode}: {_last_words(done.stderr)}")
        _check_origin(done.stdout, berth.file)

    def activate(self, update: Update) -> Effect:
        if self._runs(update):
            return Effect.NOW
        berth = self._berth(update)
        if self._shelf.current() != berth:
            self._shelf.check(berth)
            self._trial.begin()
            self._forget_fall()
            self._app.starts.unlink(missing_ok=True)  # of the same bundle, another time
            sync_folder(self._app.folder)
            self._shelf.mark(berth, good=False)  # on trial: the launcher counts its starts
            self._shelf.activate(berth)
        return Effect.RESTART

    def commit(self, update: Update) -> None:
        self._shelf.mark(self._berth(update), good=True)

    def roll_back(self, update: Update) -> Effect:
        berth = self._berth(update)
        if self._shelf.current() == berth:
            self._shelf.activate(self._shelf.fallback(than=berth))
        self._shelf.mark(berth, good=False)
        self._forget_fall()
        return Effect.RESTART if self._runs(update) else Effect.NOW

    def fall_back(self, reason: str) -> Effect | None:
        current = self._shelf.current()
        if current is None or self._started is None or self._started.place != current.name:
            return None
        self._shelf.activate(self._shelf.fallback(than=current))  # the board's own agent is always there
        self._shelf.mark(current, good=False)
        return Effect.RESTART

    # -- pieces -----------------------------------------------------------------------------------------------------------

    def _find_running(self) -> PackageAssignment | None:
        if self._started is None or self._started.place == launch.NONE:
            return None
        record = self._shelf.record(self._shelf.slot(self._started.place))
        return record.assignment if record is not None and record.assignment.digest == self._started.digest else None

    def _runs(self, update: Update) -> bool:
        return self._started is not None and (self._started.place, self._started.digest) == (
            update.place or self._started.place,
            package_of(update).digest,
        )

    def _has_good(self, digest: str) -> bool:
        return any(record.good and record.assignment.digest == digest for _, record in self._shelf.records())

    def _forget_fall(self) -> None:
        self._app.fallen.unlink(missing_ok=True)


def _check_archive(file: Path) -> None:
    """Raises BadPackage, or Corrupt where a part of it cannot be read."""
    try:
        with zipfile.ZipFile(file) as archive:
            missing = set(_NEEDED) - set(archive.namelist())
            if (size := sum(each.file_size for each in archive.infolist())) > MAX_UNPACKED_BYTES:
                raise BadPackage(f"it holds {size >> 20} MiB of files, at most {MAX_UNPACKED_BYTES >> 20} are taken here")
            damaged = archive.testzip() if not missing else None
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise BadPackage(f"it is no bundle: {error}") from error
    if missing:
        raise BadPackage(f"it holds no agent: {', '.join(sorted(missing))} is missing")
    if damaged is not None:
        raise Corrupt(f"{damaged} in the bundle is damaged")


def _check_origin(said: bytes, file: Path) -> None:
    """That it was the bundle which was tried, and not what is installed beside it."""
    try:
        origin = str(json.loads(said)["origin"])
    except (ValueError, KeyError, TypeError) as error:
        raise BadPackage(f"its check does not say what it checked: {_last_words(said)}") from error
    if not origin.startswith(f"{file.absolute()}{os.sep}"):
        raise BadPackage(f"its check looked at {origin} instead of the bundle")


def _last_words(printed: bytes) -> str:
    text = " ".join(printed.decode("utf-8", "replace").split())[-MAX_WORDS:]
    return "".join(letter if letter.isprintable() else " " for letter in text) or "no output"
