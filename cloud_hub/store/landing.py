"""Telemetry as it lands: a row per batch, and exactly one effect per batch.

Batches may land in any order and by any number of processes at once; what uses them gets them by ``unfolded``, each stream in
the order of its sequences.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    bindparam,
    select,
)

from cloud_hub.core import spans
from cloud_hub.store import bulk, events, losses, progress, schema
from cloud_hub.store import streams as stream_store
from cloud_hub.store.database import Tx
from cloud_hub.store.progress import Batch as Batch
from cloud_hub.store.progress import Progress
from cloud_hub.store.streams import StreamKey, streams
from protos.contract.ids import DeviceId, TenantId
from protos.contract.telemetry import Lane

landing = Table(
    "landing",
    schema.metadata,
    schema.row_id(),
    schema.tenant(),
    Column("device", Text, nullable=False),
    Column("epoch", Text, nullable=False),
    Column("lane", Integer, nullable=False),
    Column("first_sequence", BigInteger, nullable=False),
    Column("last_sequence", BigInteger, nullable=False),
    Column("digest", Text, nullable=False),  # of payload
    Column("records", Integer, nullable=False),
    Column("dropped", BigInteger, nullable=False),  # what its gaps stand in for
    Column("first_captured_ms", BigInteger),  # null: no inferences
    Column("last_captured_ms", BigInteger),
    Column("received_ms", BigInteger, nullable=False),
    Column("payload", LargeBinary, nullable=False),  # as received
    UniqueConstraint("device", "epoch", "lane", "first_sequence"),
    Index(None, "device", "first_captured_ms", "last_captured_ms"),
)


class Landing(Enum):
    NEW = "new"
    DUPLICATE = "duplicate"  # stored before, the same bytes as far as they still are at hand
    CONFLICT = "conflict"  # its sequences are taken by other bytes: two devices use one identity
    DEFERRED = "deferred"  # not stored now, for too many holes are before it; the device sends it again


@dataclass(frozen=True, slots=True, kw_only=True)
class Landed:
    """A stored batch, as those who unfold it need it."""

    id: int
    tenant: TenantId
    device: DeviceId
    epoch: str
    lane: Lane
    first_sequence: int
    last_sequence: int
    received_ms: int
    payload: bytes

    @property
    def stream(self) -> StreamKey:
        return StreamKey(self.device, self.epoch, int(self.lane))


_ROW = tuple(column.name for column in landing.columns if column.name != "id")
assert Batch._fields[: len(_ROW)] == _ROW


def land_many(tx: Tx, batches: Sequence[Batch]) -> list[Landing]:
    """Store those that are not there yet, with their events, counters and marks; the answer is in the order of ``batches``.

    On the hot path: a handful of statements per call, not per batch, but for repeats. The streams are locked first, so that
    other processes may land at the same time.
    """
    if not batches:
        return []
    known = progress.locked(tx, {batch.stream: batch.tenant for batch in batches}, batches[0].received_ms)
    outcomes, given_up = [], {}
    for batch in batches:
        stream = known[batch.stream]
        outcome = _place(tx, stream, batch)
        outcomes.append(outcome)
        stream.updated_ms = batch.received_ms
        if outcome is Landing.NEW:
            stream.count(batch)
        elif outcome is Landing.DUPLICATE:
            stream.duplicates += 1
            if stream.came_again(tx, batch):
                given_up[stream.key] = -1
    new = [batch for batch, outcome in zip(batches, outcomes, strict=True) if outcome is Landing.NEW]
    bulk.insert(tx, landing, _ROW, [batch[: len(_ROW)] for batch in new])
    events.add(tx, ((batch.tenant, batch.device, event, batch.received_ms) for batch in new for event in batch.events))
    for stream in known.values():
        stream.advance()
    progress.put(tx, known.values())
    fold_through(tx, given_up)
    return outcomes


def device_holds(tx: Tx, tenant: TenantId, oldest: Mapping[StreamKey, int], at_ms: int) -> None:
    """A device says that it has nothing of its streams before these sequences any more: what is not here is lost."""
    marks = stream_store.committed(tx, oldest)
    forgotten = {key: tenant for key, first in oldest.items() if marks.get(key, -1) + 1 < first}
    if not forgotten:
        return
    found = progress.locked(tx, forgotten, at_ms)
    changed = [stream for key, stream in found.items() if stream.committed_through + 1 < oldest[key]]
    for stream in changed:
        stream.give_up(tx, oldest[stream.key] - 1, at_ms)
    progress.put(tx, changed)
    fold_through(tx, {stream.key: -1 for stream in changed})


def unfolded(tx: Tx, limit: int) -> list[Landed]:
    """At most ``limit`` batches that ``fold_through`` has not passed, each with all that is before it stored.

    Each stream comes in the order of its sequences; every one that waits gets about the same share.
    """
    s = streams.c
    waiting = tx.execute(
        select(s.device, s.epoch, s.lane, s.folded_through, s.committed_through)
        .where(s.committed_through > s.folded_through)
        .order_by(s.updated_ms)
        .limit(limit)
    ).all()
    found: list[Landed] = []
    for number, row in enumerate(waiting):
        share = -(-(limit - len(found)) // (len(waiting) - number))  # what others do not need is for those behind them
        found += _next(tx, StreamKey(row.device, row.epoch, row.lane), row.folded_through, row.committed_through, share)
    return found


def fold_through(tx: Tx, reached: Mapping[StreamKey, int]) -> None:
    """The last sequence of each stream whose effects ``tx`` holds: ``unfolded`` goes on behind it, and behind what is lost."""
    moved = []
    for key, (folded, committed) in _locked_cursors(tx, reached).items():
        through = max(folded, min(reached[key], committed))
        if through < committed and not _next(tx, key, through, committed, 1):
            through = committed  # a loss is all that is left
        moved.append((through, *key))
    bulk.update(tx, streams, StreamKey._fields, ("folded_through",), moved)


def folded(tx: Tx, wanted: Collection[StreamKey]) -> dict[StreamKey, int]:
    """How far ``fold_through`` has come, held so until ``tx`` ends: what is not beyond it another process has folded."""
    return {key: folded for key, (folded, _) in _locked_cursors(tx, wanted).items()}


def _locked_cursors(tx: Tx, wanted: Collection[StreamKey]) -> dict[StreamKey, tuple[int, int]]:
    if not wanted:
        return {}
    s = streams.c
    rows = tx.execute(
        select(s.device, s.epoch, s.lane, s.folded_through, s.committed_through)
        .where(stream_store.near(wanted))
        .order_by(s.device, s.epoch, s.lane)
        .with_for_update()
    )
    found = {StreamKey(DeviceId(d), epoch, lane): (folded, committed) for d, epoch, lane, folded, committed in rows}
    return {key: cursors for key, cursors in found.items() if key in wanted}


_NEXT = (
    select(
        landing.c.id,
        landing.c.tenant,
        landing.c.first_sequence,
        landing.c.last_sequence,
        landing.c.received_ms,
        landing.c.payload,
    )
    .where(*(landing.c[name] == bindparam(f"key_{name}") for name in StreamKey._fields))
    .where((landing.c.first_sequence > bindparam("after")) & (landing.c.first_sequence <= bindparam("through")))
    .order_by(landing.c.first_sequence)
    .limit(bindparam("rows"))
)  # made once: it is run for every stream that waits


def _next(tx: Tx, key: StreamKey, after: int, through: int, limit: int) -> list[Landed]:
    of = {f"key_{name}": value for name, value in key._asdict().items()}
    rows = tx.execute(_NEXT, of | {"after": after, "through": through, "rows": limit})
    return [
        Landed(
            id=id,
            tenant=TenantId(tenant),
            device=key.device,
            epoch=key.epoch,
            lane=Lane(key.lane),
            first_sequence=first_sequence,
            last_sequence=last_sequence,
            received_ms=received_ms,
            payload=payload,
        )
        for id, tenant, first_sequence, last_sequence, received_ms, payload in rows
    ]


def _place(tx: Tx, stream: Progress, batch: Batch) -> Landing:
    """What ``batch`` is to those that have its sequences already, stored or earlier in this call."""
    first, last = batch.first_sequence, batch.last_sequence
    if first > stream.highest:
        return Landing.NEW if stream.has_room(first, last) else Landing.DEFERRED
    for other in stream.fresh:
        if other.first_sequence <= last and first <= other.last_sequence:
            return _against(batch, other.first_sequence, other.digest)
    if first > stream.committed_through and not spans.touches(stream.early, first, last):
        return Landing.NEW if stream.has_room(first, last) else Landing.DEFERRED
    c = landing.c
    row = tx.execute(
        select(c.first_sequence, c.last_sequence, c.digest)
        .where(_of(batch.stream) & (c.first_sequence <= last))
        .order_by(c.first_sequence.desc())
        .limit(1)
    ).first()
    if row is not None and row.last_sequence >= first:
        return _against(batch, row.first_sequence, row.digest)
    return _below_the_mark(tx, stream, first, last)


def _below_the_mark(tx: Tx, stream: Progress, first: int, last: int) -> Landing:
    """No row has these sequences, and the mark is beyond ``first``: they are lost, or archived."""
    passed = min(last, stream.committed_through)
    lost = losses.within(tx, stream.key, first, passed)
    if not lost:
        return Landing.DUPLICATE if last <= stream.committed_through else Landing.CONFLICT
    if spans.holes(lost, first, passed):
        return Landing.CONFLICT  # partly archived: batches are never cut again
    losses.found(tx, stream.key, first, passed)
    return Landing.NEW


def _against(batch: Batch, first_sequence: int, digest: str) -> Landing:
    return Landing.DUPLICATE if (first_sequence, digest) == (batch.first_sequence, batch.digest) else Landing.CONFLICT


def _of(key: StreamKey) -> ColumnElement[bool]:
    c = landing.c
    return (c.device == key.device) & (c.epoch == key.epoch) & (c.lane == key.lane)
