"""From the spool to the broker, and back to the start of what the hub has not committed."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from edge_agent.core.clock import Clock
from edge_agent.core.config import SyncConfig
from edge_agent.core.errors import LinkDown
from edge_agent.core.ports import Spool
from protos.contract.telemetry import Lane, Mark

log = logging.getLogger(__name__)

POLL_S = 5.0  # when nothing wakes it: a cut or a watermark that was not noticed waits no longer
RETRY_S = 1.0  # after the broker took nothing more


class Link(Protocol):
    """What the uplink needs of the line; ``MqttLink`` is one. Listeners are registered before it is started."""

    @property
    def connected(self) -> bool: ...

    def publish_telemetry(self, lane: Lane, payload: bytes) -> None:
        """Raises LinkDown: it was not taken."""

    def on_watermark(self, listener: Callable[[tuple[Mark, ...]], None]) -> None: ...

    def on_connected(self, listener: Callable[[], None]) -> None: ...


class Uplink:
    """Sends every batch in order until a watermark covers it; only a watermark makes the spool forget.

    Delivery is at-least-once with the same bytes each time: the hub drops repeats by (device, epoch, lane, first sequence).
    """

    def __init__(self, spool: Spool, link: Link, config: SyncConfig, clock: Clock) -> None:
        """Before ``link.start``: it registers its listeners here."""
        self._spool, self._link, self._config, self._clock = spool, link, config, clock
        self._changed = threading.Condition()  # guards the four below
        self._awake = True
        self._stopping = False
        self._reconnected = False
        self._marks: dict[tuple[str, Lane], Mark] = {}
        self._lanes = [_LaneState(lane) for lane in Lane]  # by priority
        self._thread = threading.Thread(target=self._run, name="uplink", daemon=True)
        spool.on_batch(self.wake)
        link.on_watermark(self._watermark)
        link.on_connected(self._connect)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread; safe more than once. What is not committed stays in the spool."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def wake(self) -> None:
        """There may be something to send; for any thread."""
        with self._changed:
            self._awake = True
            self._changed.notify()

    def _watermark(self, marks: tuple[Mark, ...]) -> None:
        with self._changed:
            for mark in marks:
                known = self._marks.get((mark.epoch, mark.lane))
                if known is None or known.committed_through < mark.committed_through:
                    self._marks[mark.epoch, mark.lane] = mark
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
                    self._state(mark.lane).commit(mark, now)
        for state in self._lanes:
            if reconnected or (state.cursor is not None and state.cursor.epoch != self._spool.epoch):
                state.go_back(now)
            elif now - state.progress_at >= self._config.stall_s:
                self._look_for_stall(state, now)
        if not self._link.connected:
            return POLL_S
        try:
            for state in self._lanes:
                self._send(state, now)
        except LinkDown as error:
            log.info("batches wait for the broker", extra={"error": str(error)})
            return RETRY_S
        return min(POLL_S, self._config.stall_s)

    def _send(self, state: "_LaneState", now: float) -> None:
        room = self._config.in_flight - len(state.in_flight)
        if room <= 0:
            return
        for batch, payload in self._spool.batches(after=state.cursor, lane=state.lane, limit=room):
            self._link.publish_telemetry(state.lane, payload)
            if not state.in_flight:
                state.progress_at = now  # nothing was waited for until now
            state.sent(Mark(epoch=batch.epoch, lane=state.lane, committed_through=batch.last_sequence))

    def _look_for_stall(self, state: "_LaneState", now: float) -> None:
        """The spool knows what is committed; a lane that sent something which is still there goes back to it."""
        state.progress_at = now
        if state.cursor is None:
            return
        oldest = self._spool.batches(after=None, lane=state.lane, limit=1)
        if oldest and oldest[0][0].last_sequence <= state.cursor.committed_through:
            log.warning(
                "no watermark, sending again",
                extra={"lane": state.lane.name.lower(), "first": oldest[0][0].first_sequence, "after_s": self._config.stall_s},
            )
            state.go_back(now)

    def _state(self, lane: Lane) -> "_LaneState":
        return next(state for state in self._lanes if state.lane is lane)


class _LaneState:
    """What of one lane is under way on the present connection."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.cursor: Mark | None = None  # last sent; None: start with the oldest
        self.in_flight: deque[int] = deque()  # last sequences of batches sent and not committed
        self.progress_at = 0.0  # monotonic

    def sent(self, mark: Mark) -> None:
        self.cursor = mark
        self.in_flight.append(mark.committed_through)

    def commit(self, mark: Mark, now: float) -> None:
        while self.in_flight and self.in_flight[0] <= mark.committed_through:
            self.in_flight.popleft()
            self.progress_at = now

    def go_back(self, now: float) -> None:
        self.cursor = None
        self.in_flight.clear()
        self.progress_at = now
