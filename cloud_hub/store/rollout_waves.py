"""How each wave of a rollout stands, counted as its devices move: no report makes anybody count a hundred thousand rows."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Column, ForeignKey, Integer, Row, Table, Text, insert, select, update

from cloud_hub.core.waves import WaveStanding
from cloud_hub.store import schema
from cloud_hub.store.database import Tx
from protos.contract.update import UpdateState

rollout_waves = Table(
    "rollout_waves",
    schema.metadata,
    Column("rollout", Text, ForeignKey("rollouts.id"), primary_key=True),
    Column("wave", Integer, primary_key=True, autoincrement=False),
    Column("waiting", Integer, nullable=False, default=0),
    Column("pending", Integer, nullable=False, default=0),
    Column("committed", Integer, nullable=False, default=0),
    Column("failed", Integer, nullable=False, default=0),
    Column("superseded", Integer, nullable=False, default=0),
    schema.time("started_at", nullable=True),
    schema.time("asked_at", nullable=True),
    schema.time("soaking_since", nullable=True),
    Column("approved_by", Text, nullable=False, default=""),
)


class Place(StrEnum):
    """Where a device stands: the column that counts it."""

    WAITING = "waiting"
    PENDING = "pending"
    COMMITTED = "committed"
    FAILED = "failed"
    SUPERSEDED = "superseded"


_PLACES = {
    None: Place.WAITING,
    UpdateState.COMMITTED: Place.COMMITTED,
    UpdateState.FAILED: Place.FAILED,
    UpdateState.ROLLED_BACK: Place.FAILED,
    UpdateState.SUPERSEDED: Place.SUPERSEDED,
}


def place(state: UpdateState | None) -> Place:
    return _PLACES.get(state, Place.PENDING)


def add(tx: Tx, id: str, waves: int) -> None:
    tx.execute(insert(rollout_waves), [{"rollout": id, "wave": wave} for wave in range(waves)])


def of_rollout(tx: Tx, id: str) -> tuple[WaveStanding, ...]:
    """In their order."""
    rows = tx.execute(select(rollout_waves).where(rollout_waves.c.rollout == id).order_by(rollout_waves.c.wave))
    return tuple(_standing(row) for row in rows)


def shift(tx: Tx, id: str, changes: Mapping[tuple[int, Place], int]) -> None:
    """Add to the counts, by wave and place."""
    c = rollout_waves.c
    for wave in sorted({wave for wave, _ in changes}):
        values = {place.value: c[place.value] + n for (own, place), n in changes.items() if own == wave and n}
        if values:
            tx.execute(update(rollout_waves).where(c.rollout == id, c.wave == wave).values(**values))


def recount(tx: Tx, id: str, counts: Mapping[tuple[int, Place], int]) -> None:
    """Put the counts of every wave: those that are not there are 0."""
    c = rollout_waves.c
    for wave in tx.execute(select(c.wave).where(c.rollout == id)).scalars().all():
        values = {place.value: counts.get((wave, place), 0) for place in Place}
        tx.execute(update(rollout_waves).where(c.rollout == id, c.wave == wave).values(**values))


def put_started(tx: Tx, id: str, wave: int, at: datetime) -> None:
    _put(tx, id, wave, started_at=at)


def put_asked(tx: Tx, id: str, wave: int, at: datetime) -> None:
    _put(tx, id, wave, asked_at=at)


def put_soaking(tx: Tx, id: str, wave: int, since: datetime | None) -> None:
    _put(tx, id, wave, soaking_since=since)


def put_approved(tx: Tx, id: str, wave: int, by: str) -> None:
    _put(tx, id, wave, approved_by=by)


def _put(tx: Tx, id: str, wave: int, **values: Any) -> None:
    tx.execute(update(rollout_waves).where(rollout_waves.c.rollout == id, rollout_waves.c.wave == wave).values(**values))


def _standing(row: Row[Any]) -> WaveStanding:
    return WaveStanding(
        waiting=row.waiting,
        pending=row.pending,
        committed=row.committed,
        failed=row.failed,
        superseded=row.superseded,
        started_at=row.started_at,
        asked_at=row.asked_at,
        soaking_since=row.soaking_since,
        approved_by=row.approved_by,
    )
