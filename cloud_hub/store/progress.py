"""How far one stream is whole, and which holes are given up.

A stream is one (device, epoch, lane). Its mark is the device's licence to forget, so it moves only over batches that are
stored without a hole, from sequence 0 on.

Two things end a hole without its records. The device says what it holds: what is before that it has forgotten, as marks
allowed that this database does not know of any more. Or a batch is in quarantine: the device repeats it for ever, and when the
batch behind the hole has come again in LOST_PASSES separate passes, PASS_MS or more apart, while messages of the device's lane
went on to quarantine, the hole is given up. Either way it is recorded: a row in ``losses`` and a ``telemetry.lost`` event. If
the records do come later they are stored all the same.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from cloud_hub.core import spans
from cloud_hub.core.spans import Span
from cloud_hub.store import bulk, events, losses, quarantine
from cloud_hub.store import streams as stream_store
from cloud_hub.store.database import Tx
from cloud_hub.store.streams import StreamKey, streams
from protos.contract import topics
from protos.contract.ids import DeviceId, Digest, TenantId
from protos.contract.telemetry import Event, Lane, first_gap_free, from_ms

LOST_PASSES = 3
PASS_MS = 10_000  # below the agent's own pause between passes; above what the broker delivers again after a hub's restart
MAX_EARLY = 1000  # spans behind holes in one stream; what would make more waits at the device


class Batch(NamedTuple):
    """One batch, ready to land: a row of ``landing`` in the order of its columns, and its events."""

    tenant: TenantId
    device: DeviceId
    epoch: str
    lane: Lane
    first_sequence: int
    last_sequence: int
    digest: Digest
    records: int
    dropped: int
    first_captured_ms: int | None
    last_captured_ms: int | None
    received_ms: int
    payload: bytes
    events: tuple[Event, ...] = ()

    @property
    def stream(self) -> StreamKey:
        return StreamKey(self.device, self.epoch, int(self.lane))


@dataclass(slots=True, kw_only=True)
class Progress:
    """A locked row of ``streams``, and what comes over it now. ``folded_through`` is for others to move."""

    key: StreamKey
    tenant: TenantId
    committed_through: int
    highest: int
    early: list[Span]  # stored behind the first hole
    passes: int
    pass_ms: int
    batches: int
    records: int
    duplicates: int
    dropped: int
    payload_bytes: int
    last_captured_ms: int | None
    updated_ms: int
    fresh: list[Batch] = field(default_factory=list)  # counted, but the mark has not moved over them yet

    def has_room(self, first: int, last: int) -> bool:
        """Whether ``first..last`` may be stored: always, but where it would make too many spans."""
        if len(self.early) < MAX_EARLY:
            return True
        there = spans.joined([(-1, self.committed_through), *self.early, *self._fresh_spans()])
        return spans.touches(there, first - 1, last + 1)

    def count(self, batch: Batch) -> None:
        """It is stored."""
        self.fresh.append(batch)
        self.highest = max(self.highest, batch.last_sequence)
        self.batches += 1
        self.records += batch.records
        self.dropped += batch.dropped
        self.payload_bytes += len(batch.payload)
        if batch.last_captured_ms is not None:
            self.last_captured_ms = max(self.last_captured_ms or 0, batch.last_captured_ms)

    def advance(self) -> None:
        """Move the mark over what is whole now; what stands behind a hole is early."""
        hole = self._first_hole()
        early = spans.joined([*self.early, *self._fresh_spans()])
        self.committed_through = first_gap_free(early, after=self.committed_through)
        self.early = [span for span in early if span[1] > self.committed_through]
        self.fresh.clear()
        if self._first_hole() != hole:
            self.passes, self.pass_ms = 0, self.updated_ms

    def came_again(self, tx: Tx, batch: Batch) -> bool:
        """A duplicate came. True: that was the last pass, and the hole before ``batch`` is given up."""
        if self.pass_ms - batch.received_ms > PASS_MS:  # the wall clock was put back: it must not end all passes until then
            self.pass_ms = batch.received_ms
        behind_hole = bool(self.early) and batch.first_sequence == self.early[0][0]
        if not behind_hole or self.fresh or batch.received_ms - self.pass_ms < PASS_MS:
            return False
        topic = topics.telemetry(batch.tenant, batch.device, batch.lane)
        if not quarantine.seen_since(tx, topic, self.pass_ms):
            return False  # nothing says that the hole will not be filled: another process may hold what is missing
        self.passes, self.pass_ms = self.passes + 1, batch.received_ms
        if self.passes < LOST_PASSES:
            return False
        self.give_up(tx, batch.first_sequence - 1, batch.received_ms)
        return True

    def give_up(self, tx: Tx, through: int, at_ms: int) -> None:
        """What is missing up to ``through``, which is beyond the mark, is lost."""
        lost = spans.holes(self.early, self.committed_through + 1, through)
        losses.add(tx, self.key, lost)
        records, lane = sum(last - first + 1 for first, last in lost), Lane(self.key.lane).name.lower()
        detail = f"{records} records of epoch {self.key.epoch}, lane {lane}: {lost[0][0]}..{lost[-1][1]}"
        event = Event(sequence=lost[0][0], at=from_ms(at_ms), kind="telemetry.lost", detail=detail)
        events.add(tx, [(self.tenant, self.key.device, event, at_ms)])
        self.committed_through, self.highest = through, max(self.highest, through)
        self.advance()

    def _first_hole(self) -> Span | None:
        return (self.committed_through + 1, self.early[0][0] - 1) if self.early else None

    def _fresh_spans(self) -> list[Span]:
        return [(batch.first_sequence, batch.last_sequence) for batch in self.fresh]


_STATE = tuple(column.name for column in streams.columns if column.name not in (*StreamKey._fields, "tenant", "folded_through"))


def locked(tx: Tx, wanted: Mapping[StreamKey, TenantId], at_ms: int) -> dict[StreamKey, Progress]:
    """Of these streams, for this transaction alone."""
    found = {}
    for key, row in stream_store.lock(tx, wanted, at_ms).items():
        state = {name: getattr(row, name) for name in _STATE}
        state["early"] = [(first, last) for first, last in state["early"]]
        found[key] = Progress(key=key, tenant=TenantId(row.tenant), **state)
    return found


def put(tx: Tx, changed: Collection[Progress]) -> None:
    rows = [(*(getattr(stream, name) for name in _STATE), *stream.key) for stream in changed]
    at = _STATE.index("early")
    bulk.update(tx, streams, StreamKey._fields, _STATE, [(*row[:at], json.dumps(row[at]), *row[at + 1 :]) for row in rows])
