"""Which records a stream's mark has passed without them: the device has them no more, and the hub does not either."""

from collections.abc import Iterable

from sqlalchemy import BigInteger, Column, ColumnElement, Integer, Table, Text, delete, insert, select

from cloud_hub.core import spans
from cloud_hub.core.spans import Span
from cloud_hub.store import schema
from cloud_hub.store.database import Tx
from cloud_hub.store.streams import StreamKey

losses = Table(
    "losses",
    schema.metadata,
    Column("device", Text, primary_key=True),
    Column("epoch", Text, primary_key=True),
    Column("lane", Integer, primary_key=True, autoincrement=False),
    Column("first_sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("last_sequence", BigInteger, nullable=False),
)


def add(tx: Tx, stream: StreamKey, lost: Iterable[Span]) -> None:
    """None of them may be there already."""
    rows = [{**stream._asdict(), "first_sequence": first, "last_sequence": last} for first, last in lost]
    if rows:
        tx.execute(insert(losses), rows)


def within(tx: Tx, stream: StreamKey, first: int, last: int) -> list[Span]:
    """Those that ``first..last`` touches, whole, in order."""
    c = losses.c
    rows = tx.execute(
        select(c.first_sequence, c.last_sequence)
        .where(_of(stream) & (c.first_sequence <= last) & (c.last_sequence >= first))
        .order_by(c.first_sequence)
    )
    return [(row.first_sequence, row.last_sequence) for row in rows]


def found(tx: Tx, stream: StreamKey, first: int, last: int) -> None:
    """``first..last`` came after all."""
    for old in within(tx, stream, first, last):
        tx.execute(delete(losses).where(_of(stream) & (losses.c.first_sequence == old[0])))
        add(tx, stream, spans.holes([(first, last)], *old))


def _of(stream: StreamKey) -> ColumnElement[bool]:
    c = losses.c
    return (c.device == stream.device) & (c.epoch == stream.epoch) & (c.lane == stream.lane)
