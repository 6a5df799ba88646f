"""Data sets and their samples; the contents themselves are in the artifact store."""

import hashlib
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    Column,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    Row,
    Table,
    Text,
    UniqueConstraint,
    func,
    insert,
    select,
    update,
)

from cloud_hub.core.datasets import Holding, LabelEvent, LabelOrigin
from cloud_hub.core.model import Dataset, Sample
from cloud_hub.core.tasks import Annotation
from cloud_hub.store import label_events, schema
from cloud_hub.store.database import Tx
from protos.contract.ids import DeviceId, Digest, TenantId
from protos.contract.inputs import SampleKind

datasets = Table(
    "datasets",
    schema.metadata,
    Column("tenant", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("labels", schema.Json, nullable=False),
    schema.time("created_at"),
    Column("kind", Integer, nullable=False),
    Column("annotation", Integer, nullable=False),
    Column("columns", schema.Json, nullable=False),
)

samples = Table(
    "samples",
    schema.metadata,
    schema.row_id("number"),
    Column("id", Text, nullable=False, unique=True),
    schema.tenant(),
    Column("dataset", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("label", Text),  # null: unlabelled
    Column("source", Text, nullable=False),
    Column("split", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("device", Text),  # null: imported
    Column("reason", Text, nullable=False),
    Column("predicted", Text, nullable=False),
    Column("confidence", Float, nullable=False),
    schema.time("captured_at", nullable=True),
    schema.time("created_at"),
    schema.time("labelled_at", nullable=True),
    Column("origin", Text),  # null: unlabelled
    Column("labelled_by", Text, nullable=False),
    Column("label_confidence", Float, nullable=False),
    Column("manifest", Text),  # of the model that said what was predicted; null: not known
    UniqueConstraint("tenant", "dataset", "digest"),
    Index(None, "tenant", "dataset", "labelled_at"),
    Index(None, "tenant", "dataset", "name"),
    Index(None, "tenant", "dataset", "number"),
    Index(None, "tenant", "device", "captured_at"),
    ForeignKeyConstraint(["tenant", "dataset"], ["datasets.tenant", "datasets.name"]),
)


def sample_id(tenant: TenantId, dataset: str, digest: Digest) -> str:
    """The same content in the same data set has the same id, whoever brings it."""
    return hashlib.sha256(f"{tenant}/{dataset}/{digest}".encode()).hexdigest()[:24]


def add(tx: Tx, tenant: TenantId, holding: Holding, at: datetime) -> None:
    values = {"kind": int(holding.kind), "annotation": int(holding.annotation), "labels": list(holding.labels), "columns": []}
    tx.execute(insert(datasets).values(tenant=tenant, name=holding.name, created_at=at, **values))


def find(tx: Tx, tenant: TenantId, name: str) -> Dataset | None:
    d = datasets.c
    row = tx.execute(select(datasets).where((d.tenant == tenant) & (d.name == name))).first()
    return _dataset(row, _sizes(tx, tenant, name)) if row else None


def labels_of(tx: Tx, tenant: TenantId, name: str) -> tuple[str, ...] | None:
    """Class names in index order; None where there is no such data set."""
    d = datasets.c
    row = tx.execute(select(d.labels).where((d.tenant == tenant) & (d.name == name))).first()
    return tuple(row.labels) if row else None


def holding(tx: Tx, tenant: TenantId, name: str) -> Holding | None:
    """What it is; None where there is no such data set."""
    d = datasets.c
    row = tx.execute(select(d.kind, d.annotation, d.labels).where((d.tenant == tenant) & (d.name == name))).first()
    if row is None:
        return None
    kind, annotation = SampleKind(row.kind), Annotation(row.annotation)
    return Holding(name=name, kind=kind, annotation=annotation, labels=tuple(row.labels))


def note_columns(tx: Tx, tenant: TenantId, name: str, seen: Iterable[str], most: int) -> int:
    """Which channels or columns its samples have, ``most`` in all: how many new ones were left out."""
    mine = (datasets.c.tenant == tenant) & (datasets.c.name == name)
    known = tx.execute(select(datasets.c.columns).where(mine)).scalar_one()
    there = set(known)
    new = [name for name in dict.fromkeys(seen) if name not in there]
    taken = new[: max(0, most - len(known))]
    if taken:
        tx.execute(update(datasets).where(mine).values(columns=[*known, *taken]))
    return len(new) - len(taken)


def every(tx: Tx, tenant: TenantId) -> list[Dataset]:
    """By name."""
    sizes = _sizes(tx, tenant)
    rows = tx.execute(select(datasets).where(datasets.c.tenant == tenant).order_by(datasets.c.name))
    return [_dataset(row, sizes) for row in rows]


def add_sample(tx: Tx, tenant: TenantId, sample: Sample) -> None:
    """The content is in the artifact store already: a row never points at nothing."""
    values = {name: getattr(sample, name) for name in Sample.__slots__}
    origin = sample.origin.value if sample.origin is not None else None
    tx.execute(insert(samples).values(tenant=tenant, **{**values, "origin": origin}))
    if sample.label and sample.origin is not None and sample.labelled_at is not None:
        label = LabelEvent(
            label=sample.label,
            origin=sample.origin,
            labelled_by=sample.labelled_by,
            confidence=sample.label_confidence,
            at=sample.labelled_at,
        )
        label_events.add(tx, tenant, sample.id, label)


def find_sample(tx: Tx, tenant: TenantId, id: str) -> Sample | None:
    s = samples.c
    row = tx.execute(select(samples).where((s.tenant == tenant) & (s.id == id))).first()
    return _sample(row) if row else None


def page(
    tx: Tx,
    tenant: TenantId,
    dataset: str,
    *,
    labelled: bool | None,
    device: DeviceId | None,
    after: int,
    limit: int,
    origin: LabelOrigin | None = None,
    label: str = "",
) -> list[tuple[int, Sample]]:
    """Samples behind number ``after``, in the order they came, each with its number."""
    s = samples.c
    query = select(samples).where((s.tenant == tenant) & (s.dataset == dataset) & (s.number > after))
    if labelled is not None:
        query = query.where(s.label.is_not(None) if labelled else s.label.is_(None))
    if device is not None:
        query = query.where(s.device == device)
    if origin is not None:
        query = query.where(s.origin == origin.value)
    if label:
        query = query.where(s.label == label)
    return [(row.number, _sample(row)) for row in tx.execute(query.order_by(s.number).limit(limit))]


def labelled(tx: Tx, tenant: TenantId, dataset: str) -> list[Sample]:
    """Every labelled sample, in an order that depends on the contents only."""
    s = samples.c
    mine = (s.tenant == tenant) & (s.dataset == dataset) & s.label.is_not(None)
    return [_sample(row) for row in tx.execute(select(samples).where(mine).order_by(s.digest))]


def unlabelled(tx: Tx, tenant: TenantId, dataset: str, limit: int) -> list[Sample]:
    """The newest, oldest first."""
    s = samples.c
    mine = (s.tenant == tenant) & (s.dataset == dataset) & s.label.is_(None)
    rows = tx.execute(select(samples).where(mine).order_by(s.number.desc()).limit(limit)).all()
    return [_sample(row) for row in reversed(rows)]


def put_labels(tx: Tx, tenant: TenantId, labels: Iterable[tuple[str, LabelEvent]]) -> None:
    """``(sample id, label)`` pairs; each joins the sample's history."""
    s = samples.c
    for id, event in labels:
        values = {
            "label": event.label,
            "labelled_at": event.at,
            "origin": event.origin.value,
            "labelled_by": event.labelled_by,
            "label_confidence": event.confidence,
        }
        tx.execute(update(samples).where((s.id == id) & (s.tenant == tenant)).values(**values))
        label_events.add(tx, tenant, id, event)


def named(tx: Tx, tenant: TenantId, dataset: str, name: str, device: DeviceId | None, limit: int) -> list[Sample]:
    """The samples of that name, of one device where it is given."""
    s = samples.c
    query = select(samples).where((s.tenant == tenant) & (s.dataset == dataset) & (s.name == name))
    query = query.where(s.device == device) if device is not None else query
    return [_sample(row) for row in tx.execute(query.order_by(s.number).limit(limit))]


def nearest(tx: Tx, tenant: TenantId, dataset: str, device: DeviceId, at: datetime, tolerance: timedelta) -> Sample | None:
    """The sample that a device captured nearest to a time; the earlier one of two."""
    s = samples.c
    mine = (s.tenant == tenant) & (s.dataset == dataset) & (s.device == device)
    before = mine & (s.captured_at <= at) & (s.captured_at >= at - tolerance)
    after = mine & (s.captured_at > at) & (s.captured_at <= at + tolerance)
    found = [
        _sample(row)
        for query in (
            select(samples).where(before).order_by(s.captured_at.desc(), s.number).limit(1),
            select(samples).where(after).order_by(s.captured_at, s.number).limit(1),
        )
        for row in tx.execute(query)
    ]
    return min(found, key=lambda sample: abs(sample.captured_at - at) if sample.captured_at else tolerance, default=None)


def put_split(tx: Tx, id: str, split: str) -> None:
    tx.execute(update(samples).where(samples.c.id == id).values(split=split))


def labelled_since(tx: Tx, tenant: TenantId, dataset: str, since: datetime | None) -> int:
    """Samples whose label was given after ``since``; all that have one for None."""
    s = samples.c
    query = select(func.count()).select_from(samples).where((s.tenant == tenant) & (s.dataset == dataset))
    query = query.where(s.labelled_at.is_not(None) if since is None else s.labelled_at > since)
    return tx.execute(query).scalar_one()


def _sizes(tx: Tx, tenant: TenantId, name: str | None = None) -> dict[str, tuple[int, int]]:
    s = samples.c
    query = select(s.dataset, func.count().label("samples"), func.count(s.label).label("labelled")).where(s.tenant == tenant)
    query = query.where(s.dataset == name) if name is not None else query
    return {row.dataset: (row.samples, row.labelled) for row in tx.execute(query.group_by(s.dataset))}


def _dataset(row: Row[Any], sizes: dict[str, tuple[int, int]]) -> Dataset:
    count, labelled_count = sizes.get(row.name, (0, 0))
    return Dataset(
        name=row.name,
        labels=tuple(row.labels),
        samples=count,
        labelled=labelled_count,
        created_at=row.created_at,
        kind=SampleKind(row.kind),
        annotation=Annotation(row.annotation),
        columns=tuple(row.columns),
    )


def _sample(row: Row[Any]) -> Sample:
    return Sample(
        id=row.id,
        dataset=row.dataset,
        digest=Digest(row.digest),
        label=row.label,
        source=row.source,
        split=row.split,
        name=row.name,
        device=DeviceId(row.device) if row.device is not None else None,
        reason=row.reason,
        predicted=row.predicted,
        confidence=row.confidence,
        captured_at=row.captured_at,
        created_at=row.created_at,
        labelled_at=row.labelled_at,
        origin=LabelOrigin(row.origin) if row.origin is not None else None,
        labelled_by=row.labelled_by,
        label_confidence=row.label_confidence,
        manifest=Digest(row.manifest) if row.manifest is not None else None,
    )
