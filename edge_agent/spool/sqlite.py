"""The spool in one SQLite file, written in group commits by a thread of its own."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from edge_agent.core.clock import Clock
from edge_agent.core.config import SpoolConfig
from edge_agent.core.errors import Corrupt, DiskFull, Permanent
from edge_agent.core.model import Happening, Outcome
from edge_agent.core.ports import SpoolStats
from edge_agent.spool.intake import Intake
from edge_agent.spool.plan import LanePlan, apply, gap_form, plan_lane
from edge_agent.spool.records import Record, count, merged, number, row_bytes, span
from edge_agent.spool.store import Store, StoredBatch, set_aside
from protos.contract.codec import decode_batch
from protos.contract.errors import InvalidMessage
from protos.contract.telemetry import Batch, Gap, Lane, Mark

log = logging.getLogger(__name__)

ROOM_BYTES = 16 << 10  # freed beyond the need when the disk is full: SQLite gives and takes whole pages
RETRY_S = 1.0  # pause after a commit that found no room
SPOOL_FULL, DISK_FULL, DAMAGED = "spool full", "disk full", "stored bytes damaged"
_LOWEST_FIRST = tuple(sorted(Lane, reverse=True))

T = TypeVar("T")


class SqliteSpool:
    """See ``edge_agent.core.ports.Spool``.

    ``append`` only queues. The file has one lock, and whoever holds it may commit the queue: the committer every
    ``commit_interval_s``, ``flush``, ``append`` to the critical lane, and ``batches`` when a lane is due.
    """

    def __init__(self, path: Path, config: SpoolConfig, clock: Clock) -> None:
        """Raises Retryable where another process has the file, DiskFull where it cannot be made."""
        self._path, self._config, self._clock = path, config, clock
        self._intake = Intake(clock)
        self._lock = threading.RLock()  # guards the store and all below
        self._carry: dict[Lane, list[Record]] = {lane: [] for lane in Lane}  # out of the intake, not in the file yet
        self._open: dict[Lane, tuple[Record, ...]] = dict.fromkeys(Lane, ())
        self._since: dict[Lane, float | None] = dict.fromkeys(Lane)  # monotonic time of the oldest open record
        self._cut: dict[Lane, int] = {}  # highest sequence ever cut, -1: none
        self._dropped: dict[Lane, int] = {}
        self._failing = False
        self._closed = False
        self._listeners: list[Callable[[], None]] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        self._store = self._open_file()
        self._committer = threading.Thread(target=self._run, name="spool", daemon=True)
        self._committer.start()

    @property
    def epoch(self) -> str:
        return self._store.epoch

    def append(self, item: Outcome | Happening, lane: Lane = Lane.NORMAL) -> int:
        sequence = self._intake.add(item, lane)
        if lane is Lane.CRITICAL:
            self.flush()
        return sequence

    def flush(self) -> None:
        self._commit()

    def batches(self, *, after: Mark | None, lane: Lane, limit: int) -> Sequence[tuple[Batch, bytes]]:
        if self._lingered(lane):
            self._commit()
        behind = after.committed_through if after is not None and after.epoch == self.epoch else -1
        return self._on_file(lambda: self._hand_out(lane, behind=behind, limit=limit))

    def discard(self, marks: Sequence[Mark]) -> None:
        self._on_file(lambda: self._forget([mark for mark in marks if mark.epoch == self.epoch]))

    def stats(self) -> SpoolStats:
        with self._lock:
            records, size = self._intake.load()
            waiting = [record for rows in (*self._open.values(), *self._carry.values()) for record in rows]
            return SpoolStats(
                records=self._store.batch_records + count(waiting) + records,
                bytes=self._store.batch_bytes + sum(map(row_bytes, waiting)) + size,
                dropped=sum(self._dropped.values()),
            )

    def on_batch(self, wake: Callable[[], None]) -> None:
        self._listeners.append(wake)

    def close(self) -> None:
        self._intake.close()
        self._committer.join()
        with self._lock:
            if self._closed:
                return
            try:
                self._commit()
            finally:
                self._closed = True
                self._store.close()

    # -- group commits ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while self._intake.wait(idle_s=self._idle_s(), gather_s=self._config.commit_interval_s):
            try:
                self._commit()
            except Exception:  # the thread's outermost edge: a dead committer would lose all that follows
                self._failing = True
                log.exception("commit failed", extra={"path": str(self._path)})

    def _idle_s(self) -> float | None:
        """How long nothing is due; None: until something is appended."""
        if self._failing:
            return RETRY_S
        starts = [since for since in self._since.values() if since is not None]
        return max(0.0, min(starts) + self._config.linger_s - self._clock.monotonic()) if starts else None

    def _lingered(self, lane: Lane) -> bool:
        since = self._since[lane]
        return since is not None and self._clock.monotonic() - since >= self._config.linger_s

    def _commit(self) -> None:
        """Put what waits into the file and cut what is due."""
        if self._on_file(self._commit_once):
            for wake in self._listeners:
                wake()

    def _commit_once(self) -> bool:
        """Whether a batch was cut. Raises Corrupt with everything that waited still in ``_carry``."""
        queue, numbers = self._intake.drain()
        for lane, records in queue.items():
            self._carry[lane] += records
            self._dropped[lane] += sum(record.records for record in records if isinstance(record, Gap))
        fresh = {lane: records for lane, records in self._carry.items() if records}
        if not fresh and not any(self._lingered(lane) for lane in Lane):
            return False
        plans = [self._plan(lane, numbers[lane]) for lane in _LOWEST_FIRST]
        try:
            done = self._apply_or_make_room(plans, least=min(fresh, default=Lane.BULK))
        except DiskFull as error:
            self._store.recycle()
            self._refuse(fresh, error)
            return False
        self._settle(done)
        return any(plan.cut for plan in done)

    def _plan(self, lane: Lane, next_sequence: int) -> LanePlan:
        return plan_lane(
            self._store.epoch,
            lane,
            self._open[lane],
            self._carry[lane],
            limit=self._config.batch_records,
            lingered=self._lingered(lane),
            next_sequence=next_sequence,
        )

    def _apply_or_make_room(self, plans: Sequence[LanePlan], *, least: Lane) -> list[LanePlan]:
        """Raises DiskFull where even dropping older records of no higher lane makes no room; then nothing was dropped."""
        write = partial(apply, self._store, plans, self._dropped, at=self._clock.now())
        before = self._store.batch_bytes + sum(row_bytes(record) for rows in self._open.values() for record in rows)
        try:
            return write(limit=self._config.max_bytes, reason=SPOOL_FULL)
        except DiskFull:
            self._store.recycle()
            need = sum(plan.cost_bytes for plan in plans) + ROOM_BYTES
            if before <= need:
                raise
            return write(limit=min(self._config.max_bytes, before - need), reason=DISK_FULL, least=least)

    def _settle(self, done: Sequence[LanePlan]) -> None:
        """Take over what the file holds now."""
        now = self._clock.monotonic()
        self._failing = False
        for plan in done:
            lane = plan.lane
            if plan.dropped:
                log.warning("spool dropped records", extra={"lane": lane.name.lower(), "records": plan.dropped})
            self._dropped[lane] += plan.dropped
            self._carry[lane] = []
            self._open[lane] = plan.rest
            if plan.cut:
                self._cut[lane] = plan.cut[-1].last
            if not plan.rest:
                self._since[lane] = None
            elif plan.cut or self._since[lane] is None:
                self._since[lane] = now

    def _refuse(self, fresh: Mapping[Lane, Sequence[Record]], error: DiskFull) -> None:
        """Keep only the account of what found no room; it enters the file once there is some."""
        self._failing = True
        for lane, records in fresh.items():
            self._carry[lane] = [merged(records, reason=DISK_FULL, at=self._clock.now())]
            if lost := count(records):
                self._dropped[lane] += lost
                log.error("no room for records", extra={"lane": lane.name.lower(), "records": lost, "error": str(error)})

    # -- the file ---------------------------------------------------------------------------------------------------

    def _on_file(self, work: Callable[[], T]) -> T:
        """Run with the file locked; a file that turns out damaged is replaced by a new epoch, and ``work`` runs on that."""
        with self._lock:
            if self._closed:
                raise Permanent("the spool is closed")
            try:
                return work()
            except Corrupt as error:
                self._store.close()
                self._store = self._start_over(error)
                return work()

    def _open_file(self) -> Store:
        try:
            store = Store(self._path, max_bytes=self._config.max_bytes)
            try:
                self._load(store)
            except Corrupt:
                store.close()
                raise
            return store
        except Corrupt as error:
            return self._start_over(error)

    def _load(self, store: Store) -> None:
        for lane, (next_sequence, dropped) in store.lanes().items():
            rows: list[Record] = []
            for first, last, record in store.open_rows(lane):
                if record is None:
                    record = Gap(first_sequence=first, last_sequence=last, reason=DAMAGED, at=self._clock.now())
                    dropped += last - first + 1
                rows.append(record)
            self._dropped[lane], self._open[lane] = dropped, tuple(rows)
            self._since[lane] = self._clock.monotonic() if rows else None
            self._cut[lane] = (span(rows[0])[0] if rows else next_sequence) - 1
            self._intake.start_at(lane, next_sequence)

    def _start_over(self, error: Corrupt) -> Store:
        """A new file and epoch. What is still in memory is numbered anew, behind an event that says so."""
        aside = set_aside(self._path)
        log.error("spool set aside", extra={"path": str(self._path), "aside": str(aside), "error": str(error)})
        store = self._new_file(aside)
        reset = number(Happening(at=self._clock.now(), kind="spool.reset", detail=str(error)), 0)
        known = {lane: [*self._open[lane], *self._carry[lane]] for lane in Lane}
        known[Lane.CRITICAL].insert(0, reset)
        self._load(store)
        self._carry = self._intake.rebase(known)
        return store

    def _new_file(self, aside: Path) -> Store:
        """On a full disk in the room of the damaged file, or in memory: what is seen must not stop being told."""
        try:
            return Store(self._path, max_bytes=self._config.max_bytes)
        except DiskFull:
            aside.unlink(missing_ok=True)
        try:
            return Store(self._path, max_bytes=self._config.max_bytes)
        except DiskFull as error:
            log.error("the spool is kept in memory until a restart", extra={"error": str(error)})
            return Store(Path(":memory:"), max_bytes=self._config.max_bytes)

    # -- handing out and forgetting ---------------------------------------------------------------------------------

    def _hand_out(self, lane: Lane, *, behind: int, limit: int) -> list[tuple[Batch, bytes]]:
        """Marked as sent in the file before they leave it: a batch that may be out there never changes."""
        ready: list[tuple[Batch, StoredBatch]] = []
        try:
            for stored in self._store.batches(lane, behind=behind, limit=limit):
                ready.append(self._checked(lane, stored))
            unsent = [stored.first for _, stored in ready if not stored.sent]
            if unsent:
                with self._store.transaction():
                    self._store.mark_sent(lane, first=unsent[0], last=unsent[-1])
        except DiskFull as error:
            self._store.recycle()
            log.warning("no room to mark batches as sent", extra={"lane": lane.name.lower(), "error": str(error)})
            ready = [(batch, stored) for batch, stored in ready if stored.sent]
        return [(batch, stored.payload) for batch, stored in ready]

    def _checked(self, lane: Lane, stored: StoredBatch) -> tuple[Batch, StoredBatch]:
        """Bytes that rotted on the disk become a gap of the same range: no receiver could ever take them."""
        try:
            batch = decode_batch(stored.payload)
            found = (batch.epoch, batch.lane, batch.first_sequence, batch.last_sequence)
            if found == (self.epoch, lane, stored.first, stored.last):
                return batch, stored
            error = f"it holds {found}"
        except InvalidMessage as invalid:
            error = str(invalid)
        log.error("stored batch is damaged", extra={"lane": lane.name.lower(), "first": stored.first, "error": error})
        gap = gap_form(self.epoch, lane, stored.first, stored.last, reason=DAMAGED, at=self._clock.now())
        gap = replace(gap, sent=stored.sent)
        with self._store.transaction():
            self._store.remove_batch(lane, stored)
            self._store.add_batch(lane, gap)
        self._dropped[lane] += stored.records  # enters the file with the next commit
        return decode_batch(gap.payload), gap

    def _forget(self, marks: Sequence[Mark]) -> None:
        covering = [mark for mark in marks if mark.committed_through <= self._cut[mark.lane]]
        if covering != marks:
            log.warning("marks beyond anything ever cut are ignored", extra={"marks": len(marks) - len(covering)})
        try:
            if covering:
                with self._store.transaction():
                    for mark in covering:
                        self._store.remove_through(mark.lane, mark.committed_through)
        except DiskFull as error:  # the next watermark covers these too
            self._store.recycle()
            log.warning("no room to delete what is committed", extra={"error": str(error)})
