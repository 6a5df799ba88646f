"""Telemetry as it lands: a row per batch, exactly one effect per batch, and how far each stream is whole.

A stream is one (device, epoch, lane). Its mark is the device's licence to forget, so it moves only over batches that are
stored without a hole, from sequence 0 on.

One thing ends a hole without its records: a device that no longer has them, because the hub lost its database or was restored
from an older backup after it had given out higher marks, or because the batch is in quarantine. A device that sees no mark
sends everything it still holds again, oldest first. So when the batch behind the hole has come again in LOST_PASSES separate
passes, PASS_MS or more apart, and nothing of the hole came before it, the hole is given up and recorded as a ``telemetry.lost``
event. One pass would not do: a killed broker may lose a batch that it had acknowledged, and then the next one comes alone.
If the records do come later they are stored all the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

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
    insert,
    select,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.sqlite import insert as upsert

from cloud_hub.store import events, schema
from cloud_hub.store.database import Tx
from cloud_hub.store.streams import StreamKey, near, streams
from protos.contract.ids import DeviceId, Digest, TenantId
from protos.contract.telemetry import Event, Lane, first_gap_free, from_ms

LOST_PASSES = 3
PASS_MS = 10_000  # below the agent's own pause between passes; above what the broker delivers again after a hub's restart

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
    DUPLICATE = "duplicate"  # stored before, the same bytes
    CONFLICT = "conflict"  # its sequences are taken by other bytes: two devices use one identity


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Landed:
    """A stored batch, as those who unfold it need it."""

    id: int
    tenant: TenantId
    device: DeviceId
    received_ms: int
    payload: bytes


@dataclass(slots=True, kw_only=True)
class _Stream:
    tenant: TenantId
    committed_through: int = -1
    highest: int = -1
    behind_hole: int | None = None
    passes: int = 0
    pass_ms: int = 0
    batches: int = 0
    records: int = 0
    duplicates: int = 0
    dropped: int = 0
    payload_bytes: int = 0
    last_captured_ms: int | None = None
    updated_ms: int = 0
    fresh: list[Batch] = field(default_factory=list)  # what this call stores


_KEY = ("device", "epoch", "lane")
_STATE = tuple(column.name for column in streams.columns if column.name not in _KEY)
_PUT = upsert(streams)
_PUT_STREAM = _PUT.on_conflict_do_update(index_elements=_KEY, set_={name: _PUT.excluded[name] for name in _STATE})
_ROW = tuple(column.name for column in landing.columns if column.name != "id")
# given to the driver as it is: binding value by value costs as much as everything else here together
_INSERT = str(insert(landing).compile(dialect=sqlite.dialect(), column_keys=_ROW))
assert Batch._fields[: len(_ROW)] == _ROW


def land_many(tx: Tx, batches: Sequence[Batch]) -> list[Landing]:
    """Store those that are not there yet, with their events, counters and marks; the answer is in the order of ``batches``.

    On the hot path: a handful of statements per call, not per batch, as long as batches come in order. It relies on one writer
    at a time; where another one stored the same batch meanwhile the insert fails as a whole, and the call can be made again.
    """
    if not batches:
        return []
    known = _load(tx, {batch.stream: batch.tenant for batch in batches})
    outcomes = []
    for batch in batches:
        stream = known[batch.stream]
        outcome = _place(tx, stream, batch)
        outcomes.append(outcome)
        stream.updated_ms = batch.received_ms
        if outcome is Landing.NEW:
            _count(stream, batch)
        elif outcome is Landing.DUPLICATE:
            stream.duplicates += 1
            _came_again(tx, stream, batch)
    new = [batch for batch, outcome in zip(batches, outcomes, strict=True) if outcome is Landing.NEW]
    if new:
        tx.exec_driver_sql(_INSERT, [batch[: len(_ROW)] for batch in new])
    events.add(tx, ((batch.tenant, batch.device, event) for batch in new for event in batch.events))
    for key, stream in known.items():
        if stream.fresh:
            _advance(tx, key, stream)
    tx.execute(_PUT_STREAM, [_values(key, stream) for key, stream in known.items()])
    return outcomes


def landed_after(tx: Tx, cursor: int, limit: int) -> list[Landed]:
    """The next batches behind row ``cursor``, in the order they were stored: rows are numbered by one writer at a time."""
    c = landing.c
    rows = tx.execute(
        select(c.id, c.tenant, c.device, c.received_ms, c.payload).where(c.id > cursor).order_by(c.id).limit(limit)
    )
    return [
        Landed(id=id, tenant=TenantId(tenant), device=DeviceId(device), received_ms=received, payload=payload)
        for id, tenant, device, received, payload in rows
    ]


def _place(tx: Tx, stream: _Stream, batch: Batch) -> Landing:
    """What ``batch`` is to those that have its sequences already, stored or earlier in this call."""
    if batch.first_sequence > stream.highest:
        return Landing.NEW
    for other in stream.fresh:
        if other.first_sequence <= batch.last_sequence and batch.first_sequence <= other.last_sequence:
            return _against(batch, other.first_sequence, other.digest)
    c = landing.c
    row = tx.execute(
        select(c.first_sequence, c.last_sequence, c.digest)
        .where(_of(batch.stream) & (c.first_sequence <= batch.last_sequence))
        .order_by(c.first_sequence.desc())
        .limit(1)
    ).first()
    if row is None or row.last_sequence < batch.first_sequence:
        return Landing.NEW
    return _against(batch, row.first_sequence, row.digest)


def _against(batch: Batch, first_sequence: int, digest: str) -> Landing:
    return Landing.DUPLICATE if (first_sequence, digest) == (batch.first_sequence, batch.digest) else Landing.CONFLICT


def _load(tx: Tx, wanted: dict[StreamKey, TenantId]) -> dict[StreamKey, _Stream]:
    found = {key: _Stream(tenant=tenant) for key, tenant in wanted.items()}
    for row in tx.execute(select(streams).where(near(found))):
        key = StreamKey(row.device, row.epoch, row.lane)
        if key in found:
            found[key] = _Stream(**{name: getattr(row, name) for name in _STATE})
    return found


def _count(stream: _Stream, batch: Batch) -> None:
    stream.fresh.append(batch)
    stream.highest = max(stream.highest, batch.last_sequence)
    stream.batches += 1
    stream.records += batch.records
    stream.dropped += batch.dropped
    stream.payload_bytes += len(batch.payload)
    if batch.last_captured_ms is not None:
        stream.last_captured_ms = max(stream.last_captured_ms or 0, batch.last_captured_ms)


def _advance(tx: Tx, key: StreamKey, stream: _Stream) -> None:
    """Move the mark over what is whole now, and note what stands behind the first hole."""
    through = first_gap_free(sorted((b.first_sequence, b.last_sequence) for b in stream.fresh), after=stream.committed_through)
    behind = None
    if through < stream.highest:
        c = landing.c
        later = tx.execute(
            select(c.first_sequence, c.last_sequence).where(_of(key) & (c.first_sequence > through)).order_by(c.first_sequence)
        )
        for first, last in later:
            if first > through + 1:
                behind = first
                break
            through = max(through, last)
        later.close()
    if behind != stream.behind_hole or through > stream.committed_through:
        stream.passes, stream.pass_ms = 0, stream.updated_ms
    stream.committed_through, stream.behind_hole = through, behind
    stream.fresh.clear()


def _came_again(tx: Tx, stream: _Stream, batch: Batch) -> None:
    """See the module's head: a hole that the device passes again and again will not be filled."""
    if batch.first_sequence != stream.behind_hole or stream.fresh or batch.received_ms - stream.pass_ms < PASS_MS:
        return
    stream.passes, stream.pass_ms = stream.passes + 1, batch.received_ms
    if stream.passes >= LOST_PASSES:
        first, last = stream.committed_through + 1, batch.first_sequence - 1
        detail = f"records {first}..{last} of epoch {batch.epoch}, lane {batch.lane.name.lower()}: the device has them no more"
        event = Event(sequence=first, at=from_ms(batch.received_ms), kind="telemetry.lost", detail=detail)
        events.add(tx, [(batch.tenant, batch.device, event)])
        stream.committed_through = last
        _advance(tx, batch.stream, stream)


def _values(key: StreamKey, stream: _Stream) -> dict[str, Any]:
    return {**key._asdict(), **{name: getattr(stream, name) for name in _STATE}}


def _of(key: StreamKey) -> ColumnElement[bool]:
    c = landing.c
    return (c.device == key.device) & (c.epoch == key.epoch) & (c.lane == key.lane)
