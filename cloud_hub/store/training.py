"""Training specifications, and jobs with their log lines."""

import math
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from statistics import median
from typing import Any

from sqlalchemy import (
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    Row,
    Table,
    Text,
    case,
    func,
    insert,
    null,
    select,
    text,
    update,
)

from cloud_hub.core.model import Job, JobLine, JobState, TrainingStep
from cloud_hub.store import schema
from cloud_hub.store.database import Tx
from protos.contract.ids import ModelName, TenantId

training_specs = Table(
    "training_specs",
    schema.metadata,
    Column("tenant", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("yaml", Text, nullable=False),
    schema.time("updated_at"),
)

training_jobs = Table(
    "training_jobs",
    schema.metadata,
    schema.row_id("number"),
    Column("id", Text, nullable=False, unique=True),
    schema.tenant(),
    Column("model", Text, nullable=False),
    Column("state", Integer, nullable=False),
    Column("trigger", Text, nullable=False),
    Column("trigger_detail", schema.Prose, nullable=False),
    Column("spec_yaml", Text, nullable=False),
    Column("stage", Text, nullable=False, default=""),
    Column("progress", Float, nullable=False, default=0.0),
    Column("step", schema.Json, nullable=True),
    Column("attempts", Integer, nullable=False, default=0),
    Column("reason", schema.Prose, nullable=False, default=""),
    Column("published_version", Integer, nullable=False, default=0),
    schema.time("created_at"),
    schema.time("started_at", nullable=True),
    schema.time("ended_at", nullable=True),
    Index(None, "tenant", "model", "number"),
)
_ACTIVE = (JobState.QUEUED, JobState.RUNNING)
Index(  # one at a time per model, whoever asks
    "uq_training_jobs_active",
    training_jobs.c.tenant,
    training_jobs.c.model,
    unique=True,
    sqlite_where=text("state IN (1, 2)"),
    postgresql_where=text("state IN (1, 2)"),
)

training_lines = Table(
    "training_lines",
    schema.metadata,
    Column("job_id", Text, ForeignKey("training_jobs.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    schema.time("at"),
    Column("text", schema.Prose, nullable=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSpec:
    tenant: TenantId
    model: ModelName
    yaml: str
    updated_at: datetime


def put_spec(tx: Tx, spec: StoredSpec) -> None:
    put = schema.upsert(training_specs, ("tenant", "model"))
    tx.execute(put.values(tenant=spec.tenant, model=spec.model, yaml=spec.yaml, updated_at=spec.updated_at))


def find_spec(tx: Tx, tenant: TenantId, model: ModelName) -> StoredSpec | None:
    s = training_specs.c
    row = tx.execute(select(training_specs).where((s.tenant == tenant) & (s.model == model))).first()
    return _spec(row) if row else None


def every_spec(tx: Tx) -> list[StoredSpec]:
    return [_spec(row) for row in tx.execute(select(training_specs).order_by(training_specs.c.tenant, training_specs.c.model))]


def add_job(tx: Tx, tenant: TenantId, model: ModelName, *, trigger: str, detail: str, spec_yaml: str, at: datetime) -> Job:
    """Raises IntegrityError where one of the model is active: ask ``active_job`` in the same transaction."""
    job = Job(
        id=secrets.token_hex(8),
        model=model,
        state=JobState.QUEUED,
        trigger=trigger,
        trigger_detail=detail,
        spec_yaml=spec_yaml,
        tenant=tenant,
        created_at=at,
    )
    tx.execute(
        insert(training_jobs).values(
            id=job.id,
            tenant=tenant,
            model=model,
            state=int(job.state),
            trigger=trigger,
            trigger_detail=detail,
            spec_yaml=spec_yaml,
            created_at=at,
        )
    )
    return job


def find_job(tx: Tx, id: str, tenant: TenantId | None = None) -> Job | None:
    """Of ``tenant`` only, or of any for None."""
    j = training_jobs.c
    query = select(training_jobs).where(j.id == id)
    row = tx.execute(query if tenant is None else query.where(j.tenant == tenant)).first()
    return _job(row) if row else None


def active_job(tx: Tx, tenant: TenantId, model: ModelName) -> Job | None:
    """The one that is queued or running."""
    j = training_jobs.c
    row = tx.execute(select(training_jobs).where((j.tenant == tenant) & (j.model == model) & j.state.in_(_ACTIVE))).first()
    return _job(row) if row else None


def jobs(tx: Tx, tenant: TenantId, model: ModelName | None, *, before: int | None, limit: int) -> list[tuple[int, Job]]:
    """Those numbered below ``before`` (None: all), newest first, each with its number."""
    j = training_jobs.c
    query = select(training_jobs).where(j.tenant == tenant).order_by(j.number.desc()).limit(limit)
    query = query if model is None else query.where(j.model == model)
    query = query if before is None else query.where(j.number < before)
    return [(row.number, _job(row)) for row in tx.execute(query)]


def queued(tx: Tx) -> list[tuple[int, Job]]:
    """Oldest first, each with its number."""
    j = training_jobs.c
    rows = tx.execute(select(training_jobs).where(j.state == int(JobState.QUEUED)).order_by(j.number))
    return [(row.number, _job(row)) for row in rows]


def expected_s(tx: Tx, tenant: TenantId, model: ModelName, sample: int) -> float | None:
    """The median time that the last ``sample`` jobs of a model took to their end; None: there was none."""
    j = training_jobs.c
    ended = [int(state) for state in (JobState.PUBLISHED, JobState.REJECTED)]
    query = select(j.started_at, j.ended_at).where((j.tenant == tenant) & (j.model == model) & j.state.in_(ended))
    rows = tx.execute(query.order_by(j.number.desc()).limit(sample)).all()
    return median((row.ended_at - row.started_at).total_seconds() for row in rows) if rows else None


def running(tx: Tx) -> list[Job]:
    j = training_jobs.c
    return [_job(row) for row in tx.execute(select(training_jobs).where(j.state == int(JobState.RUNNING)).order_by(j.number))]


def set_job(tx: Tx, id: str, *, only: Iterable[JobState], **values: Any) -> bool:
    """False where the job is in none of the states ``only``: nothing is changed then."""
    j = training_jobs.c
    states = [int(state) for state in only]
    return tx.execute(update(training_jobs).where((j.id == id) & j.state.in_(states)).values(**values)).rowcount == 1


def step_in(stage: str, step: TrainingStep | None) -> Any:
    """The value of column ``step``: the new one; without one the last, as long as the stage is the same."""
    if step is not None and math.isfinite(step.loss):
        return asdict(step)
    j = training_jobs.c
    return case((j.stage == stage, j.step), else_=null())


def last_started(tx: Tx, tenant: TenantId, model: ModelName) -> datetime | None:
    """When the newest training began that saw the data set through, or still may."""
    j = training_jobs.c
    seen = [int(state) for state in (JobState.RUNNING, JobState.PUBLISHED, JobState.REJECTED)]
    query = select(func.max(j.started_at, type_=schema.Time)).where(
        (j.tenant == tenant) & (j.model == model) & j.state.in_(seen)
    )
    return tx.execute(query).scalar()


def last_begun(tx: Tx, tenant: TenantId, model: ModelName) -> datetime | None:
    """When the newest job began, or was made if it never did, however it ended."""
    j = training_jobs.c
    begun = func.coalesce(j.started_at, j.created_at)
    query = select(func.max(begun, type_=schema.Time)).where((j.tenant == tenant) & (j.model == model))
    return tx.execute(query).scalar()


def add_line(tx: Tx, job_id: str, line: str, at: datetime, limit: int) -> None:
    """Numbered from 1; beyond ``limit`` lines a job's log is full and the rest is dropped."""
    t = training_lines.c
    last = tx.execute(select(func.coalesce(func.max(t.number), 0)).where(t.job_id == job_id)).scalar_one()
    if last < limit:
        tx.execute(insert(training_lines).values(job_id=job_id, number=last + 1, at=at, text=line))


def lines(tx: Tx, job_id: str, after: int, limit: int) -> list[JobLine]:
    t = training_lines.c
    query = select(training_lines).where((t.job_id == job_id) & (t.number > after)).order_by(t.number).limit(limit)
    return [JobLine(number=row.number, at=row.at, text=row.text) for row in tx.execute(query)]


def _spec(row: Row[Any]) -> StoredSpec:
    return StoredSpec(tenant=TenantId(row.tenant), model=ModelName(row.model), yaml=row.yaml, updated_at=row.updated_at)


def _job(row: Row[Any]) -> Job:
    return Job(
        id=row.id,
        model=ModelName(row.model),
        state=JobState(row.state),
        trigger=row.trigger,
        trigger_detail=row.trigger_detail,
        spec_yaml=row.spec_yaml,
        tenant=TenantId(row.tenant),
        stage=row.stage,
        progress=row.progress,
        step=TrainingStep(**row.step) if row.step else None,
        attempts=row.attempts,
        reason=row.reason,
        published_version=row.published_version,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
    )
