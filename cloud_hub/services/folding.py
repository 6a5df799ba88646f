"""The one fold: landed batches, each stream in its order and each batch once, through everything that looks at readings.

Batches are read and decoded, and windows are computed, outside of the write transaction, which others wait for. What comes out
of it is written in one: windows, verdicts, alerts, the engines' states and how far the streams are folded. A crash anywhere
folds nothing twice and leaves nothing out. Of several processes one folds a page; the others find the fence moved, and take
the next one.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Protocol

from cloud_hub.core.config import DriftConfig
from cloud_hub.core.metrics import HubMetrics
from cloud_hub.core.ports import WindowListener
from cloud_hub.services.drift_fold import DriftFold
from cloud_hub.services.engines import Engines
from cloud_hub.services.gate_fold import GateFold
from cloud_hub.services.stream_fold import StreamFold
from cloud_hub.services.unfolding import Page, unfold
from cloud_hub.services.versions import Versions
from cloud_hub.store import landing, stream_states
from cloud_hub.store.database import Database, Tx
from cloud_hub.store.landing import Landed
from cloud_hub.store.stream_states import DRIFT, StreamState
from cloud_hub.store.streams import StreamKey
from edge_agent.core.clock import Clock
from protos.contract.ids import DeviceId
from protos.contract.telemetry import to_ms

log = logging.getLogger(__name__)

PAGE_BATCHES = 500  # folded in one transaction: some tens of milliseconds
TICK_PAGES = 50  # folded in one tick, so that closing idle windows is not put off for ever
IDLE_STATES = 500  # closed in one transaction
HOLE_MS = 3_600_000  # so long the windows of a silent device wait for a hole in its stream to be filled


class Consumer(Protocol):
    """Something that looks at readings. Calls come in the order ``read``, ``fold`` or ``close_idle``, ``write``; one that fails
    is followed by ``forget``."""

    def read(self, tx: Tx, devices: Iterable[DeviceId]) -> None:
        """Have what is needed of ``devices`` at hand, in a snapshot."""

    def fold(self, page: Page) -> None:
        """Without the database: nothing that others can see happens here."""

    def close_idle(self, stored: StreamState) -> None:
        """The same for windows that are over because nothing came for long."""

    def write(self, tx: Tx, now_ms: int) -> None:
        """What came out of it, in the transaction that says that it was folded."""

    def forget(self) -> None:
        """What is remembered may be old."""


class Fold:
    """``tick`` may run in one thread at a time; any number of processes may tick on one database."""

    def __init__(
        self,
        db: Database,
        drift: DriftConfig,
        clock: Clock,
        *,
        listeners: Sequence[WindowListener] = (),
        metrics: HubMetrics | None = None,
    ) -> None:
        self._db = db
        self._clock = clock
        self._metrics = metrics or HubMetrics()
        self._versions = Versions()
        self._engines = Engines()
        self._drift = DriftFold(drift, self._engines)
        self._streams = StreamFold(self._engines, listeners)
        self._consumers: tuple[Consumer, ...] = (self._drift, self._streams, GateFold())
        self._turn: int | None = None  # of the fence when this process wrote last; None: nothing is remembered

    def tick(self, now: datetime | None = None) -> None:
        """Fold what has landed, as far as one tick goes, and close what is over by the wall clock alone."""
        now = now or self._clock.now()
        for _ in range(TICK_PAGES):
            started_s = self._clock.monotonic()
            folded = self._fold_page(to_ms(now))
            if folded:
                self._metrics.fold_seconds.observe(self._clock.monotonic() - started_s)
            if folded < PAGE_BATCHES:
                break
        self._close_idle(to_ms(now))

    def _fold_page(self, now_ms: int) -> int:
        """Batches folded, by this process or another one."""
        with self._remembering():
            with self._db.read() as tx:
                self._catch_up(tx)
                batches = landing.unfolded(tx, PAGE_BATCHES)
                if not batches:
                    return 0
                self._read(tx, {batch.device for batch in batches})
                page = unfold(tx, batches, self._versions)
            for consumer in self._consumers:
                consumer.fold(page)
            self._write(_reached(batches), now_ms)
        return len(batches)

    def _close_idle(self, now_ms: int) -> None:
        """Windows of devices that say nothing more: when one more window has passed on the wall clock. A device with batches
        that are not folded is not silent, however long ago they were."""
        with self._remembering():
            with self._db.read() as tx:
                self._catch_up(tx)
                idle = stream_states.due(tx, now_ms, now_ms - HOLE_MS, IDLE_STATES)
                self._read(tx, {state.device for state in idle})
                if not idle and not self._streams.fleet_moves(tx, now_ms):
                    return
            for state in idle:
                (self._drift if state.stream == DRIFT else self._streams).close_idle(state)
            self._write({}, now_ms)

    def _catch_up(self, tx: Tx) -> None:
        turn = stream_states.turn(tx)
        if turn != self._turn:
            self._forget()
            self._turn = turn

    def _read(self, tx: Tx, devices: set[DeviceId]) -> None:
        self._engines.load(tx, devices)
        for consumer in self._consumers:
            consumer.read(tx, devices)

    def _write(self, reached: Mapping[StreamKey, int], now_ms: int) -> None:
        assert self._turn is not None
        with self._db.write() as tx:
            if not stream_states.take_turn(tx, self._turn):
                self._forget()  # another process has folded it
                return
            for consumer in self._consumers:
                consumer.write(tx, now_ms)
            self._engines.write(tx)
            landing.fold_through(tx, reached)
            self._streams.close_fleet(tx, now_ms)
            self._engines.write(tx)
        self._turn += 1

    @contextmanager
    def _remembering(self) -> Iterator[None]:
        """What fails half-way leaves nothing in memory: the database says what was."""
        try:
            yield
        except BaseException:
            self._forget()
            raise

    def _forget(self) -> None:
        self._turn = None
        self._engines.forget()
        for consumer in self._consumers:
            consumer.forget()


def _reached(batches: Sequence[Landed]) -> dict[StreamKey, int]:
    """The last sequence of each stream; its batches come in order."""
    return {batch.stream: batch.last_sequence for batch in batches}
