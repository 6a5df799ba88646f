"""The spool in one SQLite file, written in group commits by a thread of its own."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from edge_agent.core.clock import Clock
from edge_agent.core.config import SpoolConfig
from edge_agent.core.errors import Corrupt, DiskFull, Permanent
from edge_agent.core.metrics import Durations
from edge_agent.core.model import Happening, Item
from edge_agent.core.ports import MAX_HANDED_BYTES, SpoolStats
from edge_agent.core.seldom import Seldom
from edge_agent.spool.intake import Intake
from edge_agent.spool.outgoing import hand_out
from edge_agent.spool.plan import LanePlan, apply, plan_lane, store_form
from edge_agent.spool.records import Record, batch_of, count, merged, number, row_bytes, shifted, span
from edge_agent.spool.recovery import Opened, open_spool, replace_file
from edge_agent.spool.standing import lane_stats, oldest
from protos.contract.telemetry import Batch, Gap, Lane, Mark
from protos.contract.twin import Held

log = logging.getLogger(__name__)

ROOM_BYTES = 16 << 10  # freed beyond the need when the disk is full: SQLite gives and takes whole pages
LOSSES_EVERY_S = 10.0  # a spool that fails for a week must not fill the log with saying so ten times a second
RETRY_S = 1.0  # pause after a commit that found no room
SPOOL_FULL, DISK_FULL = "spool full", "disk full"
_LOWEST_FIRST = tuple(sorted(Lane, reverse=True))

T = TypeVar("T")


class SqliteSpool:
    """See ``edge_agent.core.ports.Spool``.

    ``append`` only queues. The file has one lock, and whoever holds it may commit the queue: the committer every
    ``commit_interval_s``, ``flush``, ``append`` to the critical lane, and ``batches`` when a lane is due.
    """

    def __init__(self, path: Path, config: SpoolConfig, clock: Clock, *, commits: Durations | None = None) -> None:
        """``commits`` is told how long each took.

        Raises Retryable where another process has the file. Without a file it can write it goes on in memory, and says so.
        """
        self._path, self._config, self._clock = path, config, clock
        self._intake = Intake(clock)
        self._lock = threading.RLock()  # guards the store and all below
        self._carry: dict[Lane, list[Record]] = {lane: [] for lane in Lane}  # out of the intake, not in the file yet
        self._open: dict[Lane, tuple[Record, ...]] = dict.fromkeys(Lane, ())
        self._since: dict[Lane, float | None] = dict.fromkeys(Lane)  # monotonic time of the oldest open record
        self._cut: dict[Lane, int] = {}  # highest sequence ever cut, -1: none
        self._dropped: dict[Lane, int] = {}
        self._commit_s = 0.0
        self._failing = False
        self._commits = commits or Durations()
        self._losses = Seldom(LOSSES_EVERY_S, clock)
        self._closed = False
        self._listeners: list[Callable[[], None]] = []
        self._take_over(open_spool(path, max_bytes=config.max_bytes, now=clock.now))
        self._committer = threading.Thread(target=self._run, name="spool", daemon=True)
        self._committer.start()

    @property
    def epoch(self) -> str:
        return self._store.epoch

    def append(self, item: Item, lane: Lane = Lane.NORMAL) -> int:
        sequence = self._intake.add(item, lane)
        if lane is Lane.CRITICAL:
            self.flush()
        return sequence

    def flush(self) -> None:
        self._commit()

    def batches(
        self, *, after: Mark | None, lane: Lane, limit: int, limit_bytes: int = MAX_HANDED_BYTES
    ) -> Sequence[tuple[Batch, bytes]]:
        if self._lingered(lane):
            self._commit()

        def work() -> Sequence[tuple[Batch, bytes]]:
            behind = after.committed_through if after is not None and after.epoch == self.epoch else -1
            at = self._clock.now()
            found = hand_out(self._store, lane, behind=behind, limit=limit, limit_bytes=limit_bytes, at=at)
            self._dropped[lane] += found.damaged  # enters the file with the next commit
            return found.batches

        return self._on_file(work)

    def discard(self, marks: Sequence[Mark]) -> None:
        self._on_file(lambda: self._forget([mark for mark in marks if mark.epoch == self.epoch]))

    def held(self) -> tuple[Held, ...]:
        def work() -> tuple[Held, ...]:
            waiting = self._intake.waiting()
            return tuple(
                Held(epoch=self.epoch, lane=lane, oldest=first, next=waiting[lane].next)
                for lane in Lane
                for first in (oldest(self._store, lane, self._uncut(lane), waiting[lane]),)
            )

        return self._on_file(work)

    def stats(self) -> SpoolStats:
        def work() -> SpoolStats:
            waiting = self._intake.waiting()
            lanes = {
                lane: lane_stats(self._store, lane, self._uncut(lane), waiting[lane], dropped=self._dropped[lane])
                for lane in Lane
            }
            return SpoolStats(
                records=sum(lane.records for lane in lanes.values()),
                bytes=sum(lane.bytes for lane in lanes.values()),
                dropped=sum(lane.dropped for lane in lanes.values()),
                lanes=lanes,
                epoch=self.epoch,
                resets=self._store.resets,
                file_bytes=self._store.file_bytes(),
                commit_ms=self._commit_s * 1e3,
                failing=self._failing,
            )

        return self._on_file(work)

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
                if (before := self._losses.turn()) is not None:
                    log.exception("commit failed", extra={"path": str(self._path), "not_logged": before})

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
        started = self._clock.monotonic()
        try:
            done = self._apply_or_make_room(plans, least=min(fresh, default=Lane.BULK))
        except DiskFull as error:
            self._store.recycle()
            self._refuse(fresh, error)
            return False
        finally:
            self._commit_s = self._clock.monotonic() - started
            self._commits.observe(self._commit_s)
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
            if plan.dropped and (before := self._losses.turn()) is not None:
                fields = {"lane": lane.name.lower(), "records": plan.dropped, "not_logged": before}
                log.warning("spool dropped records", extra=fields)
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
                if (before := self._losses.turn()) is not None:
                    fields = {"lane": lane.name.lower(), "records": lost, "error": str(error), "not_logged": before}
                    log.error("no room for records", extra=fields)

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
                self._start_over(error)
                return work()

    def _uncut(self, lane: Lane) -> list[Record]:
        return [*self._open[lane], *self._carry[lane]]

    def _take_over(self, opened: Opened, memory: Mapping[Lane, Sequence[Record]] | None = None) -> None:
        """Work on what was opened. Where that is a new epoch, ``memory`` and all that waits are numbered anew, behind an event
        that says so."""
        self._store = opened.store
        now = self._clock.monotonic()
        for lane, found in opened.lanes.items():
            self._dropped[lane], self._open[lane] = found.dropped, found.open
            self._since[lane] = now if found.open else None
            self._cut[lane] = (span(found.open[0])[0] if found.open else found.next) - 1
            if opened.event is None:
                self._intake.start_at(lane, found.next)
        if opened.event is not None:
            kind, detail = opened.event
            known = {lane: list(memory[lane] if memory else ()) for lane in Lane}
            known[Lane.CRITICAL].insert(0, number(Happening(at=self._clock.now(), kind=kind, detail=detail), 0))
            self._carry = self._intake.rebase(known)

    def _start_over(self, error: Corrupt) -> None:
        memory = {lane: self._uncut(lane) for lane in Lane}
        resets, limit = self._store.resets, self._config.max_bytes
        self._take_over(replace_file(self._path, error, max_bytes=limit, now=self._clock.now, resets=resets), memory)

    # -- forgetting -------------------------------------------------------------------------------------------------

    def _forget(self, marks: Sequence[Mark]) -> None:
        if not marks:
            return
        foreign = [mark for mark in marks if mark.committed_through > self._cut[mark.lane]]
        try:
            if foreign:
                return self._leave_epoch(foreign[0])
            self._store.with_room(lambda: self._remove_through(marks))
        except DiskFull as error:  # the next watermark comes to the same
            log.warning("no room to delete what is committed", extra={"error": str(error)})

    def _remove_through(self, marks: Sequence[Mark]) -> None:
        with self._store.transaction():
            for mark in marks:
                self._store.remove_through(mark.lane, mark.committed_through)

    def _leave_epoch(self, mark: Mark) -> None:
        """Somebody else sends under this epoch, or the disk was put back: all that is held moves to a new one.

        In one transaction: a crash leaves either epoch whole. Raises DiskFull with nothing changed.
        """
        detail = f"{mark.lane.name.lower()} is committed through {mark.committed_through}, cut through {self._cut[mark.lane]}"
        log.error("this epoch is not ours alone, beginning another", extra={"epoch": mark.epoch, "mark": detail})
        waiting = self._intake.waiting()
        by = {lane: oldest(self._store, lane, self._uncut(lane), waiting[lane]) for lane in Lane}
        by[Lane.CRITICAL] -= 1  # room for the event
        event = number(Happening(at=self._clock.now(), kind="spool.foreign_mark", detail=detail), 0)
        with self._store.transaction():
            self._store.begin_epoch(by, resets=self._store.resets + 1)
            self._store.add_batch(Lane.CRITICAL, store_form(batch_of(self._store.epoch, Lane.CRITICAL, [event])))
        self._intake.shift(by)
        for lane in Lane:
            self._carry[lane] = [shifted(record, by[lane]) for record in self._carry[lane]]
            self._open[lane] = tuple(shifted(record, by[lane]) for record in self._open[lane])
            self._cut[lane] -= by[lane]
