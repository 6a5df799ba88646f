"""A bound on the whole of a conversation: timeouts of sockets bound one step of it, and a peer may take a step a second."""

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType

_LOOK_S = 0.1


class Watchdog:
    """Shuts a socket down when its time is up, so that whoever waits on it gets an OSError or an end of file."""

    def __init__(self, seconds: float) -> None:
        self.expired = False
        self._seconds = seconds
        self._over = threading.Event()
        self._find: Callable[[], socket.socket | None] = lambda: None
        self._thread = threading.Thread(target=self._run, name="alert-watchdog", daemon=True)

    def over(self, find: Callable[[], socket.socket | None]) -> None:
        """``find`` gives the socket of now: None before there is one."""
        self._find = find

    def __enter__(self) -> "Watchdog":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()

    def _run(self) -> None:
        if self._over.wait(self._seconds):
            return
        self.expired = True
        while not self._over.wait(_LOOK_S):
            found = self._find()
            if found is not None:
                with contextlib.suppress(OSError):  # closed meanwhile
                    socket.socket.shutdown(
                        found, socket.SHUT_RDWR
                    )  # not TLS's own: it would pull the session from under a reader
