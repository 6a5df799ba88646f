"""Rollouts that have ended and still have devices to tell so: a batch at a time, wherever the last one stopped."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Column, ForeignKey, Integer, Row, Table, Text, delete, insert, select, update

from cloud_hub.store import schema
from cloud_hub.store.database import Tx

rollout_unwinds = Table(
    "rollout_unwinds",
    schema.metadata,
    Column("rollout", Text, ForeignKey("rollouts.id"), primary_key=True),
    Column("how", Text, nullable=False),
    Column("wave", Integer),  # null: every wave
    Column("after", Text, nullable=False, default=""),  # the last device that was told
)


class How(StrEnum):
    CALL_OFF = "call_off"  # updates on the way stop; what is committed stays
    SEND_BACK = "send_back"  # everyone back to what it ran before


@dataclass(frozen=True, slots=True, kw_only=True)
class Unwind:
    how: How
    wave: int | None
    after: str = ""


def begin(tx: Tx, id: str, how: How, wave: int | None = None) -> None:
    """In place of one that is not over."""
    end(tx, id)
    tx.execute(insert(rollout_unwinds).values(rollout=id, how=how.value, wave=wave, after=""))


def find(tx: Tx, id: str) -> Unwind | None:
    row = tx.execute(select(rollout_unwinds).where(rollout_unwinds.c.rollout == id)).first()
    return _unwind(row) if row else None


def all_of(tx: Tx) -> list[str]:
    return list(tx.execute(select(rollout_unwinds.c.rollout).order_by(rollout_unwinds.c.rollout)).scalars())


def put_after(tx: Tx, id: str, device: str) -> None:
    tx.execute(update(rollout_unwinds).where(rollout_unwinds.c.rollout == id).values(after=device))


def end(tx: Tx, id: str) -> None:
    tx.execute(delete(rollout_unwinds).where(rollout_unwinds.c.rollout == id))


def _unwind(row: Row[Any]) -> Unwind:
    return Unwind(how=How(row.how), wave=row.wave, after=row.after)
