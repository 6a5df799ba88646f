"""The outbox as letters: what goes to one sink next, and what became of it."""

import logging
import random
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from cloud_hub.core.notices import Letter
from cloud_hub.store import notices as store
from cloud_hub.store.database import Database
from cloud_hub.store.notices import Waiting
from edge_agent.core.clock import Clock

log = logging.getLogger(__name__)

MAX_LETTER = 500  # notices
_PAUSE_MIN_S, _PAUSE_MAX_S = 1.0, 300.0
_RETRY_AFTER_MAX_S = 3600.0
_MAX_REASON = 500


class Outbox:
    """For the dispatcher, one thread for each sink.

    Letters of one tenant to one sink go one after the other: while the first cannot be sent, the others wait, so that nobody
    learns of an end before its beginning.
    """

    def __init__(
        self,
        db: Database,
        clock: Clock,
        *,
        group_s: float,
        give_up_s: float,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._db = db
        self._clock = clock
        self._group = timedelta(seconds=group_s)
        self._give_up = timedelta(seconds=give_up_s)
        self._jitter = jitter

    def open(self, sinks: Sequence[str]) -> None:
        """At the start: what waits for sinks that are none any more is given up."""
        now = self._clock.now()
        with self._db.write() as tx:
            dropped = store.drop_others(tx, sinks, now)
        if dropped:
            log.warning("notices for sinks that are gone are given up", extra={"notices": dropped})

    def next(self, sink: str) -> Letter | None:
        """What is due, as much of it as fits into one letter; None: nothing is."""
        now = self._clock.now()
        with self._db.read() as tx:
            for queue in store.queues(tx, sink):
                waiting = store.waiting(tx, sink, queue.tenant, MAX_LETTER)
                if waiting and self._is_due(waiting[0], now, full=len(waiting) == MAX_LETTER):
                    notices = tuple(one.notice for one in waiting)
                    return Letter(id=notices[0].id, tenant=queue.tenant, notices=notices, at=now)
        return None

    def told(self, letter: Letter) -> None:
        with self._db.write() as tx:
            store.told(tx, _ids(letter), self._clock.now())

    def failed(self, sink: str, letter: Letter, reason: str, retry_after_s: float | None) -> float:
        """Try again later; what is too old is given up. Seconds until then."""
        now, reason = self._clock.now(), reason[:_MAX_REASON]
        with self._db.write() as tx:
            waiting = [one for one in store.waiting(tx, sink, letter.tenant, MAX_LETTER) if str(one.id) in _names(letter)]
            pause_s = self._pause_s(max((one.attempts for one in waiting), default=0), retry_after_s)
            old = [one.id for one in waiting if now - one.created_at >= self._give_up]
            store.give_up(tx, old, now, reason)
            store.failed(tx, [one.id for one in waiting if one.id not in old], now + timedelta(seconds=pause_s), reason)
        if old:
            log.error("notices given up", extra={"sink": sink, "notices": len(old), "reason": reason})
        return pause_s

    def give_up(self, sink: str, letter: Letter, reason: str) -> None:
        """The sink will never take it."""
        with self._db.write() as tx:
            store.give_up(tx, _ids(letter), self._clock.now(), reason[:_MAX_REASON])
        log.error("notices refused", extra={"sink": sink, "notices": len(letter.notices), "reason": reason[:_MAX_REASON]})

    def _is_due(self, head: Waiting, now: datetime, *, full: bool) -> bool:
        """What would have to wait longer than anything does was put off by a clock that has been put back since: it is due."""
        longest = timedelta(seconds=_RETRY_AFTER_MAX_S)
        rested = head.due_at <= now or head.due_at > now + longest
        gathered = full or head.created_at + self._group <= now or head.created_at > now + longest
        return rested and gathered

    def _pause_s(self, attempts: int, retry_after_s: float | None) -> float:
        doubled = min(_PAUSE_MAX_S, _PAUSE_MIN_S * 2.0 ** min(attempts, 20))
        asked = min(retry_after_s or 0.0, _RETRY_AFTER_MAX_S)
        return max(asked, doubled * (0.5 + self._jitter() / 2))


def _names(letter: Letter) -> set[str]:
    return {notice.id for notice in letter.notices}


def _ids(letter: Letter) -> list[int]:
    return [int(notice.id) for notice in letter.notices]
