"""The state of each device in a rollout."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, Row, Table, Text, delete, func, insert, select, update

from cloud_hub.core.model import RolloutDevice
from cloud_hub.core.waves import Tally
from cloud_hub.store import schema
from cloud_hub.store.database import Tx
from cloud_hub.store.rollouts import active, rollouts
from protos.contract.ids import DeviceId, Digest, ModelName
from protos.contract.twin import ModelAssignment
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
    schema.time("ended_at", nullable=True),
    Index(None, "device"),
)

_FINAL = tuple(int(state) for state in FINAL)
_FAILED = (UpdateState.FAILED, UpdateState.ROLLED_BACK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """A dispatched device and what to send it back to; None: it ran nothing that is known."""

    device: DeviceId
    state: UpdateState | None
    previous: ModelAssignment | None


def add(tx: Tx, id: str, wave: int, devices: Sequence[DeviceId]) -> None:
    if devices:
        tx.execute(insert(rollout_devices), [{"rollout": id, "device": device, "wave": wave} for device in devices])


def of_rollout(tx: Tx, id: str) -> tuple[RolloutDevice, ...]:
    """By wave, then id."""
    d = rollout_devices.c
    rows = tx.execute(select(rollout_devices).where(d.rollout == id).order_by(d.wave, d.device))
    return tuple(_device(row) for row in rows)


def open_for(tx: Tx, device: DeviceId) -> list[str]:
    """Active rollouts in which the device has been dispatched."""
    d = rollout_devices.c
    query = active(select(rollouts.c.id).join(rollout_devices, d.rollout == rollouts.c.id))
    return list(tx.execute(query.where(d.device == device, d.generation > 0)).scalars())


def get(tx: Tx, id: str, device: DeviceId) -> RolloutDevice:
    d = rollout_devices.c
    return _device(tx.execute(select(rollout_devices).where(d.rollout == id, d.device == device)).one())


def tallies(tx: Tx, id: str, waves: int) -> list[Tally]:
    d = rollout_devices.c
    counted = select(d.wave, d.state, func.count().label("devices"), func.max(d.ended_at).label("last"))
    numbers = [{"pending": 0, "committed": 0, "failed": 0} for _ in range(waves)]
    commits: list[datetime | None] = [None] * waves
    for row in tx.execute(counted.where(d.rollout == id).group_by(d.wave, d.state)):
        if row.state == UpdateState.COMMITTED:
            numbers[row.wave]["committed"], commits[row.wave] = row.devices, row.last
        elif row.state in _FAILED:
            numbers[row.wave]["failed"] += row.devices
        elif row.state != UpdateState.SUPERSEDED:
            numbers[row.wave]["pending"] += row.devices
    return [Tally(**number, last_commit=commit) for number, commit in zip(numbers, commits, strict=True)]


def waiting(tx: Tx, id: str, wave: int, limit: int) -> list[DeviceId]:
    """Devices of the waves so far that have not been dispatched."""
    d = rollout_devices.c
    query = select(d.device).where(d.rollout == id, d.wave <= wave, d.generation == 0, d.state.is_(None))
    return [DeviceId(device) for device in tx.execute(query.order_by(d.device).limit(limit)).scalars()]


def first_failure(tx: Tx, id: str) -> tuple[DeviceId, str] | None:
    d = rollout_devices.c
    query = select(d.device, d.reason).where(d.rollout == id, d.state.in_([int(state) for state in _FAILED]))
    row = tx.execute(query.order_by(d.ended_at, d.device).limit(1)).first()
    return (DeviceId(row.device), row.reason) if row else None


def touched(tx: Tx, id: str) -> list[Touched]:
    """Dispatched devices, less those that another rollout took over."""
    d = rollout_devices.c
    rows = tx.execute(select(rollout_devices).where(d.rollout == id, d.generation > 0).order_by(d.device)).all()
    touched = [Touched(device=DeviceId(row.device), state=_state(row), previous=_previous(row)) for row in rows]
    return [one for one in touched if one.state is not UpdateState.SUPERSEDED]


def dispatched(tx: Tx, id: str, device: DeviceId, *, generation: int, target: str, previous: ModelAssignment | None) -> None:
    values: dict[str, Any] = {"generation": generation, "target": target, "state": int(UpdateState.OFFERED)}
    if previous is not None:
        values["previous_name"], values["previous_version"] = previous.name, previous.version
        values["previous_manifest"], values["previous_manifest_bytes"] = previous.manifest_digest, previous.manifest_size_bytes
    _put(tx, id, device, values)


def put_state(
    tx: Tx, id: str, device: DeviceId, state: UpdateState, reason: str, at: datetime, generation: int | None = None
) -> None:
    """``at`` is when it ended, for a final state."""
    values: dict[str, Any] = {"state": int(state), "reason": reason, "ended_at": at if state in FINAL else None}
    if generation is not None:
        values["generation"] = generation
    _put(tx, id, device, values)


def take_over(tx: Tx, id: str, devices: Collection[DeviceId], at: datetime) -> list[str]:
    """Devices of a rollout are no longer those of older active ones, which are returned."""
    d, r = rollout_devices.c, rollouts.c
    own = select(r.number).where(r.id == id).scalar_subquery()
    older = list(tx.execute(active(select(r.id)).where(r.number < own)).scalars())
    running = d.state.is_(None) | d.state.not_in(_FINAL)
    values = {"state": int(UpdateState.SUPERSEDED), "reason": f"rollout {id} took over", "ended_at": at}
    changed = []
    for other in older:
        held = set(tx.execute(select(d.device).where(d.rollout == other, running)).scalars())
        for device in sorted(held.intersection(devices)):
            _put(tx, other, DeviceId(device), values)
        if held.intersection(devices):
            changed.append(other)
    return changed


def taken(tx: Tx, id: str) -> set[DeviceId]:
    """Devices that have had their turn: in this rollout, or in a newer one."""
    d, r = rollout_devices.c, rollouts.c
    own = select(r.number).where(r.id == id).scalar_subquery()
    query = select(d.device).join(rollouts, d.rollout == r.id).where(r.number >= own)
    return {DeviceId(device) for device in tx.execute(query).scalars()}


def forget(tx: Tx, device: DeviceId) -> None:
    """Active rollouts no longer wait for it."""
    d = rollout_devices.c
    running = active(select(rollouts.c.id)).scalar_subquery()
    tx.execute(delete(rollout_devices).where(d.device == device, d.rollout.in_(running)))


def _put(tx: Tx, id: str, device: DeviceId, values: Mapping[str, Any]) -> None:
    d = rollout_devices.c
    tx.execute(update(rollout_devices).where(d.rollout == id, d.device == device).values(**values))


def _device(row: Row[Any]) -> RolloutDevice:
    return RolloutDevice(
        device=DeviceId(row.device),
        wave=row.wave,
        generation=row.generation,
        state=_state(row),
        reason=row.reason,
        target=row.target,
        previous=(ModelName(row.previous_name), row.previous_version) if row.previous_name is not None else None,
        ended_at=row.ended_at,
    )


def _state(row: Row[Any]) -> UpdateState | None:
    return UpdateState(row.state) if row.state is not None else None


def _previous(row: Row[Any]) -> ModelAssignment | None:
    if row.previous_name is None:
        return None
    return ModelAssignment(
        name=ModelName(row.previous_name),
        version=row.previous_version,
        manifest_digest=Digest(row.previous_manifest),
        manifest_size_bytes=row.previous_manifest_bytes,
    )
