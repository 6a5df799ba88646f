"""Readings as they are stored, to whoever watches.

One thread looks for new batches, for all watchers: they are told row numbers only. Each reads its batches at its own pace, so a
slow one holds up nobody and takes little memory; one that is too slow is told so and ended, never given less.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from cloud_hub.core.errors import Exhausted, HubError, Unavailable
from cloud_hub.core.model import StoredReading
from cloud_hub.services.versions import Versions
from cloud_hub.store import arrivals, fleet
from cloud_hub.store.arrivals import Arrival, Arrivals
from cloud_hub.store.database import Database, Tx
from edge_agent.core.clock import Clock
from protos.contract import codec
from protos.contract.ids import DeviceId, TenantId
from protos.contract.telemetry import Batch

log = logging.getLogger(__name__)

MAX_TAILS = 64
MAX_LAST = 10_000  # readings told at the beginning
MAX_PENDING = 200_000  # batches that a watcher is behind
PAGE_READINGS = 4000
POLL_S = 0.5
_SELECT_EVERY_S = 10.0  # how old the devices of a selector may be
_BATCHES = 16  # read at once


class Tail:
    """One watcher. ``take`` and ``close`` belong to it; the rest to the poller."""

    def __init__(
        self,
        db: Database,
        versions: Versions,
        tenant: TenantId,
        wake: Callable[[], None],
        device: DeviceId | None,
        selector: Mapping[str, str],
    ) -> None:
        self.tenant = tenant
        self.device = device
        self.closed = False
        self._db = db
        self._versions = versions
        self._wake = wake
        self._selector = selector
        self._devices: frozenset[DeviceId] | None = None  # None: every one, or ``device``
        self._pending: deque[int] = deque()
        self._ready: list[StoredReading] = []
        self._error: HubError | None = None

    def take(self) -> list[StoredReading]:
        """The next page; empty: nothing is there now.

        Raises:
            Exhausted: too much has come, or was archived, before it could be taken.
        """
        while len(self._ready) < PAGE_READINGS and self._pending and not self._error:
            self._load()
        if self._error and not self._ready:
            raise self._error
        page, self._ready = self._ready[:PAGE_READINGS], self._ready[PAGE_READINGS:]
        return page

    def close(self) -> None:
        """Never waits."""
        self.closed = True

    def start(self, tx: Tx, last: int) -> None:
        """With about so many readings that ``tx`` sees."""
        self.select(tx)
        rows: list[int] = []
        records = 0
        for id, device, count in arrivals.newest(tx, self.tenant, self.device) if last else ():
            if self.wants(device):
                rows.append(id)
                records += count
                if records >= last:
                    break
        self._ready = [one for chunk in _chunks(rows[::-1]) for one in self._decoded(tx, chunk)][-last:] if rows else []

    def select(self, tx: Tx) -> None:
        """Devices come and go, and so do their labels."""
        if self._selector:
            self._devices = frozenset(fleet.matching_ids(tx, self.tenant, self._selector))

    def wants(self, device: DeviceId) -> bool:
        return (self.device is None or device == self.device) and (self._devices is None or device in self._devices)

    def tell(self, found: Sequence[Arrival]) -> None:
        own = [arrival.id for arrival in found if arrival.tenant == self.tenant and self.wants(arrival.device)]
        if not own or self._error:
            return
        self._pending.extend(own)
        if len(self._pending) > MAX_PENDING:
            self.fail(Exhausted(f"more than {MAX_PENDING} batches came before they could be told: tail fewer devices"))
        self._wake()

    def fail(self, error: HubError) -> None:
        self._error = error
        self._wake()

    def _load(self) -> None:
        rows = [self._pending.popleft() for _ in range(min(_BATCHES, len(self._pending)))]
        with self._db.read() as tx:
            self._ready += self._decoded(tx, rows)

    def _decoded(self, tx: Tx, rows: Sequence[int]) -> list[StoredReading]:
        found = arrivals.payloads(tx, rows)
        if len(found) < len(rows):
            self._error = Exhausted("readings were archived before they could be told: query them instead")
        return [
            reading
            for row in rows
            if row in found
            for reading in _readings(tx, self._versions, self.tenant, found[row][0], codec.decode_batch(found[row][1]))
        ]


class Tails:
    """Thread-safe. Its thread runs while somebody watches."""

    def __init__(self, db: Database, clock: Clock, versions: Versions) -> None:
        self._db = db
        self._clock = clock
        self._versions = versions
        self._lock = threading.Lock()  # of everything below, polls included
        self._tails: list[Tail] = []
        self._arrivals = Arrivals(clock, parallel=db.parallel)
        self._selected_s = 0.0
        self._stop: threading.Event | None = None  # of the thread that runs

    def open(
        self,
        tenant: TenantId,
        wake: Callable[[], None],
        device: DeviceId | None = None,
        selector: Mapping[str, str] | None = None,
        last: int = 0,
    ) -> Tail:
        """Raises Exhausted where too many watch."""
        tail = Tail(self._db, self._versions, tenant, wake, device, selector or {})
        with self._lock:
            self._prune()
            if len(self._tails) >= MAX_TAILS:
                raise Exhausted(f"{MAX_TAILS} tails are open: end one first")
            with self._db.read() as tx:  # one snapshot: what it sees is told now if at all, everything else later
                if self._tails:
                    self._tell(tx)
                else:
                    self._arrivals.begin(tx)
                tail.start(tx, min(last, MAX_LAST))
            self._tails.append(tail)
            if self._stop is None:
                self._stop = threading.Event()
                threading.Thread(target=self._run, args=(self._stop,), name="tails", daemon=True).start()
        return tail

    def close(self) -> None:
        with self._lock:
            self._fail(Exhausted("the hub stops"))
            self._tails.clear()
            self._rest()

    def _prune(self) -> None:
        self._tails = [tail for tail in self._tails if not tail.closed]

    def _rest(self) -> None:
        if self._stop is not None:
            self._stop.set()
            self._stop = None

    def _run(self, stop: threading.Event) -> None:
        while not stop.wait(POLL_S):
            with self._lock:
                self._prune()
                if not self._tails and self._stop is stop:
                    self._rest()
                if stop.is_set():
                    return
                try:
                    self._poll()
                except Unavailable as error:  # for a moment: what comes meanwhile is told later
                    log.warning("cannot look for new readings", extra={"reason": str(error)})
                except Exhausted as error:
                    self._fail(error)
                except Exception:  # outermost edge of the thread: nobody may wait for ever
                    log.exception("looking for new readings failed")
                    self._fail(Exhausted("new readings cannot be told: tail again"))

    def _fail(self, error: HubError) -> None:
        for tail in self._tails:
            tail.fail(error)

    def _poll(self) -> None:
        with self._db.read() as tx:
            now_s = self._clock.monotonic()
            if now_s - self._selected_s >= _SELECT_EVERY_S:
                self._selected_s = now_s
                for tail in self._tails:
                    tail.select(tx)
            self._tell(tx)

    def _tell(self, tx: Tx) -> None:
        found = self._arrivals.poll(tx)
        for tail in self._tails:
            tail.tell(found)


def _readings(tx: Tx, versions: Versions, tenant: TenantId, device: DeviceId, batch: Batch) -> list[StoredReading]:
    labels = {model: versions.labels(tx, tenant, model) for model in batch.inferences.models}
    return [
        StoredReading(
            device=device,
            epoch=batch.epoch,
            lane=batch.lane.name.lower(),
            sequence=row.sequence,
            captured_at=row.captured_at,
            model=row.model,
            label=row.label,
            label_name=labels[row.model][row.label] if row.label < len(labels[row.model]) else "",
            confidence=row.confidence,
            latency_ms=row.latency_ms,
            captured=row.captured,
            uncertain=row.uncertain,
            frame_key=row.frame_key,
            value=row.value,
        )
        for row in batch.inferences.rows()
    ]


def _chunks(rows: Sequence[int]) -> Sequence[Sequence[int]]:
    return [rows[start : start + _BATCHES] for start in range(0, len(rows), _BATCHES)]
