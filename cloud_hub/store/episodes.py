"""Episodes of drift: each opens once and closes once."""

import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, Column, Index, Integer, Row, Table, Text, insert, select, update

from cloud_hub.core.model import DriftEpisode
from cloud_hub.store import schema
from cloud_hub.store.database import Tx
from protos.contract.ids import DeviceId, ModelName, TenantId

drift_episodes = Table(
    "drift_episodes",
    schema.metadata,
    schema.row_id("number"),
    Column("id", Text, nullable=False, unique=True),
    schema.tenant(),
    Column("device", Text, nullable=False, index=True),
    Column("model", Text, nullable=False),
    Column("version", Integer, nullable=False),
    schema.time("opened_at"),
    schema.time("closed_at", nullable=True),
    Column("reason", schema.Prose, nullable=False),
    Column("told", Boolean, nullable=False),  # whoever retrains has heard of it
    Column("job_id", Text, nullable=False),
    Index(None, "tenant", "model"),
)


def add(tx: Tx, tenant: TenantId, device: DeviceId, model: ModelName, version: int, at: datetime, reason: str) -> DriftEpisode:
    episode = DriftEpisode(
        id=secrets.token_hex(8), tenant=tenant, device=device, model=model, version=version, opened_at=at, reason=reason
    )
    tx.execute(
        insert(drift_episodes).values(
            id=episode.id,
            tenant=tenant,
            device=device,
            model=model,
            version=version,
            opened_at=at,
            reason=reason,
            told=False,
            job_id="",
        )
    )
    return episode


def still_open(tx: Tx, device: DeviceId) -> list[DriftEpisode]:
    e = drift_episodes.c
    rows = tx.execute(select(drift_episodes).where((e.device == device) & e.closed_at.is_(None)).order_by(e.number))
    return [_episode(row) for row in rows]


def close(tx: Tx, episode: DriftEpisode, at: datetime, why: str) -> None:
    """``why`` is added to its reason."""
    closed = {"closed_at": at, "reason": f"{episode.reason}; closed: {why}"}
    tx.execute(update(drift_episodes).where(drift_episodes.c.id == episode.id).values(closed))


def close_all(tx: Tx, device: DeviceId, at: datetime, why: str) -> None:
    """All that are open."""
    for episode in still_open(tx, device):
        close(tx, episode, at, why)


def untold(tx: Tx) -> Sequence[DriftEpisode]:
    """Open episodes that nobody who retrains has heard of, oldest first."""
    e = drift_episodes.c
    rows = tx.execute(select(drift_episodes).where(e.told.is_(False) & e.closed_at.is_(None)).order_by(e.number))
    return [_episode(row) for row in rows]


def told(tx: Tx, id: str, job_id: str) -> None:
    """``job_id`` is empty where there is no job yet; one that it was given meanwhile stays."""
    e = drift_episodes.c
    tx.execute(update(drift_episodes).where(e.id == id).values(told=True))
    if job_id:
        tx.execute(update(drift_episodes).where((e.id == id) & (e.job_id == "")).values(job_id=job_id))


def join_job(tx: Tx, tenant: TenantId, model: ModelName, job_id: str) -> None:
    """Open episodes of a model that have no job yet have this one."""
    e = drift_episodes.c
    waiting = (e.tenant == tenant) & (e.model == model) & e.closed_at.is_(None) & (e.job_id == "")
    tx.execute(update(drift_episodes).where(waiting).values(job_id=job_id))


def newest(
    tx: Tx, tenant: TenantId, model: ModelName | None, open_only: bool, *, before: int | None, limit: int
) -> list[tuple[int, DriftEpisode]]:
    """Those numbered below ``before`` (None: all), newest first, each with its number."""
    e = drift_episodes.c
    query = select(drift_episodes).where(e.tenant == tenant).order_by(e.number.desc()).limit(limit)
    query = query.where(e.model == model) if model is not None else query
    query = query.where(e.closed_at.is_(None)) if open_only else query
    query = query.where(e.number < before) if before is not None else query
    return [(row.number, _episode(row)) for row in tx.execute(query)]


def _episode(row: Row[Any]) -> DriftEpisode:
    return DriftEpisode(
        id=row.id,
        tenant=TenantId(row.tenant),
        device=DeviceId(row.device),
        model=ModelName(row.model),
        version=row.version,
        opened_at=row.opened_at,
        reason=row.reason,
        closed_at=row.closed_at,
        job_id=row.job_id,
    )
