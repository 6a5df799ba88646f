"""How much a device may use of something in an hour: frames kept, bytes sent."""

import json
import logging
import threading
from datetime import datetime
from pathlib import Path

from edge_agent.core.clock import Clock
from edge_agent.core.files import write_atomic

log = logging.getLogger(__name__)

SAVED_SHARE = 0.01  # of the budget, at most, may be spent before it is saved: what a crash gives back


class Budget:
    """A token bucket: ``per_hour`` at once, and the same again over each hour. Thread-safe.

    With a ``path`` it goes on where it was after a restart, or a device that crashes in a loop would start each time with a
    full one. The time it was off is the wall clock's: one that went back refills nothing, one that leapt fills it at most once.
    """

    def __init__(self, per_hour: int, clock: Clock, path: Path | None = None) -> None:
        self._per_hour, self._clock, self._path = float(per_hour), clock, path
        self._lock = threading.Lock()
        self._tokens = self._per_hour if path is None else self._load(path)
        self._saved = self._tokens
        self._at = clock.monotonic()

    def take(self) -> bool:
        """Take one, if there is one."""
        with self._lock:
            if self._refill() < 1:
                return False
            self._tokens -= 1
            return True

    def spend(self, amount: float) -> None:
        """Take what is used in any case. A debt, of one hour's budget at most, is paid off before there is anything to take."""
        with self._lock:
            self._tokens = max(-self._per_hour, self._refill() - amount)

    @property
    def left(self) -> float:
        """Below 0: a debt."""
        with self._lock:
            return self._refill()

    def save(self, *, soon: bool = False) -> None:
        """Write it down where enough was spent since the last time, or with ``soon`` in any case; durable on return."""
        with self._lock:
            tokens = self._tokens
            if self._path is None or (not soon and self._saved - tokens < self._per_hour * SAVED_SHARE):
                return
            self._saved = tokens
        try:
            write_atomic(self._path, json.dumps({"tokens": tokens, "at": self._clock.now().isoformat()}).encode())
        except OSError as error:
            log.warning("budget not saved", extra={"path": str(self._path), "reason": str(error)})

    def _load(self, path: Path) -> float:
        """Full where there is nothing to go by."""
        try:
            values = json.loads(path.read_bytes())
            off_s = (self._clock.now() - datetime.fromisoformat(values["at"])).total_seconds()
            tokens = float(values["tokens"])
        except FileNotFoundError:
            return self._per_hour
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("budget is damaged and begins anew", extra={"path": str(path), "reason": str(error)})
            return self._per_hour
        return self._refilled(max(-self._per_hour, tokens), max(0.0, off_s))

    def _refill(self) -> float:
        now = self._clock.monotonic()
        self._tokens = self._refilled(self._tokens, now - self._at)
        self._at = now
        return self._tokens

    def _refilled(self, tokens: float, passed_s: float) -> float:
        return min(self._per_hour, tokens + passed_s * self._per_hour / 3600)
