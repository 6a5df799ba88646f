"""Models, their immutable versions and the aliases that point at them."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKeyConstraint,
    Integer,
    Row,
    Table,
    Text,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from cloud_hub.core.model import Baseline, Model, ModelVersion, Variant
from cloud_hub.store import schema
from cloud_hub.store.database import Tx
from protos.contract.ids import Digest, ModelName, TenantId

models = Table(
    "models",
    schema.metadata,
    Column("tenant", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("task", Text, nullable=False, default=""),  # empty until a version is published
    Column("reserved", Integer, nullable=False, default=0),  # the highest version number handed out
    schema.time("created_at"),
)

model_versions = Table(
    "model_versions",
    schema.metadata,
    Column("tenant", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("task", Text, nullable=False),
    Column("baseline", schema.Json, nullable=False),
    Column("report", schema.Json, nullable=False),
    Column("job_id", Text, nullable=False, index=True),
    schema.time("created_at"),
    ForeignKeyConstraint(["tenant", "name"], ["models.tenant", "models.name"]),
)

model_variants = Table(
    "model_variants",
    schema.metadata,
    Column("tenant", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("target", Text, primary_key=True),
    Column("position", Integer, nullable=False),  # the publisher's order
    Column("manifest_digest", Text, nullable=False, index=True),
    Column("manifest_size_bytes", Integer, nullable=False),
    Column("artifact_digest", Text, nullable=False),
    Column("artifact_size_bytes", BigInteger, nullable=False),
    Column("golden_digest", Text, nullable=False),
    Column("score", Float, nullable=False),
    Column("metric", Text, nullable=False, server_default="accuracy"),  # all there was before other tasks
    Column("latency_p50_ms", Float, nullable=False),
    Column("output_error", Float, nullable=False),
    Column("boards", schema.Json, nullable=False),
    ForeignKeyConstraint(
        ["tenant", "name", "version"], ["model_versions.tenant", "model_versions.name", "model_versions.version"]
    ),
)

model_aliases = Table(
    "model_aliases",
    schema.metadata,
    Column("tenant", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("alias", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    ForeignKeyConstraint(
        ["tenant", "name", "version"], ["model_versions.tenant", "model_versions.name", "model_versions.version"]
    ),
)


def reserve(tx: Tx, tenant: TenantId, name: ModelName, at: datetime) -> int:
    """The next version number of a model, handed out once; the model need not exist yet."""
    own = (models.c.tenant == tenant) & (models.c.name == name)
    if tx.execute(update(models).where(own).values(reserved=models.c.reserved + 1)).rowcount == 0:
        tx.execute(insert(models).values(tenant=tenant, name=name, reserved=1, created_at=at))
    return reserved(tx, tenant, name)


def reserved(tx: Tx, tenant: TenantId, name: ModelName) -> int:
    """The highest version number handed out; 0: none."""
    query = select(models.c.reserved).where(models.c.tenant == tenant, models.c.name == name)
    return tx.execute(query).scalar() or 0


def add_version(tx: Tx, tenant: TenantId, version: ModelVersion) -> None:
    """Its number must be reserved; aliases are not written."""
    key = {"tenant": tenant, "name": version.name, "version": version.version}
    tx.execute(update(models).where(models.c.tenant == tenant, models.c.name == version.name).values(task=version.task))
    tx.execute(
        insert(model_versions).values(
            **key,
            task=version.task,
            baseline=asdict(version.baseline),
            report=dict(version.report),
            job_id=version.job_id,
            created_at=version.created_at,
        )
    )
    rows = [{**key, "position": i, **asdict(variant)} for i, variant in enumerate(version.variants)]
    tx.execute(insert(model_variants), rows)


def put_alias(tx: Tx, tenant: TenantId, name: ModelName, alias: str, version: int | None) -> None:
    """None: the alias is no more."""
    a = model_aliases.c
    tx.execute(delete(model_aliases).where(a.tenant == tenant, a.name == name, a.alias == alias))
    if version is not None:
        tx.execute(insert(model_aliases).values(tenant=tenant, name=name, alias=alias, version=version))


def aliased(tx: Tx, tenant: TenantId, name: ModelName, alias: str) -> int | None:
    a = model_aliases.c
    return tx.execute(select(a.version).where(a.tenant == tenant, a.name == name, a.alias == alias)).scalar()


def list_models(tx: Tx, tenant: TenantId) -> list[Model]:
    """Those with a version, by name."""
    v, a = model_versions.c, model_aliases.c
    latest = (
        select(v.tenant, v.name, func.max(v.version).label("version")).where(v.tenant == tenant).group_by(v.tenant, v.name)
    ).subquery()
    joined = latest.join(models, (models.c.tenant == latest.c.tenant) & (models.c.name == latest.c.name))
    rows = tx.execute(select(models.c.name, models.c.task, latest.c.version).select_from(joined).order_by(models.c.name)).all()
    aliases: dict[str, dict[str, int]] = {row.name: {} for row in rows}
    for alias in tx.execute(select(a.name, a.alias, a.version).where(a.tenant == tenant).order_by(a.alias)):
        aliases[alias.name][alias.alias] = alias.version
    return [
        Model(name=ModelName(row.name), task=row.task, latest_version=row.version, aliases=aliases[row.name]) for row in rows
    ]


def find_model(tx: Tx, tenant: TenantId, name: ModelName) -> Model | None:
    return next((model for model in list_models(tx, tenant) if model.name == name), None)


def list_versions(tx: Tx, tenant: TenantId, name: ModelName) -> list[ModelVersion]:
    """Newest first."""
    v = model_versions.c
    query = select(model_versions).where(v.tenant == tenant, v.name == name).order_by(v.version.desc())
    return _versions(tx, tx.execute(query).all())


def find_version(tx: Tx, tenant: TenantId, name: ModelName, version: int) -> ModelVersion | None:
    v = model_versions.c
    query = select(model_versions).where(v.tenant == tenant, v.name == name, v.version == version)
    return next(iter(_versions(tx, tx.execute(query).all())), None)


def published_by(tx: Tx, tenant: TenantId, job_id: str) -> ModelVersion | None:
    """What a training job gave."""
    v = model_versions.c
    query = select(model_versions).where(v.tenant == tenant, v.job_id == job_id, v.job_id != "")
    return next(iter(_versions(tx, tx.execute(query).all())), None)


def of_manifest(tx: Tx, tenant: TenantId, digest: Digest) -> ModelVersion | None:
    """The version that has a variant with this manifest."""
    f = model_variants.c
    row = tx.execute(select(f.name, f.version).where(f.tenant == tenant, f.manifest_digest == digest)).first()
    return find_version(tx, tenant, ModelName(row.name), row.version) if row else None


def manifests(
    tx: Tx, tenant: TenantId, name: ModelName | None = None, version: int | None = None
) -> list[tuple[Digest, ModelName, int]]:
    """(manifest, model, version) of every published variant."""
    f = model_variants.c
    query = select(f.manifest_digest, f.name, f.version).where(f.tenant == tenant)
    query = query if name is None else query.where(f.name == name)
    query = query if version is None else query.where(f.version == version)
    return [(Digest(row.manifest_digest), ModelName(row.name), row.version) for row in tx.execute(query)]


def names_blob(tx: Tx, tenant: TenantId, manifests: Sequence[Digest] | None, digest: Digest) -> bool:
    """Whether ``digest`` is one of these published manifests (None: any), or the artifact or golden set of one."""
    f = model_variants.c
    named = or_(f.manifest_digest == digest, f.artifact_digest == digest, f.golden_digest == digest)
    query = select(f.target).where(f.tenant == tenant, named).limit(1)
    query = query if manifests is None else query.where(f.manifest_digest.in_(manifests))
    return tx.execute(query).first() is not None


def _versions(tx: Tx, rows: Sequence[Row[Any]]) -> list[ModelVersion]:
    return [_version(tx, row) for row in rows]


def _version(tx: Tx, row: Row[Any]) -> ModelVersion:
    f, a = model_variants.c, model_aliases.c
    variants = tx.execute(
        select(model_variants).where(f.tenant == row.tenant, f.name == row.name, f.version == row.version).order_by(f.position)
    )
    aliases = tx.execute(
        select(a.alias).where(a.tenant == row.tenant, a.name == row.name, a.version == row.version).order_by(a.alias)
    )
    return ModelVersion(
        name=ModelName(row.name),
        version=row.version,
        task=row.task,
        variants=tuple(_variant(variant) for variant in variants),
        baseline=_baseline(row.baseline),
        report=row.report,
        job_id=row.job_id,
        created_at=row.created_at,
        aliases=tuple(aliases.scalars()),
    )


def _variant(row: Row[Any]) -> Variant:
    return Variant(
        target=row.target,
        manifest_digest=Digest(row.manifest_digest),
        manifest_size_bytes=row.manifest_size_bytes,
        artifact_digest=Digest(row.artifact_digest),
        artifact_size_bytes=row.artifact_size_bytes,
        golden_digest=Digest(row.golden_digest),
        score=row.score,
        metric=row.metric,
        latency_p50_ms=row.latency_p50_ms,
        output_error=row.output_error,
        boards=tuple(row.boards),
    )


def _baseline(values: dict[str, Any]) -> Baseline:
    return Baseline(
        labels=tuple(values["labels"]),
        label_share=tuple(values["label_share"]),
        confidence_share=tuple(values["confidence_share"]),
        confidence_mean=values["confidence_mean"],
        samples=values["samples"],
    )
