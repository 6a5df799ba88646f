"""Go-back-N over one lane: which batches wait, which are under way, and when to begin again."""

from collections import deque
from collections.abc import Sequence

from edge_agent.core.backoff import Backoff
from edge_agent.core.config import SyncConfig
from protos.contract.telemetry import Batch, Lane, Mark


class LaneWindow:
    """Times are monotonic seconds. Not thread-safe.

    After a stall all that was under way goes again: a hub learns that a hole will not be filled from what comes again behind
    it. The pauses before that double, so that a hub that is down for a day is not flooded by its fleet every few seconds.
    """

    def __init__(self, lane: Lane, config: SyncConfig, backoff: Backoff) -> None:
        self.lane = lane
        self.cursor: Mark | None = None  # last handed out by the spool; None: start with the oldest
        self.reached: Mark | None = None  # last sent since it began again
        self.ready: deque[tuple[Mark, bytes]] = deque()  # handed out, not sent
        self.served = 0.0  # its turns so far, in bytes by weight
        self.in_flight = 0
        self.in_flight_bytes = 0
        self._config, self._backoff = config, backoff
        self._sent: deque[tuple[int, int]] = deque()  # last sequence and size of what is under way
        self._ready_bytes = 0
        self._highest: Mark | None = None  # ever sent
        self._ticket = 0  # of the last message
        self._since = 0.0  # when it began to wait for a watermark
        self._patience_s = backoff.next()

    @property
    def room(self) -> tuple[int, int]:
        """Batches and bytes that the spool may still hand out; none where one of the two is used up."""
        batches = self._config.in_flight - len(self._sent) - len(self.ready)
        size = self._config.in_flight_bytes - self.in_flight_bytes - self._ready_bytes
        return (batches, size) if batches > 0 and size > 0 else (0, 0)

    def hand(self, batches: Sequence[tuple[Batch, bytes]]) -> None:
        for batch, payload in batches:
            self.cursor = Mark(epoch=batch.epoch, lane=self.lane, committed_through=batch.last_sequence)
            self.ready.append((self.cursor, payload))
            self._ready_bytes += len(payload)

    def sent(self, ticket: int, now: float) -> bool:
        """The first that was ready is under way as message ``ticket``; whether it was before."""
        mark, payload = self.ready.popleft()
        self.reached = mark
        if not self._sent:
            self._since = now  # nothing was waited for until now
        self._sent.append((mark.committed_through, len(payload)))
        self._ready_bytes -= len(payload)
        self._count()
        self._ticket = ticket
        known = self._highest
        repeated = known is not None and known.epoch == mark.epoch and known.committed_through >= mark.committed_through
        if not repeated:
            self._highest = mark
        return repeated

    def commit(self, mark: Mark, now: float) -> None:
        progress = False
        while self._sent and self._sent[0][0] <= mark.committed_through:
            self._sent.popleft()
            progress = True
        while self.ready and self.ready[0][0].committed_through <= mark.committed_through:
            self._ready_bytes -= len(self.ready.popleft()[1])
        if progress:
            self._count()
            self._since = now
            self._backoff.reset()
            self._patience_s = self._backoff.next()

    def waits_too_long(self, now: float, *, acknowledged: int) -> bool:
        """Whether the broker has had all that was sent for so long that the hub should have said so.

        Time counts only while the broker holds everything: what is still on its way over a slow link comes, or the connection
        ends.
        """
        if self._ticket > acknowledged:
            self._since = now
        return self.reached is not None and now - self._since >= self._patience_s

    def keep_waiting(self, now: float) -> None:
        self._since = now

    def go_back(self, now: float, *, stalled: bool = False) -> None:
        self.cursor = self.reached = None
        self.ready.clear()
        self._sent.clear()
        self._ready_bytes = 0
        self._count()
        self._since = now
        self._ticket = 0
        if stalled:
            self._patience_s = self._backoff.next()

    def _count(self) -> None:
        self.in_flight = len(self._sent)
        self.in_flight_bytes = sum(size for _, size in self._sent)
