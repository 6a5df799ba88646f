"""What was counted for the gates of rollouts: sums that grow, by device."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Integer,
    LargeBinary,
    Row,
    Table,
    Text,
    delete,
    func,
    select,
)

from cloud_hub.core.tallies import Side, Tally
from cloud_hub.store import schema
from cloud_hub.store.database import Tx
from cloud_hub.store.gates import parts
from cloud_hub.store.rollouts import active, rollouts
from protos.contract.ids import DeviceId

gate_devices = Table(
    "gate_devices",
    schema.metadata,
    Column("rollout", Text, ForeignKey("rollouts.id"), primary_key=True),
    Column("device", Text, primary_key=True),
    Column("looked_back", Boolean, nullable=False),  # what it did before is counted
    Column("side", Integer),  # that the counters below were read on
    Column("boot", Text, nullable=False),
    Column("inferences", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),
)

gate_tallies = Table(
    "gate_tallies",
    schema.metadata,
    Column("rollout", Text, ForeignKey("rollouts.id"), primary_key=True),
    Column("side", Integer, primary_key=True, autoincrement=False),
    Column("device", Text, primary_key=True),
    Column("slot", Integer, primary_key=True, autoincrement=False),
    Column("version", Text, primary_key=True),
    Column("readings", BigInteger, nullable=False),
    Column("uncertain", BigInteger, nullable=False),
    Column("shift", Float, nullable=False),
    Column("confidence", LargeBinary, nullable=False),  # u64 by bin
    Column("latency", LargeBinary, nullable=False),  # pairs of i64: bucket, readings
    Column("labels", LargeBinary, nullable=False),  # pairs of i64: class, readings
    Column("attempts", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),
)

_PUT_DEVICE = schema.upsert(gate_devices, ("rollout", "device"))
_PUT_TALLY = schema.upsert(gate_tallies, ("rollout", "side", "device", "slot", "version"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What a device counts itself, as it was read last."""

    device: DeviceId
    looked_back: bool = False
    side: Side | None = None
    boot: str = ""
    inferences: int = 0
    errors: int = 0


def counters(tx: Tx, rollout: str) -> dict[DeviceId, Counters]:
    rows = tx.execute(select(gate_devices).where(gate_devices.c.rollout == rollout))
    return {
        DeviceId(row.device): Counters(
            device=DeviceId(row.device),
            looked_back=row.looked_back,
            side=Side(row.side) if row.side is not None else None,
            boot=row.boot,
            inferences=row.inferences,
            errors=row.errors,
        )
        for row in rows
    }


def put_counters(tx: Tx, rollout: str, changed: Iterable[Counters]) -> None:
    rows = [{"rollout": rollout, **{name: getattr(one, name) for name in Counters.__slots__}} for one in changed]
    if rows:
        tx.execute(_PUT_DEVICE, rows)


def tallies(tx: Tx, rollout: str) -> dict[Side, list[Tally]]:
    """All that was counted; every side is there."""
    found: dict[Side, list[Tally]] = {side: [] for side in Side}
    for row in tx.execute(select(gate_tallies).where(gate_tallies.c.rollout == rollout)):
        found[Side(row.side)].append(_tally(row))
    return found


def telling(tx: Tx, rollout: str) -> dict[Side, set[DeviceId]]:
    """Of whom there are readings, by side; where there are none of a side, who counts inferences."""
    t = gate_tallies.c
    query = select(t.side, t.device, func.sum(t.readings).label("readings")).where(t.rollout == rollout)
    found: dict[bool, dict[Side, set[DeviceId]]] = {True: {}, False: {}}
    for row in tx.execute(query.group_by(t.side, t.device)):
        found[row.readings > 0].setdefault(Side(row.side), set()).add(DeviceId(row.device))
    return found[False] | found[True]


def forget(tx: Tx, rollout: str, side: Side) -> None:
    """What was counted on one side."""
    tx.execute(delete(gate_tallies).where(gate_tallies.c.rollout == rollout, gate_tallies.c.side == int(side)))


def add_tallies(tx: Tx, rollout: str, side: Side, more: Iterable[Tally]) -> None:
    """On top of what is there."""
    summed: dict[tuple[str, int, str], Tally] = {}
    for one in more:
        if one.key in summed:
            summed[one.key].add(one)
        else:
            summed[one.key] = replace(one, latency=Counter(one.latency), labels=Counter(one.labels))
    t = gate_tallies.c
    for part in parts(sorted({one.device for one in summed.values()})):
        there = select(gate_tallies).where(t.rollout == rollout, t.side == int(side), t.device.in_(part))
        for row in tx.execute(there):
            old = _tally(row)
            if old.key in summed:
                summed[old.key].add(old)
    if summed:
        tx.execute(_PUT_TALLY, [_row(rollout, side, one) for one in summed.values()])


def clear(tx: Tx) -> int:
    """Forget what was counted for rollouts that have ended; the last verdict stays. How many rows that were."""
    running = active(select(rollouts.c.id))
    return sum(
        tx.execute(delete(table).where(table.c.rollout.not_in(running))).rowcount for table in (gate_tallies, gate_devices)
    )


def _tally(row: Row[Any]) -> Tally:
    return Tally(
        device=row.device,
        slot=row.slot,
        version=row.version,
        readings=row.readings,
        uncertain=row.uncertain,
        shift=row.shift,
        confidence=np.frombuffer(row.confidence, "<u8").astype(np.float64),
        latency=_counter(row.latency),
        labels=_counter(row.labels),
        attempts=row.attempts,
        errors=row.errors,
    )


def _row(rollout: str, side: Side, tally: Tally) -> dict[str, Any]:
    plain = {name: getattr(tally, name) for name in Tally.__slots__}
    return plain | {
        "rollout": rollout,
        "side": int(side),
        "confidence": tally.confidence.astype("<u8").tobytes(),
        "latency": _pairs(tally.latency),
        "labels": _pairs(tally.labels),
    }


def _pairs(counter: Mapping[int, int]) -> bytes:
    return np.array(sorted(counter.items()), dtype="<i8").tobytes()


def _counter(pairs: bytes) -> Counter[int]:
    return Counter(dict(np.frombuffer(pairs, "<i8").reshape(-1, 2).tolist()))
