"""Versions of data sets; what each holds is a blob of the artifact store."""

from typing import Any

from sqlalchemy import BigInteger, Column, ForeignKeyConstraint, Integer, Row, Table, Text, insert, select

from cloud_hub.core.datasets import DatasetVersion
from cloud_hub.store import schema
from cloud_hub.store.database import Tx
from protos.contract.ids import Digest, TenantId

dataset_versions = Table(
    "dataset_versions",
    schema.metadata,
    Column("tenant", Text, primary_key=True),
    Column("dataset", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("digest", Text, nullable=False),
    Column("manifest", Text, nullable=False),
    Column("parent", Integer, nullable=False),
    Column("samples", BigInteger, nullable=False),
    Column("added", BigInteger, nullable=False),
    Column("removed", BigInteger, nullable=False),
    Column("relabelled", BigInteger, nullable=False),
    Column("moved", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("reason", schema.Prose, nullable=False),
    schema.time("created_at"),
    ForeignKeyConstraint(["tenant", "dataset"], ["datasets.tenant", "datasets.name"]),
)


def add(tx: Tx, tenant: TenantId, version: DatasetVersion) -> None:
    values = {name: getattr(version, name) for name in DatasetVersion.__slots__}
    tx.execute(insert(dataset_versions).values(tenant=tenant, **values))


def find(tx: Tx, tenant: TenantId, dataset: str, number: int) -> DatasetVersion | None:
    v = dataset_versions.c
    mine = (v.tenant == tenant) & (v.dataset == dataset) & (v.number == number)
    row = tx.execute(select(dataset_versions).where(mine)).first()
    return _version(row) if row else None


def newest(tx: Tx, tenant: TenantId, dataset: str) -> DatasetVersion | None:
    v = dataset_versions.c
    mine = (v.tenant == tenant) & (v.dataset == dataset)
    row = tx.execute(select(dataset_versions).where(mine).order_by(v.number.desc()).limit(1)).first()
    return _version(row) if row else None


def of_digest(tx: Tx, tenant: TenantId, dataset: str, digest: Digest) -> DatasetVersion | None:
    """The newest one that holds the same."""
    v = dataset_versions.c
    mine = (v.tenant == tenant) & (v.dataset == dataset) & (v.digest == digest)
    row = tx.execute(select(dataset_versions).where(mine).order_by(v.number.desc()).limit(1)).first()
    return _version(row) if row else None


def page(tx: Tx, tenant: TenantId, dataset: str, *, before: int | None, limit: int) -> list[tuple[int, DatasetVersion]]:
    """Newest first, each with its number."""
    v = dataset_versions.c
    query = select(dataset_versions).where((v.tenant == tenant) & (v.dataset == dataset))
    query = query.where(v.number < before) if before is not None else query
    rows = tx.execute(query.order_by(v.number.desc()).limit(limit))
    return [(row.number, _version(row)) for row in rows]


def _version(row: Row[Any]) -> DatasetVersion:
    values = {name: getattr(row, name) for name in DatasetVersion.__slots__}
    return DatasetVersion(**{**values, "digest": Digest(row.digest), "manifest": Digest(row.manifest)})
