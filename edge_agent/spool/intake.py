"""Where records are numbered and wait in memory for the next group commit."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from edge_agent.core.clock import Clock
from edge_agent.core.errors import Permanent
from edge_agent.core.model import Item
from edge_agent.spool.records import Record, count, number, renumber, row_bytes, shifted, span
from protos.contract.telemetry import Gap, Lane

MAX_QUEUED = 50_000  # records in memory while the disk is slow: about 20 MB
QUEUE_FULL = "disk too slow"


class Waiting(NamedTuple):
    """Of one lane: what is numbered and waits in memory."""

    first: int  # sequence; ``next`` where nothing waits
    next: int
    records: int
    bytes: int


class Intake:
    """Thread-safe, and never waits for the disk."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._next: dict[Lane, int] = dict.fromkeys(Lane, 0)
        self._queue: dict[Lane, list[Record]] = {lane: [] for lane in Lane}
        self._waiting = 0
        self._closed = False

    def add(self, item: Item, lane: Lane) -> int:
        """Raises InvalidValue for what no batch could carry, Permanent once closed; neither uses up a number."""
        with self._changed:
            if self._closed:
                raise Permanent("the spool is closed: append before shutting it down")
            sequence = self._next[lane]
            record = number(item, sequence)
            self._next[lane] = sequence + 1
            queue = self._queue[lane]
            if self._waiting < MAX_QUEUED:
                queue.append(record)
                self._waiting += 1
                if self._waiting == 1:
                    self._changed.notify()
            elif queue and isinstance(queue[-1], Gap):
                queue[-1] = replace(queue[-1], last_sequence=sequence)
            else:
                at = self._clock.now()
                queue.append(Gap(first_sequence=sequence, last_sequence=sequence, reason=QUEUE_FULL, at=at))
            return sequence

    def drain(self) -> tuple[Mapping[Lane, Sequence[Record]], Mapping[Lane, int]]:
        """All that waits, and the next sequence of each lane behind it. A gap in it stands for records dropped here."""
        with self._changed:
            queue, self._queue, self._waiting = self._queue, {lane: [] for lane in Lane}, 0
            return queue, dict(self._next)

    def start_at(self, lane: Lane, sequence: int) -> None:
        with self._changed:
            self._next[lane] = sequence

    def rebase(self, ahead: Mapping[Lane, Sequence[Record]]) -> dict[Lane, list[Record]]:
        """Number ``ahead`` and all that waits from 0, in one step with what follows; it is handed over, not kept."""
        with self._changed:
            numbered = {lane: renumber([*ahead[lane], *queue], 0) for lane, queue in self._queue.items()}
            self._queue, self._waiting = {lane: [] for lane in Lane}, 0
            self._next = {lane: len(records) for lane, records in numbered.items()}
            return numbered

    def shift(self, by: Mapping[Lane, int]) -> None:
        """Lower every number, given and to come, by that of its lane."""
        with self._changed:
            self._queue = {lane: [shifted(record, by[lane]) for record in queue] for lane, queue in self._queue.items()}
            self._next = {lane: number - by[lane] for lane, number in self._next.items()}

    def wait(self, *, idle_s: float | None, gather_s: float) -> bool:
        """Return when a group has gathered, or nothing came for ``idle_s``; False once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._waiting > 0, timeout=idle_s)
            if self._waiting:
                self._changed.wait_for(lambda: self._closed, timeout=gather_s)
            return not self._closed

    def waiting(self) -> dict[Lane, Waiting]:
        with self._changed:
            queues, following = {lane: list(queue) for lane, queue in self._queue.items()}, dict(self._next)
        return {
            lane: Waiting(
                first=span(queue[0])[0] if queue else following[lane],
                next=following[lane],
                records=count(queue),
                bytes=sum(map(row_bytes, queue)),
            )
            for lane, queue in queues.items()
        }

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
