"""Devices: who they are, what they should run, what they say."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Row,
    Select,
    Table,
    Text,
    bindparam,
    delete,
    exists,
    func,
    insert,
    select,
    text,
    update,
)

from cloud_hub.core.labels import model_term
from cloud_hub.core.model import Device
from cloud_hub.store import bulk, device_changes, schema
from cloud_hub.store.database import Tx
from protos.contract import codec
from protos.contract.ids import DeviceId, Digest, ModelName, TenantId
from protos.contract.telemetry import to_ms
from protos.contract.twin import DesiredTwin, ModelAssignment, Presence, ReportedTwin, Status


def _waiting(table: str, where: str) -> Index:
    """Few of many rows."""
    return Index(f"ix_{table}_undelivered", "id", sqlite_where=text(where), postgresql_where=text(where))


devices = Table(
    "devices",
    schema.metadata,
    Column("id", Text, primary_key=True),
    schema.tenant(),
    Column("board", Text, nullable=False),
    schema.time("created_at"),
    schema.time("enrolled_at", nullable=True),
    Column("presence", Integer),
    Column("status_boot", Text),
    schema.time("status_at", nullable=True),  # by the device's clock
    schema.time("last_seen", nullable=True),  # by ours
    Column("desired_generation", BigInteger, nullable=False, default=0),
    Column("desired_name", Text),
    Column("desired_version", Integer),
    Column("desired_manifest", Text),
    Column("desired_manifest_bytes", Integer),
    Column("desired_rollout", Text, nullable=False, default=""),
    schema.time("desired_renew_before", nullable=True),
    Column("desired_twin", LargeBinary),  # the whole of it as it goes over the wire; null: nothing but what stands above
    Column("delivered_generation", BigInteger, nullable=False, default=0),  # what the broker holds for it
    Column("reported", LargeBinary),  # as it came over the wire
    Column("reported_name", Text),
    Column("reported_version", Integer),
    Column("reported_manifest", Text),
    Index(None, "tenant", "id"),
    _waiting("devices", "delivered_generation < desired_generation"),
)

device_labels = Table(
    "device_labels",
    schema.metadata,
    Column("device", Text, ForeignKey("devices.id", ondelete="CASCADE"), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
    Index(None, "key", "value"),
)

# Generations of one device id go on growing when it is deleted and made again: a device that kept its disk would take a
# smaller one for an old message. Its last desired twin is withdrawn from the broker through the same outbox.
retired_devices = Table(
    "retired_devices",
    schema.metadata,
    Column("id", Text, primary_key=True),
    schema.tenant(),
    Column("generation", BigInteger, nullable=False),
    Column("delivered_generation", BigInteger, nullable=False),
    _waiting("retired_devices", "delivered_generation < generation"),
)


_DESIRED = select(*(column for column in devices.c if column.name.startswith("desired_"))).where(
    devices.c.id == bindparam("of_device")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LastWord:
    """What is needed of a device to judge its next message: every device sends one every half minute."""

    tenant: TenantId
    desired_generation: int
    presence: Presence | None
    boot_id: str | None
    status_at: datetime | None  # by its own clock
    model: tuple[str, int] | None  # it says it runs


def add(tx: Tx, id: DeviceId, tenant: TenantId, board: str, labels: Mapping[str, str], at: datetime) -> bool:
    """False where the id is taken, by whichever tenant."""
    if tx.execute(select(devices.c.id).where(devices.c.id == id)).first():
        return False
    retired = tx.execute(select(retired_devices).where(retired_devices.c.id == id)).first()
    tx.execute(delete(retired_devices).where(retired_devices.c.id == id))
    tx.execute(
        insert(devices).values(
            id=id,
            tenant=tenant,
            board=board,
            created_at=at,
            desired_generation=retired.generation if retired else 0,
            delivered_generation=retired.delivered_generation if retired and retired.tenant == tenant else 0,
        )
    )
    put_labels(tx, id, labels)
    return True


def put_labels(tx: Tx, id: DeviceId, labels: Mapping[str, str]) -> None:
    """Replaces all of them."""
    tx.execute(delete(device_labels).where(device_labels.c.device == id))
    if labels:
        tx.execute(insert(device_labels), [{"device": id, "key": key, "value": value} for key, value in labels.items()])
    device_changes.note(tx, id)


def enrolled(tx: Tx, id: DeviceId, at: datetime) -> None:
    tx.execute(update(devices).where(devices.c.id == id).values(enrolled_at=at))


def tenants(tx: Tx, ids: Sequence[DeviceId]) -> dict[DeviceId, TenantId]:
    """Of those that are known."""
    columns = (devices.c.id, devices.c.tenant)
    rows = [row for part in _parts(ids) for row in tx.execute(select(*columns).where(devices.c.id.in_(part)))]
    return {DeviceId(row.id): TenantId(row.tenant) for row in rows}


def remove(tx: Tx, id: DeviceId) -> None:
    """With its labels and its token, and its desired twin is withdrawn; its telemetry stays."""
    row = tx.execute(
        select(devices.c.tenant, devices.c.desired_generation, devices.c.delivered_generation).where(devices.c.id == id)
    ).one()
    tx.execute(delete(devices).where(devices.c.id == id))
    tx.execute(
        insert(retired_devices).values(
            id=id,
            tenant=row.tenant,
            generation=row.desired_generation + (row.desired_generation > 0),
            delivered_generation=row.delivered_generation,
        )
    )


def find(tx: Tx, id: DeviceId) -> Device | None:
    """Of whichever tenant."""
    row = tx.execute(select(devices).where(devices.c.id == id)).first()
    return _devices(tx, [row])[0] if row else None


def find_many(tx: Tx, ids: Sequence[DeviceId]) -> dict[DeviceId, Device]:
    rows = [row for part in _parts(ids) for row in tx.execute(select(devices).where(devices.c.id.in_(part)))]
    return {device.id: device for device in _devices(tx, rows)}


def matching(
    tx: Tx, tenant: TenantId, selector: Mapping[str, str], *, after: str = "", limit: int | None = None
) -> list[Device]:
    """In the order of their ids, those behind ``after``."""
    query = _selected(select(devices), tenant, selector).where(devices.c.id > after).order_by(devices.c.id)
    return _devices(tx, tx.execute(query.limit(limit) if limit is not None else query).all())


def matching_ids(tx: Tx, tenant: TenantId, selector: Mapping[str, str]) -> list[DeviceId]:
    return [
        DeviceId(id) for id in tx.execute(_selected(select(devices.c.id), tenant, selector).order_by(devices.c.id)).scalars()
    ]


def ordered_ids(tx: Tx, tenant: TenantId, selector: Mapping[str, str]) -> list[DeviceId]:
    """Those that are online first: they can answer for the others sooner; then by id."""
    away = func.coalesce(devices.c.presence, 0) != int(Presence.ONLINE)
    query = _selected(select(devices.c.id), tenant, selector).order_by(away, devices.c.id)
    return [DeviceId(id) for id in tx.execute(query).scalars()]


def matching_among(tx: Tx, tenant: TenantId, selector: Mapping[str, str], ids: Sequence[DeviceId]) -> set[DeviceId]:
    """Those of ``ids``."""
    query = _selected(select(devices.c.id), tenant, selector)
    return {DeviceId(id) for part in _parts(ids) for id in tx.execute(query.where(devices.c.id.in_(part))).scalars()}


def put_status(tx: Tx, id: DeviceId, status: Status, seen: datetime | None) -> None:
    """``seen`` None: leave when it was last seen."""
    values: dict[str, Any] = {"presence": int(status.presence), "status_boot": status.boot_id, "status_at": status.at}
    if seen is not None:
        values["last_seen"] = seen
    tx.execute(update(devices).where(devices.c.id == id).values(**values))


def last_word(tx: Tx, id: DeviceId) -> LastWord | None:
    """Of whichever tenant."""
    d = devices.c
    columns = (d.tenant, d.desired_generation, d.presence, d.status_boot, d.status_at, d.reported_name, d.reported_version)
    row = tx.execute(select(*columns).where(d.id == id)).first()
    if row is None:
        return None
    return LastWord(
        tenant=TenantId(row.tenant),
        desired_generation=row.desired_generation,
        presence=Presence(row.presence) if row.presence is not None else None,
        boot_id=row.status_boot,
        status_at=row.status_at,
        model=(row.reported_name, row.reported_version) if row.reported_name is not None else None,
    )


def put_reported(tx: Tx, id: DeviceId, twin: ReportedTwin, seen: datetime) -> None:
    model = twin.model
    tx.execute(
        update(devices)
        .where(devices.c.id == id)
        .values(
            reported=codec.encode_reported(twin),
            reported_name=model.name if model else None,
            reported_version=model.version if model else None,
            reported_manifest=model.manifest_digest if model else None,
            last_seen=seen,
        )
    )


def put_desired(tx: Tx, id: DeviceId, twin: DesiredTwin) -> None:
    put_desired_many(tx, [(id, twin)])


def put_desired_many(tx: Tx, twins: Sequence[tuple[DeviceId, DesiredTwin]]) -> None:
    """In one statement."""
    columns = ("desired_generation", "desired_name", "desired_version", "desired_manifest", "desired_manifest_bytes")
    more = ("desired_rollout", "desired_renew_before", "desired_twin")
    bulk.update(tx, devices, ("id",), (*columns, *more), [(*_desired_columns(twin), id) for id, twin in twins])


def desired(tx: Tx, id: DeviceId) -> DesiredTwin | None:
    """None: no such device."""
    row = tx.execute(_DESIRED, {"of_device": id}).first()
    return desired_of(row) if row else None


def manifests_of(tx: Tx, id: DeviceId) -> set[Digest]:
    """Manifests a device should run, or try beside what it runs, or says it runs."""
    d = devices.c
    row = tx.execute(select(d.desired_manifest, d.reported_manifest, d.desired_twin).where(d.id == id)).first()
    if row is None:
        return set()
    challenger = codec.decode_desired(row.desired_twin).challenger if row.desired_twin is not None else None
    found = {Digest(digest) for digest in (row.desired_manifest, row.reported_manifest) if digest}
    return found | ({challenger.model.manifest_digest} if challenger is not None else set())


def _selected(query: Select[Any], tenant: TenantId, selector: Mapping[str, str]) -> Select[Any]:
    query = query.where(devices.c.tenant == tenant)
    for key, value in selector.items():
        if key in ("id", "board"):
            query = query.where(devices.c[key] == value)
        elif key == "model":
            name, version = model_term(value)
            query = query.where(devices.c.reported_name == name)
            query = query if version is None else query.where(devices.c.reported_version == version)
        else:
            own = (device_labels.c.device == devices.c.id) & (device_labels.c.key == key) & (device_labels.c.value == value)
            query = query.where(exists().where(own))
    return query


def _devices(tx: Tx, rows: Sequence[Row[Any]]) -> list[Device]:
    labels: dict[str, dict[str, str]] = {row.id: {} for row in rows}
    for part in _parts(list(labels)):
        for label in tx.execute(select(device_labels).where(device_labels.c.device.in_(part))):
            labels[label.device][label.key] = label.value
    return [_device(row, labels[row.id]) for row in rows]


def _device(row: Row[Any], labels: Mapping[str, str]) -> Device:
    return Device(
        id=DeviceId(row.id),
        tenant=TenantId(row.tenant),
        board=row.board,
        labels=labels,
        enrolled=row.enrolled_at is not None,
        presence=Presence(row.presence) if row.presence is not None else None,
        last_seen=row.last_seen,
        desired=desired_of(row),
        reported=codec.decode_reported(row.reported) if row.reported is not None else None,
        created_at=row.created_at,
    )


def _desired_columns(twin: DesiredTwin) -> tuple[Any, ...]:
    model, renew = twin.model, twin.renew_before
    named = (model.name, model.version, model.manifest_digest, model.manifest_size_bytes) if model else (None,) * 4
    renewal = to_ms(renew) if renew is not None else None
    return twin.generation, *named, twin.rollout_id, renewal, codec.encode_desired(twin)


def desired_of(row: Row[Any]) -> DesiredTwin:
    """Of a row of ``devices``."""
    if row.desired_twin is not None:
        return codec.decode_desired(row.desired_twin)
    model = None
    if row.desired_manifest is not None:
        model = ModelAssignment(
            name=ModelName(row.desired_name),
            version=row.desired_version,
            manifest_digest=Digest(row.desired_manifest),
            manifest_size_bytes=row.desired_manifest_bytes,
        )
    return DesiredTwin(
        generation=row.desired_generation,
        model=model,
        rollout_id=row.desired_rollout,
        renew_before=row.desired_renew_before,
    )


def _parts(ids: Sequence[str], size: int = 500) -> Iterable[Sequence[str]]:
    # a statement takes only so many parameters
    return (ids[start : start + size] for start in range(0, len(ids), size))
