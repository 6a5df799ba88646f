"""Data sets and their samples; the images themselves are in the artifact store."""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Column,
    Float,
    ForeignKeyConstraint,
    Index,
    Row,
    Table,
    Text,
    UniqueConstraint,
    func,
    insert,
    select,
    update,
)

from cloud_hub.core.model import Dataset, Sample
from cloud_hub.store import schema
from cloud_hub.store.database import Tx
from protos.contract.ids import DeviceId, Digest, TenantId

datasets = Table(
    "datasets",
    schema.metadata,
    Column("tenant", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("labels", schema.Json, nullable=False),
    schema.time("created_at"),
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
    UniqueConstraint("tenant", "dataset", "digest"),
    Index(None, "tenant", "dataset", "labelled_at"),
    Index(None, "tenant", "dataset", "number"),
    Index(None, "tenant", "device", "captured_at"),
    ForeignKeyConstraint(["tenant", "dataset"], ["datasets.tenant", "datasets.name"]),
)


def sample_id(tenant: TenantId, dataset: str, digest: Digest) -> str:
    """The same image in the same data set has the same id, whoever brings it."""
    return hashlib.sha256(f"{tenant}/{dataset}/{digest}".encode()).hexdigest()[:24]


def add(tx: Tx, tenant: TenantId, name: str, labels: Sequence[str], at: datetime) -> None:
    tx.execute(insert(datasets).values(tenant=tenant, name=name, labels=list(labels), created_at=at))


def find(tx: Tx, tenant: TenantId, name: str) -> Dataset | None:
    d = datasets.c
    row = tx.execute(select(datasets).where((d.tenant == tenant) & (d.name == name))).first()
    return _dataset(row, _sizes(tx, tenant, name)) if row else None


def labels_of(tx: Tx, tenant: TenantId, name: str) -> tuple[str, ...] | None:
    """Class names in index order; None where there is no such data set."""
    d = datasets.c
    row = tx.execute(select(d.labels).where((d.tenant == tenant) & (d.name == name))).first()
    return tuple(row.labels) if row else None


def every(tx: Tx, tenant: TenantId) -> list[Dataset]:
    """By name."""
    sizes = _sizes(tx, tenant)
    rows = tx.execute(select(datasets).where(datasets.c.tenant == tenant).order_by(datasets.c.name))
    return [_dataset(row, sizes) for row in rows]


def add_sample(tx: Tx, tenant: TenantId, sample: Sample) -> None:
    """The image is in the artifact store already: a row never points at nothing."""
    values = {name: getattr(sample, name) for name in Sample.__slots__}
    tx.execute(insert(samples).values(tenant=tenant, **values))


def find_sample(tx: Tx, tenant: TenantId, id: str) -> Sample | None:
    s = samples.c
    row = tx.execute(select(samples).where((s.tenant == tenant) & (s.id == id))).first()
    return _sample(row) if row else None


def page(
    tx: Tx, tenant: TenantId, dataset: str, *, labelled: bool | None, device: DeviceId | None, after: int, limit: int
) -> list[tuple[int, Sample]]:
    """Samples behind number ``after``, in the order they came, each with its number."""
    s = samples.c
    query = select(samples).where((s.tenant == tenant) & (s.dataset == dataset) & (s.number > after))
    if labelled is not None:
        query = query.where(s.label.is_not(None) if labelled else s.label.is_(None))
    if device is not None:
        query = query.where(s.device == device)
    return [(row.number, _sample(row)) for row in tx.execute(query.order_by(s.number).limit(limit))]


def labelled(tx: Tx, tenant: TenantId, dataset: str) -> list[Sample]:
    """Every labelled sample, in an order that depends on the images only."""
    s = samples.c
    mine = (s.tenant == tenant) & (s.dataset == dataset) & s.label.is_not(None)
    return [_sample(row) for row in tx.execute(select(samples).where(mine).order_by(s.digest))]


def put_labels(tx: Tx, labels: Iterable[tuple[str, str]], at: datetime) -> None:
    """``(sample id, label)`` pairs."""
    for id, label in labels:
        tx.execute(update(samples).where(samples.c.id == id).values(label=label, labelled_at=at))


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
    return Dataset(name=row.name, labels=tuple(row.labels), samples=count, labelled=labelled_count, created_at=row.created_at)


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
    )
