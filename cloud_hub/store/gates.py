"""Rollouts with gates: what was counted for them, and what was judged last."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    ForeignKey,
    Integer,
    Row,
    Table,
    Text,
    select,
    update,
)

from cloud_hub.core.tallies import Side
from cloud_hub.store import rollout_waves, schema
from cloud_hub.store.database import Tx
from cloud_hub.store.rollout_devices import rollout_devices
from cloud_hub.store.rollouts import active, rollouts
from protos.contract.ids import DeviceId, ModelName, TenantId
from protos.contract.update import UpdateState

gated_rollouts = Table(
    "gated_rollouts",
    schema.metadata,
    Column("rollout", Text, ForeignKey("rollouts.id"), primary_key=True),
    schema.tenant(),
    Column("model", Text),  # null: it brings no model
    Column("version", Integer),
    Column("gates", schema.Json, nullable=False),  # as ``core.gates.parse`` takes them
    Column("back_s", Integer, nullable=False),  # how far "before" goes back
    Column("slot_ms", Integer, nullable=False),
    Column("coarse", schema.Json, nullable=False),  # sides of many devices, which need no slots
    schema.time("began_at"),
    schema.time("compared_from", nullable=True),  # when the first device had committed: from then on the others are watched too
    Column("waived", Boolean, nullable=False, default=False),
    Column("outcome", Text),  # null: not judged yet
    Column("committed", Integer, nullable=False, default=0),  # devices that had committed when it was judged
    Column("readings", schema.Json),
    schema.time("judged_at", nullable=True),
)

_KEYS_PER_QUERY = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Gated:
    """A rollout with gates."""

    rollout: str
    tenant: TenantId
    model: tuple[ModelName, int] | None  # that it brings
    gates: Sequence[Mapping[str, Any]]
    back_s: int
    slot_ms: int  # of what is counted in slots since it began
    began_at: datetime
    coarse: frozenset[Side] = frozenset()
    compared_from: datetime | None = None  # None: no device has committed yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What was judged last."""

    gates: Sequence[Mapping[str, Any]]
    waived: bool
    outcome: str | None
    committed: int
    readings: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A device of a rollout as far as gates care."""

    device: DeviceId
    asked_at: datetime | None  # None: its turn has not come, or it runs it already
    state: UpdateState | None
    ended_at: datetime | None

    @property
    def side(self) -> Side | None:
        """What its readings count for now."""
        if self.state is UpdateState.COMMITTED:
            return Side.TREATED
        return Side.CONTROL if self.asked_at is None and self.state is None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Readings of a device count for one side of a rollout, from a time on."""

    gated: Gated
    side: Side
    since: datetime


def add(tx: Tx, gated: Gated) -> None:
    name, version = gated.model or (None, None)
    values = {one: getattr(gated, one) for one in ("rollout", "tenant", "back_s", "slot_ms", "began_at")}
    tx.execute(gated_rollouts.insert().values(model=name, version=version, gates=list(gated.gates), coarse=[], **values))


def every(tx: Tx) -> list[Gated]:
    """Those that have not ended and whose gates are not waived."""
    query = active(select(gated_rollouts).join(rollouts, rollouts.c.id == gated_rollouts.c.rollout))
    return [_gated(row) for row in tx.execute(query.where(gated_rollouts.c.waived.is_(False)).order_by(rollouts.c.number))]


def members(tx: Tx, rollout: str) -> list[Member]:
    """By id."""
    d = rollout_devices.c
    query = select(d.device, d.asked_at, d.state, d.ended_at).where(d.rollout == rollout).order_by(d.device)
    return [_member(row.device, row.asked_at, row.state, row.ended_at) for row in tx.execute(query)]


def watches(tx: Tx, gated: Sequence[Gated], among: Collection[DeviceId]) -> dict[DeviceId, list[Watch]]:
    """For what the readings of these devices count."""
    d, by_id = rollout_devices.c, {one.rollout: one for one in gated}
    found: dict[DeviceId, list[Watch]] = {}
    for part in parts(sorted(among)) if gated else ():
        query = select(d.rollout, d.device, d.asked_at, d.state, d.ended_at)
        for row in tx.execute(query.where(d.rollout.in_(list(by_id)), d.device.in_(part))):
            member, one = _member(row.device, row.asked_at, row.state, row.ended_at), by_id[row.rollout]
            since = member.ended_at if member.side is Side.TREATED else one.compared_from
            if member.side is not None and since is not None:
                found.setdefault(member.device, []).append(Watch(gated=one, side=member.side, since=since))
    return found


def put_coarse(tx: Tx, rollout: str, sides: Collection[Side]) -> None:
    tx.execute(update(gated_rollouts).where(gated_rollouts.c.rollout == rollout).values(coarse=sorted(map(int, sides))))


def put_compared_from(tx: Tx, rollout: str, at: datetime) -> None:
    tx.execute(update(gated_rollouts).where(gated_rollouts.c.rollout == rollout).values(compared_from=at))


def put_verdict(
    tx: Tx, rollout: str, *, outcome: str, committed: int, readings: Sequence[Mapping[str, Any]], at: datetime
) -> None:
    values = {"outcome": outcome, "committed": committed, "readings": list(readings), "judged_at": at}
    tx.execute(update(gated_rollouts).where(gated_rollouts.c.rollout == rollout).values(**values))


def verdict(tx: Tx, rollout: str) -> Judged | None:
    """None: it has no gates."""
    row = tx.execute(select(gated_rollouts).where(gated_rollouts.c.rollout == rollout)).first()
    if row is None:
        return None
    return Judged(gates=row.gates, waived=row.waived, outcome=row.outcome, committed=row.committed, readings=row.readings or ())


def committed(tx: Tx, rollout: str) -> int:
    """Devices that have it now."""
    return sum(wave.committed for wave in rollout_waves.of_rollout(tx, rollout))


def waive(tx: Tx, rollout: str) -> None:
    tx.execute(update(gated_rollouts).where(gated_rollouts.c.rollout == rollout).values(waived=True))


def _gated(row: Row[Any]) -> Gated:
    return Gated(
        rollout=row.rollout,
        tenant=TenantId(row.tenant),
        model=(ModelName(row.model), row.version) if row.model is not None else None,
        gates=row.gates,
        back_s=row.back_s,
        slot_ms=row.slot_ms,
        began_at=row.began_at,
        coarse=frozenset(map(Side, row.coarse)),
        compared_from=row.compared_from,
    )


def _member(device: str, asked_at: datetime | None, state: int | None, ended_at: datetime | None) -> Member:
    known = UpdateState(state) if state is not None else None
    return Member(device=DeviceId(device), asked_at=asked_at, state=known, ended_at=ended_at)


def parts(devices: Sequence[Any]) -> Iterable[Sequence[Any]]:
    """A statement takes only so many parameters."""
    return (devices[start : start + _KEYS_PER_QUERY] for start in range(0, len(devices), _KEYS_PER_QUERY))
