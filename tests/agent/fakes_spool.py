"""A spool in memory that keeps the port's promise, except that nothing in it outlives the process."""

import secrets
import threading
from collections.abc import Callable, Sequence

from edge_agent.core.clock import Clock
from edge_agent.core.config import SpoolConfig
from edge_agent.core.model import Happening, Item
from edge_agent.core.ports import MAX_HANDED_BYTES, LaneStats, SpoolStats
from edge_agent.spool.records import (
    ROW_OVERHEAD_BYTES,
    Record,
    batch_of,
    count,
    happened_at,
    merged,
    number,
    row_bytes,
    shifted,
    span,
)
from protos.contract.codec import encode_batch
from protos.contract.telemetry import Batch, Gap, Lane, Mark
from protos.contract.twin import Held

DROP_REASON = "spool full"


class MemorySpool:
    """See ``edge_agent.core.ports.Spool``."""

    def __init__(self, config: SpoolConfig, clock: Clock) -> None:
        self.epoch = secrets.token_hex(8)
        self._config, self._clock = config, clock
        self._lock = threading.RLock()
        self._next = dict.fromkeys(Lane, 0)
        self._open: dict[Lane, list[Record]] = {lane: [] for lane in Lane}
        self._since: dict[Lane, float] = {}
        self._batches: dict[Lane, list[tuple[Batch, bytes]]] = {lane: [] for lane in Lane}
        self._sent: set[tuple[Lane, int]] = set()
        self._dropped = dict.fromkeys(Lane, 0)
        self._resets = 0
        self._listeners: list[Callable[[], None]] = []

    def append(self, item: Item, lane: Lane = Lane.NORMAL) -> int:
        with self._lock:
            record = number(item, self._next[lane])
            self._next[lane] += 1
            self._since.setdefault(lane, self._clock.monotonic())
            self._open[lane].append(record)
            full = len(self._open[lane]) >= self._config.batch_records
            if full:
                self._cut(lane)
            self._bound()
        if full:
            for wake in self._listeners:
                wake()
        return record.sequence

    def flush(self) -> None: ...

    def batches(
        self, *, after: Mark | None, lane: Lane, limit: int, limit_bytes: int = MAX_HANDED_BYTES
    ) -> Sequence[tuple[Batch, bytes]]:
        with self._lock:
            if self._open[lane] and self._clock.monotonic() - self._since[lane] >= self._config.linger_s:
                self._cut(lane)
            behind = after.committed_through if after is not None and after.epoch == self.epoch else -1
            found: list[tuple[Batch, bytes]] = []
            for item in [item for item in self._batches[lane] if item[0].first_sequence > behind][:limit]:
                if found and sum(len(payload) for _, payload in [*found, item]) > limit_bytes:
                    break
                found.append(item)
            self._sent |= {(lane, batch.first_sequence) for batch, _ in found}
            return found

    def discard(self, marks: Sequence[Mark]) -> None:
        with self._lock:
            ours = [mark for mark in marks if mark.epoch == self.epoch]
            if any(mark.committed_through >= self._next[mark.lane] - self._uncut(mark.lane) for mark in ours):
                return self._leave_epoch()
            for mark in ours:
                kept = [item for item in self._batches[mark.lane] if item[0].last_sequence > mark.committed_through]
                self._batches[mark.lane] = kept

    def held(self) -> tuple[Held, ...]:
        with self._lock:
            return tuple(Held(epoch=self.epoch, lane=lane, oldest=self._oldest(lane), next=self._next[lane]) for lane in Lane)

    def on_batch(self, wake: Callable[[], None]) -> None:
        self._listeners.append(wake)

    def stats(self) -> SpoolStats:
        with self._lock:
            lanes = {lane: self._lane_stats(lane) for lane in Lane}
            return SpoolStats(
                records=sum(lane.records for lane in lanes.values()),
                bytes=self._bytes(),
                dropped=sum(self._dropped.values()),
                lanes=lanes,
                epoch=self.epoch,
                resets=self._resets,
            )

    def close(self) -> None: ...

    def lose_everything(self) -> None:
        """As after damage to a file: a new epoch, numbered from 0."""
        with self._lock:
            self.epoch = secrets.token_hex(8)
            self._resets += 1
            self._next = dict.fromkeys(Lane, 0)
            for lane in Lane:
                self._open[lane], self._batches[lane] = [], []
            self._since.clear()
            self._sent.clear()

    def _leave_epoch(self) -> None:
        self.epoch = secrets.token_hex(8)
        self._resets += 1
        self._sent.clear()
        moved = {lane: self._records(lane) for lane in Lane}
        for lane in Lane:
            by = self._oldest(lane) - (lane is Lane.CRITICAL)
            lengths = [batch.last_sequence - batch.first_sequence + 1 for batch, _ in self._batches[lane]]
            records = [shifted(record, by) for record in moved[lane]]
            self._next[lane] -= by
            self._batches[lane] = []
            for length in lengths:
                end = span(records[0])[0] + length
                self._store(lane, [record for record in records if span(record)[0] < end])
                records = [record for record in records if span(record)[0] >= end]
            self._open[lane] = records
        event = Happening(at=self._clock.now(), kind="spool.foreign_mark")
        self._store(Lane.CRITICAL, [number(event, 0)])
        self._batches[Lane.CRITICAL].insert(0, self._batches[Lane.CRITICAL].pop())

    def _store(self, lane: Lane, records: Sequence[Record]) -> None:
        batch = batch_of(self.epoch, lane, records)
        self._batches[lane].append((batch, encode_batch(batch)))

    def _records(self, lane: Lane) -> list[Record]:
        """All that is held, in order."""
        stored: list[Record] = []
        for batch, _ in self._batches[lane]:
            rows: list[Record] = [*batch.inferences.rows(), *batch.events, *batch.windows, *batch.gaps]
            stored += sorted(rows, key=span)
        return [*stored, *self._open[lane]]

    def _oldest(self, lane: Lane) -> int:
        records = self._records(lane)
        return span(records[0])[0] if records else self._next[lane]

    def _uncut(self, lane: Lane) -> int:
        return self._next[lane] - span(self._open[lane][0])[0] if self._open[lane] else 0

    def _lane_stats(self, lane: Lane) -> LaneStats:
        records = self._records(lane)
        return LaneStats(
            records=count(records),
            bytes=self._bytes(lane),
            dropped=self._dropped[lane],
            gaps=sum(isinstance(record, Gap) for record in records),
            next=self._next[lane],
            committed=self._oldest(lane) - 1,
            oldest_at=happened_at(records[0]) if records else None,
        )

    def _cut(self, lane: Lane) -> None:
        self._store(lane, self._open[lane])
        self._open[lane] = []
        self._since.pop(lane, None)

    def _bytes(self, *lanes: Lane) -> int:
        of = lanes or tuple(Lane)
        payloads = sum(len(payload) + ROW_OVERHEAD_BYTES for lane in of for _, payload in self._batches[lane])
        return payloads + sum(row_bytes(record) for lane in of for record in self._open[lane])

    def _bound(self) -> None:
        for lane in sorted(Lane, reverse=True):
            while self._bytes() > self._config.max_bytes and self._drop_oldest(lane):
                pass
            if self._bytes() > self._config.max_bytes and count(self._open[lane]):
                self._dropped[lane] += count(self._open[lane])
                self._open[lane] = [merged(self._open[lane], reason=DROP_REASON, at=self._clock.now())]

    def _drop_oldest(self, lane: Lane) -> bool:
        items = self._batches[lane]
        free = [i for i, (batch, _) in enumerate(items) if (lane, batch.first_sequence) not in self._sent]
        victim = next((i for i in free if items[i][0].records), None)
        if victim is None:
            return False
        self._dropped[lane] += items[victim][0].records
        start, end = victim, victim + 1
        if start - 1 in free and not items[start - 1][0].records:
            start -= 1
        if end in free and end < len(items) and not items[end][0].records:
            end += 1
        whole: list[Record] = []
        for batch, _ in items[start:end]:
            whole += [*batch.inferences.rows(), *batch.events, *batch.windows, *batch.gaps]
        gap = merged(sorted(whole, key=span), reason=DROP_REASON, at=self._clock.now())
        batch = batch_of(self.epoch, lane, [gap])
        items[start:end] = [(batch, encode_batch(batch))]
        return True
