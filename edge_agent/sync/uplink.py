"""From the spool to the broker, and back to the start of what the hub has not committed."""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from edge_agent.core.backoff import Backoff
from edge_agent.core.budget import Budget
from edge_agent.core.clock import Clock
from edge_agent.core.config import SyncConfig
from edge_agent.core.errors import LinkDown
from edge_agent.core.ports import Spool, UplinkStats
from edge_agent.sync.window import LaneWindow
from protos.contract.telemetry import Lane, Mark

log = logging.getLogger(__name__)

POLL_S = 5.0  # when nothing wakes it: a cut or a watermark that was not noticed waits no longer
RETRY_S = 1.0  # after the broker took nothing more
SEND_AHEAD_BYTES = 64 << 10  # on their way to the broker: a critical record waits behind no more than this
WEIGHTS = {Lane.NORMAL: 4, Lane.BULK: 1}  # shares of a link that is too narrow for both


class Link(Protocol):
    """What the uplink needs of the line; ``MqttLink`` is one. Listeners are registered before it is started."""

    @property
    def connected(self) -> bool: ...

    @property
    def connects(self) -> int:
        """Connections made so far."""

    @property
    def traffic_bytes(self) -> int:
        """Sent and received so far, on all connections."""

    @property
    def unacknowledged_bytes(self) -> int:
        """Of what was published on this connection and the broker has not said that it holds."""

    @property
    def acknowledged(self) -> int:
        """The broker holds, or has refused, every message up to this number."""

    def publish_telemetry(self, lane: Lane, payload: bytes) -> int:
        """The message's number, counted on over connections. Raises LinkDown: it was not taken."""

    def on_watermark(self, listener: Callable[[tuple[Mark, ...]], None]) -> None: ...

    def on_connected(self, listener: Callable[[], None]) -> None: ...

    def on_acknowledged(self, listener: Callable[[], None]) -> None: ...


class Uplink:
    """Sends every batch in order until a watermark covers it; only a watermark makes the spool forget.

    Delivery is at-least-once with the same bytes each time: the hub drops repeats by (device, epoch, lane, first sequence).
    The critical lane goes first, also beyond a ``budget``; normal and bulk share the link by weight, and on a metered one
    normal goes before bulk.
    """

    def __init__(self, spool: Spool, link: Link, config: SyncConfig, clock: Clock, budget: Budget | None = None) -> None:
        """Before ``link.start``: it registers its listeners here. ``budget``: of bytes, on a metered link."""
        self._spool, self._link, self._config, self._clock, self._budget = spool, link, config, clock, budget
        self._changed = threading.Condition()  # guards the four below
        self._awake = True
        self._stopping = False
        self._reconnected = False
        self._marks: dict[tuple[str, Lane], Mark] = {}
        self._windows = [  # by priority
            LaneWindow(lane, config, Backoff(2 * config.stall_s, max(config.stall_max_s, 2 * config.stall_s))) for lane in Lane
        ]
        self._served = 0.0  # turns of whoever was served last
        self._charged = link.traffic_bytes
        self._sent_batches = self._sent_bytes = self._repeated = self._stalls = self._over_budget_bytes = 0
        self._watermark_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="uplink", daemon=True)
        spool.on_batch(self.wake)
        link.on_watermark(self._watermark)
        link.on_connected(self._connect)
        link.on_acknowledged(self.wake)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread; safe more than once. What is not committed stays in the spool."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()
        if self._budget is not None:
            self._budget.save(soon=True)

    def wake(self) -> None:
        """There may be something to send; for any thread."""
        with self._changed:
            self._awake = True
            self._changed.notify()

    def stats(self) -> UplinkStats:
        now, heard = self._clock.monotonic(), self._watermark_at
        return UplinkStats(
            in_flight=sum(window.in_flight for window in self._windows),
            in_flight_bytes=sum(window.in_flight_bytes for window in self._windows),
            sent_batches=self._sent_batches,
            sent_bytes=self._sent_bytes,
            repeated_batches=self._repeated,
            stalls=self._stalls,
            connects=self._link.connects,
            watermark_age_s=None if heard is None else now - heard,
            traffic_bytes=self._link.traffic_bytes,
            metered=self._budget is not None,
            budget_left_bytes=None if self._budget is None else int(self._budget.left),
            over_budget_bytes=self._over_budget_bytes,
        )

    def _watermark(self, marks: tuple[Mark, ...]) -> None:
        with self._changed:
            for mark in marks:
                known = self._marks.get((mark.epoch, mark.lane))
                if known is None or known.committed_through < mark.committed_through:
                    self._marks[mark.epoch, mark.lane] = mark
            self._watermark_at = self._clock.monotonic()
            self._awake = True
            self._changed.notify()

    def _connect(self) -> None:
        with self._changed:
            self._reconnected = self._awake = True
            self._changed.notify()

    # -- its own thread ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        pause_s = POLL_S
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._awake or self._stopping, timeout=pause_s)
                if self._stopping:
                    return
                marks, self._marks = tuple(self._marks.values()), {}
                reconnected, self._reconnected = self._reconnected, False
                self._awake = False
            try:
                pause_s = self._turn(marks, reconnected=reconnected)
            except Exception:  # the thread's outermost edge: without it nothing would be sent until a restart
                log.exception("uplink failed, trying again")
                pause_s = POLL_S

    def _turn(self, marks: Sequence[Mark], *, reconnected: bool) -> float:
        """Forget what is committed, send what fits; seconds until there may be more to do."""
        now = self._clock.monotonic()
        if marks:
            self._spool.discard(marks)
            for mark in marks:
                if mark.epoch == self._spool.epoch:
                    self._windows[mark.lane - 1].commit(mark, now)
        for window in self._windows:
            if reconnected or (window.cursor is not None and window.cursor.epoch != self._spool.epoch):
                window.go_back(now)
            elif window.waits_too_long(now, acknowledged=self._link.acknowledged):
                self._look_for_stall(window, now)
        if not self._link.connected:
            return POLL_S
        try:
            self._send(now)
        except LinkDown as error:
            log.info("batches wait for the broker", extra={"error": str(error)})
            return RETRY_S
        finally:
            self._charge()
        return min(POLL_S, self._config.stall_s)

    def _send(self, now: float) -> None:
        for window in self._windows:
            idle = not window.ready
            batches, size = window.room
            if batches:
                found = self._spool.batches(after=window.cursor, lane=window.lane, limit=batches, limit_bytes=size)
                if found and window.cursor is not None and found[0][0].epoch != window.cursor.epoch:
                    window.go_back(now)  # reading it, the spool has begun another epoch: what is under way is of the old one
                window.hand(found)
            if idle:
                window.served = max(window.served, self._served)  # nobody saves up turns
        critical, *others = self._windows
        while critical.ready:
            if not self._may_spend():
                self._over_budget_bytes += len(critical.ready[0][1])
            self._publish(critical, now)
        while self._link.unacknowledged_bytes < SEND_AHEAD_BYTES and self._may_spend():
            waiting = [window for window in others if window.ready]
            if not waiting:
                return
            window = waiting[0] if self._budget is not None else min(waiting, key=lambda window: window.served)
            self._served = window.served
            window.served += len(window.ready[0][1]) / WEIGHTS[window.lane]
            self._publish(window, now)

    def _publish(self, window: LaneWindow, now: float) -> None:
        payload = window.ready[0][1]
        ticket = self._link.publish_telemetry(window.lane, payload)
        self._repeated += window.sent(ticket, now)
        self._sent_batches += 1
        self._sent_bytes += len(payload)

    def _may_spend(self) -> bool:
        if self._budget is None:
            return True
        self._charge()
        return self._budget.left > self._link.unacknowledged_bytes

    def _charge(self) -> None:
        if self._budget is not None:
            traffic = self._link.traffic_bytes
            self._budget.spend(traffic - self._charged)
            self._charged = traffic
            self._budget.save()

    def _look_for_stall(self, window: LaneWindow, now: float) -> None:
        """The spool knows what is committed; a lane that sent something which is still there goes back to it."""
        window.keep_waiting(now)
        oldest = self._spool.batches(after=None, lane=window.lane, limit=1)
        if oldest and window.reached is not None and oldest[0][0].last_sequence <= window.reached.committed_through:
            self._stalls += 1
            log.warning(
                "no watermark, sending again",
                extra={"lane": window.lane.name.lower(), "first": oldest[0][0].first_sequence, "stalls": self._stalls},
            )
            window.go_back(now, stalled=True)
