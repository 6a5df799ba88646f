"""The state of each device in a rollout. Whatever moves a device also counts it, in ``rollout_waves``."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    Row,
    Select,
    Table,
    Text,
    bindparam,
    delete,
    func,
    or_,
    select,
    update,
)

from cloud_hub.core.model import RolloutDevice
from cloud_hub.core.rollout_plan import Component
from cloud_hub.store import bulk, previous, rollout_waves, schema
from cloud_hub.store.database import Tx
from cloud_hub.store.previous import Previous
from cloud_hub.store.rollout_waves import Place, place
from cloud_hub.store.rollouts import active, holding, rollouts, succeeded, under_way
from protos.contract.ids import DeviceId
from protos.contract.telemetry import to_ms
from protos.contract.update import FINAL, UpdateState

rollout_devices = Table(
    "rollout_devices",
    schema.metadata,
    Column("rollout", Text, ForeignKey("rollouts.id"), primary_key=True),
    Column("device", Text, primary_key=True),  # stays when the device is deleted
    Column("wave", Integer, nullable=False),
    Column("generation", BigInteger, nullable=False, default=0),
    Column("state", Integer),
    Column("reason", schema.Prose, nullable=False, default=""),
    Column("target", Text, nullable=False, default=""),
    Column("previous_name", Text),
    Column("previous_version", Integer),
    Column("previous_manifest", Text),
    Column("previous_manifest_bytes", Integer),
    Column("previous_package", schema.Json),  # in place of a model
    schema.time("asked_at", nullable=True),
    schema.time("ended_at", nullable=True),
    Index(None, "device"),
)
_waiting = rollout_devices.c.state.is_(None)
Index(
    "ix_rollout_devices_waiting",
    rollout_devices.c.rollout,
    rollout_devices.c.wave,
    rollout_devices.c.device,
    sqlite_where=_waiting,
    postgresql_where=_waiting,
)

_FINAL = tuple(int(state) for state in FINAL)
_FAILED = (UpdateState.FAILED, UpdateState.ROLLED_BACK)
_IDS = 500  # a statement takes only so many parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """A device's place in a rollout that waits for its reports."""

    rollout: str
    component: Component
    row: RolloutDevice


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A device that is being asked."""

    row: RolloutDevice
    generation: int
    target: str
    previous: Previous | None


def add(tx: Tx, id: str, wave: int, devices: Sequence[DeviceId]) -> None:
    """They wait in this wave."""
    rows = [(id, device, wave, 0, "", "") for device in devices]
    bulk.insert(tx, rollout_devices, ("rollout", "device", "wave", "generation", "reason", "target"), rows)
    rollout_waves.shift(tx, id, {(wave, Place.WAITING): len(rows)})


def of_rollout(
    tx: Tx, id: str, *, after: tuple[int, str] = (-1, ""), limit: int, state: UpdateState | None = None
) -> tuple[RolloutDevice, ...]:
    """By wave, then id, those behind ``after``; with a ``state``: only those in it."""
    d = rollout_devices.c
    behind = or_(d.wave > after[0], (d.wave == after[0]) & (d.device > after[1]))
    query = select(rollout_devices).where(d.rollout == id, behind)
    query = query if state is None else query.where(d.state == int(state))
    return tuple(_device(row) for row in tx.execute(query.order_by(d.wave, d.device).limit(limit)))


def open_for(tx: Tx, device: DeviceId) -> list[Open]:
    """Where the device was asked and what it says matters; some answer after their rollout has succeeded without them."""
    rows = tx.execute(_OPEN, {"of_device": device})
    return [Open(rollout=row.rollout, component=Component(row.component), row=_device(row)) for row in rows]


def _open() -> Select[Any]:
    d = rollout_devices.c
    query = select(rollout_devices, rollouts.c.component).join(rollouts, d.rollout == rollouts.c.id)
    answered = d.state.in_(_FINAL)
    taken_back = d.state == int(UpdateState.COMMITTED)  # it may be, while its rollout is under way
    return query.where(
        d.device == bindparam("of_device"), d.generation > 0, (under_way & (~answered | taken_back)) | (succeeded & ~answered)
    )


_OPEN = _open()  # made once: every report of every device asks it


def find(tx: Tx, id: str, devices: Sequence[DeviceId]) -> dict[DeviceId, RolloutDevice]:
    d = rollout_devices.c
    query = select(rollout_devices).where(d.rollout == id)
    rows = (row for part in _parts(devices) for row in tx.execute(query.where(d.device.in_(part))))
    return {DeviceId(row.device): _device(row) for row in rows}


def waiting(tx: Tx, id: str, wave: int, limit: int) -> list[RolloutDevice]:
    """Devices of the waves so far that have not been asked."""
    d = rollout_devices.c
    query = select(rollout_devices).where(d.rollout == id, d.wave <= wave, d.state.is_(None))
    return [_device(row) for row in tx.execute(query.order_by(d.wave, d.device).limit(limit))]


def first_failure(tx: Tx, id: str) -> tuple[DeviceId, str] | None:
    d = rollout_devices.c
    query = select(d.device, d.reason).where(d.rollout == id, d.state.in_([int(state) for state in _FAILED]))
    row = tx.execute(query.order_by(d.ended_at, d.device).limit(1)).first()
    return (DeviceId(row.device), row.reason) if row else None


def touched(tx: Tx, id: str, wave: int | None, *, after: str = "", limit: int) -> list[RolloutDevice]:
    """Asked devices, less those that another rollout took over, by id, those behind ``after``. ``wave`` None: of all waves."""
    d = rollout_devices.c
    query = select(rollout_devices).where(d.rollout == id, d.generation > 0, d.device > after)
    query = query.where(d.state != int(UpdateState.SUPERSEDED))
    query = query if wave is None else query.where(d.wave == wave)
    return [_device(row) for row in tx.execute(query.order_by(d.device).limit(limit))]


def previous_of(tx: Tx, id: str, wave: int | None) -> list[Previous]:
    """What the touched devices ran before, each file once."""
    d = rollout_devices.c
    columns = (d.previous_name, d.previous_version, d.previous_manifest, d.previous_manifest_bytes, d.previous_package)
    query = select(*columns).distinct().where(d.rollout == id, d.generation > 0)
    query = query if wave is None else query.where(d.wave == wave)
    found = [previous.read(row) for row in tx.execute(query.order_by(*columns)).all()]
    return [one for one in found if one is not None]


def put_asked(tx: Tx, id: str, asked: Sequence[Asked], at: datetime) -> None:
    """They are on the way."""
    columns = ("generation", "target", "state", "reason", "previous_name", "previous_version")
    more = ("previous_manifest", "previous_manifest_bytes", "previous_package", "asked_at")
    rows = [
        (
            one.generation,
            one.target,
            int(UpdateState.OFFERED),
            "",
            *previous.columns(tx, one.previous),
            to_ms(at),
            id,
            one.row.device,
        )
        for one in asked
    ]
    bulk.update(tx, rollout_devices, ("rollout", "device"), (*columns, *more), rows)
    _moved(tx, id, [(one.row, UpdateState.OFFERED) for one in asked])


def put_states(tx: Tx, id: str, changes: Sequence[tuple[RolloutDevice, UpdateState, str]], at: datetime) -> None:
    """Rows as they were read in this transaction; ``at`` is when those ended whose state is final."""
    rows = [
        (int(state), _text(reason), to_ms(at) if state in FINAL else None, id, row.device) for row, state, reason in changes
    ]
    bulk.update(tx, rollout_devices, ("rollout", "device"), ("state", "reason", "ended_at"), rows)
    _moved(tx, id, [(row, state) for row, state, _ in changes])


def take_over(tx: Tx, id: str, at: datetime, devices: Sequence[DeviceId] | None = None) -> list[str]:
    """The devices of a rollout (or these of them) are no longer those of older ones of its component, which are returned."""
    d, r = rollout_devices.c, rollouts.c
    own = tx.execute(select(r.number, r.component, r.tenant).where(r.id == id)).one()
    older = holding(select(r.id)).where(r.number < own.number, r.component == own.component, r.tenant == own.tenant)
    running = d.state.is_(None) | d.state.not_in(_FINAL)
    values = {"state": int(UpdateState.SUPERSEDED), "reason": f"rollout {id} took over", "ended_at": at}
    parts = [select(d.device).where(d.rollout == id).scalar_subquery()] if devices is None else list(_parts(devices))
    changed = []
    for other in tx.execute(older.order_by(r.number)).scalars().all():
        taken = 0
        for part in parts:
            taken += tx.execute(
                update(rollout_devices).where(d.rollout == other, running, d.device.in_(part)).values(**values)
            ).rowcount
        if taken:
            _recount(tx, other)
            changed.append(other)
    return changed


def taken(tx: Tx, id: str, devices: Sequence[DeviceId]) -> set[DeviceId]:
    """Those that have had their turn: in this rollout, or in a newer one of its component."""
    d, r = rollout_devices.c, rollouts.c
    own = tx.execute(select(r.number, r.component, r.tenant).where(r.id == id)).one()
    line = (r.number >= own.number, r.component == own.component, r.tenant == own.tenant)
    query = select(d.device).join(rollouts, d.rollout == r.id).where(*line)
    return {DeviceId(device) for part in _parts(devices) for device in tx.execute(query.where(d.device.in_(part))).scalars()}


def leave(tx: Tx, id: str, rows: Sequence[RolloutDevice]) -> None:
    """They wait no longer."""
    d = rollout_devices.c
    for part in _parts([row.device for row in rows]):
        tx.execute(delete(rollout_devices).where(d.rollout == id, d.device.in_(part)))
    gone = Counter((row.wave, place(row.state)) for row in rows)
    rollout_waves.shift(tx, id, {key: -count for key, count in gone.items()})


def forget(tx: Tx, device: DeviceId) -> None:
    """Active rollouts no longer wait for it."""
    d = rollout_devices.c
    query = holding(select(rollout_devices).join(rollouts, d.rollout == rollouts.c.id))
    for row in tx.execute(query.where(d.device == device)).all():
        leave(tx, row.rollout, [_device(row)])


def busy_elsewhere(tx: Tx, id: str, devices: Sequence[DeviceId]) -> set[DeviceId]:
    """Those with an update of another rollout on the way."""
    d = rollout_devices.c
    query = active(select(d.device).join(rollouts, d.rollout == rollouts.c.id))
    query = query.where(d.rollout != id, d.state.is_not(None), d.state.not_in(_FINAL))
    return {DeviceId(device) for part in _parts(devices) for device in tx.execute(query.where(d.device.in_(part))).scalars()}


def _moved(tx: Tx, id: str, moves: Sequence[tuple[RolloutDevice, UpdateState]]) -> None:
    changes: Counter[tuple[int, Place]] = Counter()
    for row, state in moves:
        changes[row.wave, place(row.state)] -= 1
        changes[row.wave, place(state)] += 1
    rollout_waves.shift(tx, id, changes)


def _recount(tx: Tx, id: str) -> None:
    d = rollout_devices.c
    counts: Counter[tuple[int, Place]] = Counter()
    for row in tx.execute(select(d.wave, d.state, func.count().label("n")).where(d.rollout == id).group_by(d.wave, d.state)):
        counts[row.wave, place(_state(row))] += row.n
    rollout_waves.recount(tx, id, counts)


def _parts(devices: Collection[DeviceId]) -> list[list[DeviceId]]:
    every = list(devices)
    return [every[start : start + _IDS] for start in range(0, len(every), _IDS)]


def _text(reason: str) -> str | None:
    return schema.Prose().process_bind_param(reason, None)  # type: ignore[arg-type]  # it asks no dialect


def _device(row: Row[Any]) -> RolloutDevice:
    return RolloutDevice(
        device=DeviceId(row.device),
        wave=row.wave,
        generation=row.generation,
        state=_state(row),
        reason=row.reason,
        target=row.target,
        previous=previous.read(row),
        asked_at=row.asked_at,
        ended_at=row.ended_at,
    )


def _state(row: Row[Any]) -> UpdateState | None:
    return UpdateState(row.state) if row.state is not None else None
