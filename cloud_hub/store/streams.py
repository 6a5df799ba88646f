"""How far each (device, epoch, lane) is stored, and what has come over it."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from sqlalchemy import BigInteger, Column, ColumnElement, Integer, Table, Text, select

from cloud_hub.store import schema
from cloud_hub.store.database import Tx
from protos.contract.ids import DeviceId
from protos.contract.telemetry import Lane, Mark

MAX_MARKS = 64  # streams told to a device: those that moved last
_KEYS_PER_QUERY = 500  # a statement takes only so many parameters

streams = Table(
    "streams",
    schema.metadata,
    Column("device", Text, primary_key=True),
    Column("epoch", Text, primary_key=True),
    Column("lane", Integer, primary_key=True),
    schema.tenant(),
    Column("committed_through", BigInteger, nullable=False),  # -1: nothing yet
    Column("highest", BigInteger, nullable=False),  # last sequence stored, whatever is missing before it
    Column("behind_hole", BigInteger),  # first sequence of the batch behind the first hole; null: no hole
    Column("passes", Integer, nullable=False),  # in which it came again
    Column("pass_ms", BigInteger, nullable=False),  # when it came last
    Column("batches", BigInteger, nullable=False),
    Column("records", BigInteger, nullable=False),
    Column("duplicates", BigInteger, nullable=False),
    Column("dropped", BigInteger, nullable=False),
    Column("payload_bytes", BigInteger, nullable=False),
    Column("last_captured_ms", BigInteger),
    Column("updated_ms", BigInteger, nullable=False),
)


class StreamKey(NamedTuple):
    device: DeviceId
    epoch: str
    lane: int


def marks(tx: Tx, device: DeviceId) -> tuple[Mark, ...]:
    """How far each stream of ``device`` is whole; a stream without its start has none."""
    s = streams.c
    rows = tx.execute(
        select(s.epoch, s.lane, s.committed_through)
        .where((s.device == device) & (s.committed_through >= 0))
        .order_by(s.updated_ms.desc())
        .limit(MAX_MARKS)
    )
    return tuple(Mark(epoch=row.epoch, lane=Lane(row.lane), committed_through=row.committed_through) for row in rows)


def reached(tx: Tx, wanted: Sequence[StreamKey]) -> list[tuple[DeviceId, Mark]]:
    """The marks of these streams; one without its start has none."""
    s = streams.c
    query = select(s.device, s.epoch, s.lane, s.committed_through).where(s.committed_through >= 0)
    found = []
    for start in range(0, len(wanted), _KEYS_PER_QUERY):
        keys = set(wanted[start : start + _KEYS_PER_QUERY])
        for device, epoch, lane, through in tx.execute(query.where(near(keys))):
            if (device, epoch, lane) in keys:
                found.append((DeviceId(device), Mark(epoch=epoch, lane=Lane(lane), committed_through=through)))
    return found


def near(keys: Collection[StreamKey]) -> ColumnElement[bool]:
    """All of ``keys`` and few others: by two lists SQLite finds rows in the index, for a list of triples it scans the table."""
    return streams.c.device.in_({key.device for key in keys}) & streams.c.epoch.in_({key.epoch for key in keys})
