"""A device that dies again and again, by kill -9 and by power cuts, with an agent that updates all the time."""

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.app.cli import RESTART
from protos.contract.update import UpdateState
from tests.agent.infer.traps import WHITE
from tests.chaos.power import Lost, Power
from tests.conformance.agent import Agent

BOOT_S = 90.0  # a suspect model is held back for 20 s; the rest is for a busy machine
LOOK_S = 0.01
QUICK_BOOT_S = 0.8
UPDATE = {
    "settle_s": 1.0,
    "reach_timeout_s": 60.0,
    "probation_s": 1.0,  # time for whoever takes the device down to hear that what is deadly runs
    "probation_inferences": 5,
    "max_latency_ratio": 1e6,
    "disk_reserve_bytes": 1,
}


class Victim(Agent):
    def __init__(self, folder: Path, library: Path) -> None:
        super().__init__(folder)
        self.configure(update=UPDATE, spool={"max_bytes": 1 << 20})
        self.show(np.stack([WHITE] * 8))
        self.power = Power(library, self.data_dir, folder / "durable")
        self._log = folder / "log"
        self._log.touch()
        self._from = 0  # of this process, in the log
        self._environment: dict[str, str] = {}
        self._began, self._inferred, self._booted_s = 0.0, False, QUICK_BOOT_S

    def born(self, *, lies: bool = False, at: int = 0, only: tuple[str, ...] = ()) -> None:
        """As ``Power.environment``. It was killed so often and so soon only because time is short here: by its own count,
        its last life lasted."""
        (self.data_dir / "starts").unlink(missing_ok=True)
        self.power.settle()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("EDGE_AGENT__")}
        environment |= self.power.environment(lies=lies, at=at, only=only)
        self._environment = environment
        self._begin()

    def _begin(self) -> None:
        self._from = self._log.stat().st_size
        self._began, self._inferred = time.monotonic(), False
        command = [sys.executable, "-m", "edge_agent.app.cli", "run", "--config", str(self.folder / "agent.yaml")]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=self._environment)

    def forget_journal(self) -> None:
        for path in self.data_dir.glob("updates.sqlite*"):
            path.unlink()

    @property
    def ended_with(self) -> int | None:
        """How the process ended; None: it has not."""
        return self.process.poll() if self.process is not None else None

    @property
    def life(self) -> str | None:
        """The id of this one; None: it has not said so."""
        return (self.said("agent starts") or {}).get("boot_id")

    @property
    def started_with(self) -> str | None:
        """The digest of the model that ran when it had started."""
        return (self.said("agent starts") or {}).get("model")

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def lives(self, seconds: float) -> None:
        """No longer."""
        self.lives_until(lambda: False, seconds)

    def lives_until(self, condition: Callable[[], object], seconds: float) -> bool:
        """Whether it held in time, and in the life of the process."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if condition():
                return True
            ended = self.ended_with
            if ended == RESTART:  # as its service does
                self._begin()
            elif ended is not None:
                return bool(condition())
            time.sleep(LOOK_S)
        return bool(condition())

    def said(self, message: str) -> dict[str, Any] | None:
        """The first line of it in this life."""
        with self._log.open("rb") as log:
            log.seek(self._from)
            for line in log:
                if message.encode() in line:
                    try:
                        values = json.loads(line)
                    except ValueError:
                        continue
                    if isinstance(values, dict) and values.get("message") == message:
                        return values
        return None

    @property
    def slowness(self) -> float:
        """How long its last start took, in starts on an idle machine; 1 at least. Times that depend on it are given by it."""
        return max(1.0, self._booted_s / QUICK_BOOT_S)

    def infers(self) -> bool:
        if self.said("first inference") is None:
            return False
        if not self._inferred:
            self._inferred, self._booted_s = True, time.monotonic() - self._began
        return True

    def dies(self, dice: random.Random | None) -> Lost | None:
        """By kill -9, and with ``dice`` by a power cut. On return nobody writes to its disk."""
        super().kill()
        return self.power.cut(dice) if dice is not None else None

    def journal(self, component: str) -> dict[int, UpdateState]:
        """By generation; a copy is read, so that nothing is mended by looking. Empty: it cannot be read."""
        with tempfile.TemporaryDirectory() as copy:
            for path in self.data_dir.glob("updates.sqlite*"):
                shutil.copy(path, copy)
            try:
                with closing(sqlite3.connect(Path(copy) / "updates.sqlite")) as db:
                    return {
                        int(row[0]): UpdateState(row[1])
                        for row in db.execute("SELECT generation, state FROM updates WHERE component = ?", (component,))
                    }
            except sqlite3.DatabaseError:
                return {}

    def last_words(self) -> str:
        with self._log.open("rb") as log:
            log.seek(self._from)
            return log.read()[-600:].decode("utf-8", "replace")
