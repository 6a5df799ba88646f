"""A spool in memory that keeps the port's promise, except that nothing in it outlives the process."""

import secrets
import threading
from collections.abc import Callable, Sequence

from edge_agent.core.clock import Clock
from edge_agent.core.config import SpoolConfig
from edge_agent.core.model import Happening, Outcome
from edge_agent.core.ports import SpoolStats
from edge_agent.spool.records import Record, batch_of, count, merged, number, row_bytes, span
from protos.contract.codec import encode_batch
from protos.contract.telemetry import Batch, Lane, Mark

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
        self._dropped = 0
        self._listeners: list[Callable[[], None]] = []

    def append(self, item: Outcome | Happening, lane: Lane = Lane.NORMAL) -> int:
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

    def batches(self, *, after: Mark | None, lane: Lane, limit: int) -> Sequence[tuple[Batch, bytes]]:
        with self._lock:
            if self._open[lane] and self._clock.monotonic() - self._since[lane] >= self._config.linger_s:
                self._cut(lane)
            behind = after.committed_through if after is not None and after.epoch == self.epoch else -1
            found = [item for item in self._batches[lane] if item[0].first_sequence > behind][:limit]
            self._sent |= {(lane, batch.first_sequence) for batch, _ in found}
            return found

    def discard(self, marks: Sequence[Mark]) -> None:
        with self._lock:
            for mark in marks:
                cut = self._next[mark.lane] - len(self._open[mark.lane])
                if mark.epoch == self.epoch and mark.committed_through < cut:
                    kept = [item for item in self._batches[mark.lane] if item[0].last_sequence > mark.committed_through]
                    self._batches[mark.lane] = kept

    def on_batch(self, wake: Callable[[], None]) -> None:
        self._listeners.append(wake)

    def stats(self) -> SpoolStats:
        with self._lock:
            stored = [item for items in self._batches.values() for item in items]
            records = sum(batch.records for batch, _ in stored) + sum(map(count, self._open.values()))
            return SpoolStats(records=records, bytes=self._bytes(), dropped=self._dropped)

    def close(self) -> None: ...

    def lose_everything(self) -> None:
        """As after damage to a file: a new epoch, numbered from 0."""
        with self._lock:
            self.epoch = secrets.token_hex(8)
            self._next = dict.fromkeys(Lane, 0)
            for lane in Lane:
                self._open[lane], self._batches[lane] = [], []
            self._since.clear()
            self._sent.clear()

    def _cut(self, lane: Lane) -> None:
        batch = batch_of(self.epoch, lane, self._open[lane])
        self._batches[lane].append((batch, encode_batch(batch)))
        self._open[lane] = []
        self._since.pop(lane, None)

    def _bytes(self) -> int:
        payloads = sum(len(payload) for items in self._batches.values() for _, payload in items)
        return payloads + sum(row_bytes(record) for records in self._open.values() for record in records)

    def _bound(self) -> None:
        for lane in sorted(Lane, reverse=True):
            while self._bytes() > self._config.max_bytes and self._drop_oldest(lane):
                pass
            if self._bytes() > self._config.max_bytes and count(self._open[lane]):
                self._dropped += count(self._open[lane])
                self._open[lane] = [merged(self._open[lane], reason=DROP_REASON, at=self._clock.now())]

    def _drop_oldest(self, lane: Lane) -> bool:
        items = self._batches[lane]
        free = [i for i, (batch, _) in enumerate(items) if (lane, batch.first_sequence) not in self._sent]
        victim = next((i for i in free if items[i][0].records), None)
        if victim is None:
            return False
        self._dropped += items[victim][0].records
        start, end = victim, victim + 1
        if start - 1 in free and not items[start - 1][0].records:
            start -= 1
        if end in free and end < len(items) and not items[end][0].records:
            end += 1
        whole = [record for batch, _ in items[start:end] for record in (*batch.inferences.rows(), *batch.events, *batch.gaps)]
        gap = merged(sorted(whole, key=span), reason=DROP_REASON, at=self._clock.now())
        batch = batch_of(self.epoch, lane, [gap])
        items[start:end] = [(batch, encode_batch(batch))]
        return True
