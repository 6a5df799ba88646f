"""The agent's configuration: a YAML file from the hub over the device's own, tried by starting the agent with it."""

import subprocess
import sys
from collections.abc import Sequence

from edge_agent.core.errors import BadPackage
from edge_agent.update.components.shelved import CHECK_S, MAX_WORDS, SPARE_S, ShelvedInstaller, record_of
from edge_agent.update.components.trial import Trial
from edge_agent.update.fetch import Fetcher
from edge_agent.update.overlay import MAX_BYTES, Overlay
from edge_agent.update.record import Component, Effect, Update, package_of
from protos.contract.twin import PackageAssignment


class ConfigInstaller(ShelvedInstaller):
    """See ``installer.Installer``. ``overlay`` has decided what this process runs with, before it was built."""

    component = Component.CONFIG
    verify_s = CHECK_S + SPARE_S
    activate_s = SPARE_S

    def __init__(self, overlay: Overlay, fetcher: Fetcher, trial: Trial, check: Sequence[str]) -> None:
        """``check``: arguments by which ``edge_agent.app.check`` finds this device's configuration."""
        super().__init__(overlay.shelf, fetcher, trial, max_bytes=MAX_BYTES)
        self._overlay, self._check = overlay, tuple(check)

    def running(self) -> PackageAssignment | None:
        return self._overlay.running

    def boot(self, trial: Update | None, *, suspect: bool) -> str:
        fall = self._overlay.fall()
        if fall is None:
            return ""
        if trial is None:
            self._damaged = fall.damaged or not fall.digest  # without a digest it is the record beside it that cannot be read
            self._overlay.forget()
            return "" if self._damaged else fall.reason
        return fall.reason if fall.digest in ("", package_of(trial).digest) else ""

    # -- in the order of an update ----------------------------------------------------------------------------------------

    def place(self, update: Update) -> str:
        current = self._shelf.current()
        return "b" if current is not None and current.name == "a" else "a"

    def present(self, update: Update) -> str:
        current = self._shelf.current()
        record = self._shelf.record(current) if current is not None else None
        if current is None or record is None or not record.good or record.assignment != update.assignment:
            return ""
        if self.running() != update.assignment:
            return ""
        self._shelf.prepare(current, record_of(update))
        return current.name

    def verify(self, update: Update) -> None:
        """The agent's own loader reads it, with the device's files under it, in a process of its own."""
        berth = self._berth(update)
        self._shelf.check(berth)
        command = [sys.executable, "-m", "edge_agent.app.check", *self._check, "--overlay", str(berth.file)]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=CHECK_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise BadPackage(f"its check took longer than {CHECK_S:.0f} s") from error
        if done.returncode != 0:
            words = " ".join(done.stderr.decode("utf-8", "replace").split())[-MAX_WORDS:]
            raise BadPackage(f"it cannot be used here: {words or f'its check ended with {done.returncode}'}")

    def activate(self, update: Update) -> Effect:
        berth = self._berth(update)
        if self._shelf.current() != berth:
            self._shelf.check(berth)
            self._trial.begin()
            self._overlay.forget()  # starts and falls of another time
            self._shelf.mark(berth, good=False)  # on trial: its starts are counted
            self._shelf.activate(berth)
            return Effect.RESTART
        return Effect.NOW if self.running() == update.assignment else Effect.RESTART

    def commit(self, update: Update) -> None:
        self._shelf.mark(self._berth(update), good=True)
        self._overlay.forget()

    def roll_back(self, update: Update) -> Effect:
        berth = self._berth(update)
        if self._shelf.current() == berth:
            self._shelf.activate(self._shelf.fallback(than=berth))
        self._shelf.mark(berth, good=False)
        self._overlay.forget()
        return Effect.RESTART if self.running() == update.assignment else Effect.NOW

    def fall_back(self, reason: str) -> Effect | None:
        current = self._shelf.current()
        if current is None:
            return None
        self._shelf.activate(self._shelf.fallback(than=current))  # the device's own is always there
        self._shelf.mark(current, good=False)
        return Effect.RESTART
