"""Rollouts, without their devices: those are many, and in ``rollout_devices``."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    Column,
    Integer,
    Row,
    Select,
    Table,
    Text,
    exists,
    func,
    insert,
    select,
    update,
)

from cloud_hub.core.model import ROLLOUT_ENDED, Rollout, RolloutState
from cloud_hub.store import schema
from cloud_hub.store.database import Tx
from protos.contract.ids import ModelName, TenantId

rollouts = Table(
    "rollouts",
    schema.metadata,
    Column("id", Text, primary_key=True),
    Column("number", Integer, nullable=False, unique=True),  # grows: the newest wins
    schema.tenant(),
    Column("model", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("selector", schema.Json, nullable=False),
    Column("canary", Integer, nullable=False),
    Column("soak_s", Integer, nullable=False),
    Column("max_failures", Integer, nullable=False),
    Column("state", Integer, nullable=False, index=True),
    Column("wave", Integer, nullable=False),
    Column("waves", Integer, nullable=False),
    Column("reason", schema.Prose, nullable=False, default=""),
    Column("champion_before", Integer),  # what its success replaced
    Column("created_by", Text, nullable=False),
    schema.time("created_at"),
    schema.time("ended_at", nullable=True),
)

_ACTIVE = tuple(int(state) for state in RolloutState if state not in ROLLOUT_ENDED)


def add(tx: Tx, tenant: TenantId, rollout: Rollout) -> None:
    number = tx.execute(select(func.coalesce(func.max(rollouts.c.number), 0) + 1)).scalar_one()
    tx.execute(
        insert(rollouts).values(
            id=rollout.id,
            number=number,
            tenant=tenant,
            model=rollout.model,
            version=rollout.version,
            selector=dict(rollout.selector),
            canary=rollout.canary,
            soak_s=rollout.soak_s,
            max_failures=rollout.max_failures,
            state=int(rollout.state),
            wave=rollout.wave,
            waves=rollout.waves,
            created_by=rollout.created_by,
            created_at=rollout.created_at,
        )
    )


def find(tx: Tx, id: str) -> tuple[TenantId, Rollout] | None:
    row = tx.execute(select(rollouts).where(rollouts.c.id == id)).first()
    return (TenantId(row.tenant), _rollout(row)) if row else None


def newest(tx: Tx, tenant: TenantId, *, active_only: bool, before: int | None, limit: int) -> list[tuple[int, Rollout]]:
    """Those numbered below ``before`` (None: all), newest first, each with its number."""
    query = active(select(rollouts)) if active_only else select(rollouts)
    query = query.where(rollouts.c.tenant == tenant)
    query = query if before is None else query.where(rollouts.c.number < before)
    return [(row.number, _rollout(row)) for row in tx.execute(query.order_by(rollouts.c.number.desc()).limit(limit))]


def any_of(tx: Tx, tenant: TenantId, model: ModelName, version: int) -> bool:
    """Whether there ever was one of this version."""
    own = (rollouts.c.tenant == tenant) & (rollouts.c.model == model) & (rollouts.c.version == version)
    return bool(tx.execute(select(exists().where(own))).scalar())


def active_ids(tx: Tx) -> list[str]:
    """Of every tenant, oldest first."""
    return list(tx.execute(active(select(rollouts.c.id)).order_by(rollouts.c.number)).scalars())


def active_of_model(tx: Tx, tenant: TenantId, model: ModelName) -> list[str]:
    query = active(select(rollouts.c.id)).where(rollouts.c.tenant == tenant, rollouts.c.model == model)
    return list(tx.execute(query).scalars())


def put_wave(tx: Tx, id: str, wave: int) -> None:
    tx.execute(update(rollouts).where(rollouts.c.id == id).values(wave=wave))


def put_state(tx: Tx, id: str, state: RolloutState, reason: str, at: datetime) -> None:
    ended = at if state in ROLLOUT_ENDED else None
    tx.execute(update(rollouts).where(rollouts.c.id == id).values(state=int(state), reason=reason, ended_at=ended))


def put_champion_before(tx: Tx, id: str, version: int | None) -> None:
    tx.execute(update(rollouts).where(rollouts.c.id == id).values(champion_before=version))


def champion_before(tx: Tx, id: str) -> int | None:
    return tx.execute(select(rollouts.c.champion_before).where(rollouts.c.id == id)).scalar()


def active(query: Select[Any]) -> Select[Any]:
    """Only those that have not ended."""
    return query.where(rollouts.c.state.in_(_ACTIVE))


def _rollout(row: Row[Any]) -> Rollout:
    return Rollout(
        id=row.id,
        model=ModelName(row.model),
        version=row.version,
        selector=row.selector,
        canary=row.canary,
        soak_s=row.soak_s,
        max_failures=row.max_failures,
        state=RolloutState(row.state),
        wave=row.wave,
        waves=row.waves,
        reason=row.reason,
        devices=(),
        created_by=row.created_by,
        created_at=row.created_at,
        ended_at=row.ended_at,
    )
