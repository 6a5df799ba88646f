"""Of several hubs on one PostgreSQL one leads; the others stand by, serve nothing, and take over when it is gone.

A term begins with an epoch one higher than every one before; a transaction that writes checks it (``Database.lead``), so what a
hub does that has lost the lead without knowing is refused by the database.
"""

import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from types import FrameType, TracebackType

from cloud_hub.app import monitor, setup
from cloud_hub.broker.supervisor import end_left_over
from cloud_hub.core.config import HubConfig
from cloud_hub.core.errors import Conflict, Unavailable
from cloud_hub.store.database import Database
from edge_agent.core.clock import SystemClock
from edge_agent.core.http import verdict
from edge_agent.core.notify import Notify

log = logging.getLogger(__name__)

_BEAT_S = 2.0
_BEGIN_S = 40.0  # a stopped hub's transaction is ended by the server within fifteen seconds, and writers wait ten


@contextlib.contextmanager
def leading(config: HubConfig, notify: Notify) -> Iterator[int | None]:
    """The epoch of our term, once there is one; None where a signal ended the waiting.

    Raises:
        Conflict: the database is one of another authority, or another hub took over before the context ended.
        HubError: the database cannot be used.
    """
    lost = threading.Event()

    def stop() -> None:
        log.error("another hub leads by now: this one stops")
        lost.set()
        os.kill(os.getpid(), signal.SIGTERM)

    with contextlib.closing(setup.open_database(config)) as database, _Waiting(config, notify) as waiting:
        try:
            with database.claim(stop, waiting.stand_by):
                waiting.end()
                if waiting.leader:
                    log.info("takes over", extra={"from": waiting.leader})
                setup.initialise(config)
                yield _begin(config, database)
        except _Stopped:
            yield None
    if lost.is_set():
        raise Conflict("another hub took over while the database was away, or while this process was stopped")


def _begin(config: HubConfig, database: Database) -> int:
    authority = setup.authority_digest(setup.open_authority(config))
    holder = f"{socket.gethostname()[:60]} {config.data_dir} (process {os.getpid()})"
    deadline = time.monotonic() + _BEGIN_S
    while True:
        try:
            lease = database.lead(holder=holder, authority=authority, at=SystemClock().now())
        except Unavailable as error:
            if time.monotonic() > deadline:
                raise
            log.warning("the term cannot begin yet", extra={"reason": str(error)})
        else:
            return lease.epoch


class _Stopped(Exception):
    """A signal came while we stood by."""


class _Waiting:
    """Standing by: alive but not ready for whoever asks, and ended by a signal. Does nothing where nobody has to wait."""

    def __init__(self, config: HubConfig, notify: Notify) -> None:
        self._config, self._notify = config, notify
        self._stopping = threading.Event()
        self.leader = ""  # whom we waited for; empty: for nobody
        self._beat_at = 0.0
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "_Waiting":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end()

    def stand_by(self, leader: str) -> bool:
        """Raises _Stopped."""
        if not self.leader:
            self._begin()
        if leader != self.leader:
            log.info("standing by", extra={"leader": leader})
            self.leader = leader
        if self._stopping.is_set():
            raise _Stopped
        if "WATCHDOG_USEC" in os.environ and time.monotonic() >= self._beat_at:
            self._notify("WATCHDOG=1")
            self._beat_at = time.monotonic() + _BEAT_S
        return True

    def end(self) -> None:
        """Whoever waited leads now, or gives up."""
        self._stack.close()

    def _begin(self) -> None:
        end_left_over(self._config.data_dir)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._stack.callback(signal.signal, number, signal.signal(number, self._stop))
        pages = {
            "/livez": lambda _: verdict({}),
            "/readyz": lambda _: verdict({"leader": f"standing by: {self.leader} leads"}),
        }
        self._stack.enter_context(monitor.serving(self._config.metrics, pages))
        self._notify("READY=1")

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping.set()
