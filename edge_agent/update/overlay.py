"""Which configuration from the hub an agent starts with, decided before anything is built from it.

An agent that cannot even start with a configuration must lose it by itself: each start on trial is counted on disk before the
configuration is used, and what cannot be used is given up here, not by the engine, which such an agent never reaches.
"""

import contextlib
import json
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.core.config import AgentConfig
from edge_agent.core.errors import ConfigError, Corrupt
from edge_agent.core.files import sync_folder, write_atomic
from edge_agent.update.shelf import Berth, Shelf, ShelfRecord
from protos.contract.twin import PackageAssignment, PackageKind

log = logging.getLogger(__name__)

FOLDER = "config"  # of the data directory
MAX_BYTES = 256 << 10
_MAX_REASON = 400
_OPEN = (  # section, key, least, most: beyond these no download ends well, or the hub is not looked for again
    ("update", "max_attempts", 1, math.inf),
    ("update", "fetch_timeout_s", 1, math.inf),
    ("update", "rate_window_s", 1, math.inf),
    ("sync", "keepalive_s", 1, 65535),
    ("sync", "backoff_min_s", 0.01, 86400),
    ("sync", "backoff_max_s", 0.1, 86400),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fall:
    """What was given up here, for the engine to tell of."""

    digest: str
    reason: str
    damaged: bool = False  # it was good, and its bytes are no more those that were fetched


def check_open(config: AgentConfig) -> None:
    """Raises ConfigError: with it the agent could take nothing more from the hub, nor what would mend that."""
    for section, key, least, most in _OPEN:
        if not least <= (value := getattr(getattr(config, section), key)) <= most:
            raise ConfigError(f"'{section}.{key}' must be in {least:g}..{most:g}, got {value:g}: no other update would come")


class Overlay:
    """The shelf of configurations, with the count of starts on trial. Not thread-safe."""

    def __init__(self, data_dir: Path) -> None:
        """Raises OSError."""
        self.shelf = Shelf(data_dir / FOLDER, PackageKind.CONFIG)
        self.running: PackageAssignment | None = None  # in this process
        self._berth: Berth | None = None
        self._starts = data_dir / FOLDER / "starts.json"
        self._fallen = data_dir / FOLDER / "fallen.json"

    def begin(self, load: Callable[[Path], AgentConfig], own: AgentConfig) -> AgentConfig:
        """The configuration to run with: the newest that can be used, or the device's ``own``. ``load``: with an overlay."""
        berth, tried = self.shelf.current(), set[Berth]()
        while berth is not None and berth not in tried:
            tried.add(berth)
            record = self.shelf.record(berth)
            try:
                self.shelf.check(berth)
                if record is not None and not record.good:
                    self._count(record, own.update.max_attempts)
                settings = load(berth.file)
            except (ConfigError, Corrupt) as error:
                previous = self.shelf.fallback(than=berth)
                damaged = isinstance(error, Corrupt) and record is not None and record.good
                self._give_up(berth, record, previous, str(error), damaged=damaged)
                berth = previous
                continue
            self.running, self._berth = record.assignment if record is not None else None, berth
            return settings
        return own

    def shun(self, reason: str) -> bool:
        """What this process runs with cannot be used after all: another start does without. False: that cannot be kept."""
        berth = self._berth
        if berth is None:
            return False
        return self._give_up(berth, self.shelf.record(berth), self.shelf.fallback(than=berth), reason)

    def fall(self) -> Fall | None:
        """What was given up since ``forget``."""
        values = _read(self._fallen)
        digest, reason = values.get("digest"), values.get("reason")
        if not isinstance(digest, str) or not isinstance(reason, str):
            return None
        return Fall(digest=digest, reason=reason, damaged=values.get("damaged") is True)

    def forget(self) -> None:
        """The engine knows of the fall, or begins anew."""
        with contextlib.suppress(OSError):  # a disk that fails: it is told of again, or a trial has fewer starts
            for path in (self._fallen, self._starts):
                path.unlink(missing_ok=True)
            sync_folder(self.shelf.folder)

    def _count(self, record: ShelfRecord, max_starts: int) -> None:
        """Raises ConfigError: that was often enough, or one that cannot be counted is not made."""
        values, digest = _read(self._starts), record.assignment.digest
        count = values.get("count") if values.get("digest") == digest else 0
        count = count if type(count) is int and count >= 0 else max_starts
        if count >= max_starts:
            raise ConfigError(f"the agent did not survive {count} starts with it")
        try:
            write_atomic(self._starts, json.dumps({"digest": digest, "count": count + 1}).encode())
        except OSError as error:
            raise ConfigError(f"its start could not be counted: {error.strerror}") from error

    def _give_up(
        self, berth: Berth, record: ShelfRecord | None, previous: Berth | None, reason: str, *, damaged: bool = False
    ) -> bool:
        """Written down first, so that it is told of; whether the pointer has moved, away from it."""
        log.error("configuration from the hub is not used", extra={"place": berth.name, "reason": reason})
        try:
            digest = record.assignment.digest if record is not None else ""
            told = {"digest": digest, "reason": reason[:_MAX_REASON], "damaged": damaged}
            write_atomic(self._fallen, json.dumps(told).encode())
            self.shelf.mark(berth, good=False)
            self.shelf.activate(previous)
        except OSError as error:
            log.error("that could not be kept", extra={"error": str(error)})
            return False
        return True


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}
