"""The thread that hands kept frames to the hub."""

import logging
import threading
from collections.abc import Callable, Sequence

from edge_agent.core.backoff import Backoff
from edge_agent.core.budget import Budget
from edge_agent.core.errors import LinkDown, Permanent, Retryable
from edge_agent.core.model import Capture
from edge_agent.core.ports import Captures, Hub

log = logging.getLogger(__name__)

UPLOAD_BYTES = 1024  # of an upload, besides its content
LOOK_S = 1.0  # between looks into the folder while it is empty
AT_ONCE = 8  # captures held in memory


class Uploader:
    """Oldest first, one at a time. A capture leaves the disk only once the hub has it, or will never take it.

    With a ``budget`` of bytes it waits while that is used up.
    """

    def __init__(self, captures: Captures, connect: Callable[[], Hub], backoff: Backoff, budget: Budget | None = None) -> None:
        self._captures, self._connect, self._backoff, self._budget = captures, connect, backoff, budget
        self._stop = threading.Event()
        self._lock = threading.Lock()  # over _hub
        self._hub: Hub | None = None
        self._stale = False

    def run(self) -> None:
        """Until ``stop``."""
        while not self._stop.is_set():
            try:
                pending = self._captures.pending(AT_ONCE) if self._captures.count() and self._may_spend() else ()
                self._upload(pending)
                pause = 0.0 if pending else LOOK_S
                self._backoff.reset()
            except Retryable as error:
                pause = self._backoff.next()
                log.info("uploads wait", extra={"error": str(error), "pause_s": round(pause, 1)})
                self._hang_up()
            except Exception:  # the thread's outermost edge: without it nothing would be uploaded until a restart
                pause = self._backoff.next()
                log.exception("upload failed")
                self._hang_up()
            self._stop.wait(pause)
        self._hang_up()

    def stop(self) -> None:
        """End ``run``; an upload under way is cut and comes again."""
        self._stop.set()
        self._hang_up()

    def redial(self) -> None:
        """The certificate is a new one: connect anew before the next capture. One under way is not cut."""
        self._stale = True

    def _upload(self, pending: Sequence[Capture]) -> None:
        for capture in pending:
            if not self._may_spend():
                return
            if self._stale:
                self._stale = False
                self._hang_up()
            hub = self._dial()
            try:
                hub.upload(capture)
            except Permanent as error:
                log.warning("the hub refuses a capture, dropped", extra={"digest": capture.digest, "error": str(error)})
            self._captures.remove(capture.digest)
            if self._budget is not None:
                self._budget.spend(len(capture.content) + UPLOAD_BYTES)

    def _may_spend(self) -> bool:
        return self._budget is None or self._budget.left > 0

    def _dial(self) -> Hub:
        with self._lock:
            if self._stop.is_set():
                raise LinkDown("the agent stops")
            if self._hub is None:
                self._hub = self._connect()
            return self._hub

    def _hang_up(self) -> None:
        with self._lock:
            hub, self._hub = self._hub, None
        if hub is not None:
            hub.close()
