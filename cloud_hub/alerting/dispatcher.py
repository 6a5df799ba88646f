"""Brings notices to sinks: a thread for each, so that a slow one holds up nobody but itself."""

import logging
import threading
from collections.abc import Sequence
from dataclasses import replace
from enum import Enum

from sqlalchemy.exc import SQLAlchemyError

from cloud_hub.core.errors import HubError
from cloud_hub.core.notices import Letter, Sink, SinkDown, SinkRefused
from cloud_hub.services.notices import Outbox

log = logging.getLogger(__name__)

_POLL_S = 0.5
_PAUSE_S = 2.0  # while the outbox cannot be read
_JOIN_S = 15.0


class _Outcome(Enum):
    TOLD = 1
    LATER = 2
    REFUSED = 3  # as a whole
    GIVEN_UP = 4


class Dispatcher:
    """At least once, in order for each tenant and sink, and never within anybody's transaction."""

    def __init__(self, outbox: Outbox, sinks: Sequence[Sink]) -> None:
        self._outbox = outbox
        self._sinks = sinks
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        self._outbox.open([sink.route.sink for sink in self._sinks])
        for sink in self._sinks:
            name = f"alert-sink-{sink.route.sink}"
            thread = threading.Thread(target=self._run, args=(sink,), name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Letters that are under way get their time; what is not told is told after the next start."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(_JOIN_S)

    def alive(self) -> bool:
        return bool(self._threads) and all(thread.is_alive() for thread in self._threads)

    def _run(self, sink: Sink) -> None:
        while not self._stopping.is_set():
            try:
                if not self.send_next(sink):
                    self._stopping.wait(_POLL_S)
            except (SQLAlchemyError, HubError) as error:
                log.warning("outbox cannot be used now", extra={"sink": sink.route.sink, "reason": str(error)})
                self._stopping.wait(_PAUSE_S)
            except Exception:  # outermost edge of the thread: the outbox is durable, so the next round tries again
                log.exception("sink failed", extra={"sink": sink.route.sink})
                self._stopping.wait(_PAUSE_S)

    def send_next(self, sink: Sink) -> bool:
        """False: nothing is due."""
        letter = self._outbox.next(sink.route.sink)
        if letter is None:
            return False
        if self._send(sink, letter) is not _Outcome.REFUSED:
            return True
        for notice in letter.notices:  # one of them is what the sink cannot take: only that one is given up
            if self._send(sink, replace(letter, id=notice.id, notices=(notice,))) is _Outcome.LATER or self._stopping.is_set():
                break
        return True

    def _send(self, sink: Sink, letter: Letter) -> _Outcome:
        try:
            sink.send(letter)
        except SinkRefused as error:
            if len(letter.notices) == 1:
                self._outbox.give_up(sink.route.sink, letter, str(error))
                return _Outcome.GIVEN_UP
            return _Outcome.REFUSED
        except SinkDown as error:
            self._later(sink, letter, str(error), error.retry_after_s)
            return _Outcome.LATER
        except Exception as error:  # a sink's bug must not take its notices with it
            log.exception("unexpected error of a sink", extra={"sink": sink.route.sink})
            self._later(sink, letter, f"{type(error).__name__}: {error}", None)
            return _Outcome.LATER
        self._outbox.told(letter)
        return _Outcome.TOLD

    def _later(self, sink: Sink, letter: Letter, reason: str, retry_after_s: float | None) -> None:
        pause_s = self._outbox.failed(sink.route.sink, letter, reason, retry_after_s)
        fields = {"sink": sink.route.sink, "reason": reason, "retry_in_s": round(pause_s, 1)}
        log.warning("sink is down", extra=fields)
