"""Rollouts, without their devices: those are many, and in ``rollout_devices``."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Integer,
    Row,
    Select,
    Table,
    Text,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from cloud_hub.core import rollout_spec
from cloud_hub.core.model import ROLLOUT_ENDED, ROLLOUT_UNDER_WAY, Rollout, RolloutState
from cloud_hub.core.rollout_plan import Component
from cloud_hub.store import schema
from cloud_hub.store.database import Tx
from protos.contract.ids import ModelName, TenantId

rollouts = Table(
    "rollouts",
    schema.metadata,
    Column("id", Text, primary_key=True),
    Column("number", Integer, nullable=False, unique=True),  # grows: the newest wins
    schema.tenant(),
    Column("component", Text, nullable=False, server_default="model"),
    Column("model", Text, nullable=False),  # or the package
    Column("version", Integer, nullable=False),  # 0: a package's stands in the plan
    Column("plan", Text, nullable=False, server_default=""),  # as core.rollout_spec dumps it
    Column("state", Integer, nullable=False, index=True),
    Column("wave", Integer, nullable=False),
    Column("reason", schema.Prose, nullable=False, default=""),
    Column("breached", Boolean, nullable=False, server_default="0"),
    Column("forgiven", Integer, nullable=False, server_default="0"),
    Column("keep_open", Boolean, nullable=False, server_default="0"),  # once it has succeeded, others join it
    Column("champion_before", Integer),  # what its success replaced
    Column("created_by", Text, nullable=False),
    schema.time("created_at"),
    schema.time("start_at", nullable=True),  # of one that is scheduled; none: a person starts it
    schema.time("started_at", nullable=True),
    schema.time("next_ask_at", nullable=True),  # before this, its rate lets it ask nobody
    schema.time("paused_at", nullable=True),
    schema.time("ended_at", nullable=True),
)

_UNDER_WAY = tuple(int(state) for state in ROLLOUT_UNDER_WAY)
_ACTIVE = tuple(int(state) for state in RolloutState if state not in ROLLOUT_ENDED)

under_way = rollouts.c.state.in_(_UNDER_WAY)
succeeded = rollouts.c.state == int(RolloutState.SUCCEEDED)


def add(tx: Tx, tenant: TenantId, rollout: Rollout) -> None:
    number = tx.execute(select(func.coalesce(func.max(rollouts.c.number), 0) + 1)).scalar_one()
    tx.execute(
        insert(rollouts).values(
            id=rollout.id,
            number=number,
            tenant=tenant,
            component=rollout.plan.component.value,
            model=rollout.model,
            version=rollout.version,
            plan=rollout_spec.dump(rollout.plan),
            state=int(rollout.state),
            wave=rollout.wave,
            keep_open=rollout.plan.keep_open,
            created_by=rollout.created_by,
            created_at=rollout.created_at,
            start_at=rollout.plan.start,
        )
    )


def find(tx: Tx, id: str) -> tuple[TenantId, Rollout] | None:
    """Without its waves and devices."""
    row = tx.execute(select(rollouts).where(rollouts.c.id == id)).first()
    return (TenantId(row.tenant), _rollout(row)) if row else None


def newest(tx: Tx, tenant: TenantId, *, active_only: bool, before: int | None, limit: int) -> list[tuple[int, Rollout]]:
    """Those numbered below ``before`` (None: all), newest first, each with its number."""
    query = select(rollouts).where(rollouts.c.tenant == tenant)
    query = query.where(rollouts.c.state.in_(_ACTIVE)) if active_only else query
    query = query if before is None else query.where(rollouts.c.number < before)
    return [(row.number, _rollout(row)) for row in tx.execute(query.order_by(rollouts.c.number.desc()).limit(limit))]


def any_of(tx: Tx, tenant: TenantId, model: ModelName, version: int) -> bool:
    """Whether there ever was one of this version of a model."""
    r = rollouts.c
    own = (r.tenant == tenant) & (r.component == Component.MODEL.value) & (r.model == model) & (r.version == version)
    return bool(tx.execute(select(exists().where(own))).scalar())


def all_under_way(tx: Tx) -> list[str]:
    """Of every tenant, oldest first."""
    return list(tx.execute(active(select(rollouts.c.id)).order_by(rollouts.c.number)).scalars())


def joinable(tx: Tx, tenant: TenantId) -> list[str]:
    """Those that devices may join, newest first: it is the newest that gets one."""
    query = holding(select(rollouts.c.id)).where(rollouts.c.tenant == tenant)
    return list(tx.execute(query.order_by(rollouts.c.number.desc())).scalars())


def kept_open(tx: Tx) -> list[str]:
    """Of every tenant, those that have succeeded and still take devices in."""
    r = rollouts.c
    query = select(r.id).where(r.keep_open.is_(True), succeeded)
    return list(tx.execute(query.order_by(r.number)).scalars())


def due(tx: Tx, now: datetime) -> list[str]:
    """Scheduled ones whose time has come, oldest first."""
    r = rollouts.c
    query = select(r.id).where(r.state == int(RolloutState.SCHEDULED), r.start_at <= now)
    return list(tx.execute(query.order_by(r.number)).scalars())


def newer_holds(tx: Tx, rollout: Rollout, tenant: TenantId) -> bool:
    """Whether a newer rollout of the same model is under way, or has succeeded."""
    r = rollouts.c
    own = select(r.number).where(r.id == rollout.id).scalar_subquery()
    newer = (r.tenant == tenant) & (r.component == rollout.plan.component.value) & (r.model == rollout.model) & (r.number > own)
    holds = under_way | succeeded
    return bool(tx.execute(select(exists().where(newer, holds))).scalar())


def put_started(tx: Tx, id: str, at: datetime) -> None:
    tx.execute(update(rollouts).where(rollouts.c.id == id).values(state=int(RolloutState.RUNNING), started_at=at, reason=""))


def put_wave(tx: Tx, id: str, wave: int) -> None:
    tx.execute(update(rollouts).where(rollouts.c.id == id).values(wave=wave))


def put_state(tx: Tx, id: str, state: RolloutState, reason: str, at: datetime, *, breached: bool = False) -> None:
    ended = at if state in ROLLOUT_ENDED else None
    paused = at if state is RolloutState.PAUSED else None
    values = {"state": int(state), "reason": reason, "ended_at": ended, "paused_at": paused, "breached": breached}
    tx.execute(update(rollouts).where(rollouts.c.id == id).values(**values))


def put_forgiven(tx: Tx, id: str, failures: int) -> None:
    tx.execute(update(rollouts).where(rollouts.c.id == id).values(forgiven=failures))


def put_next_ask(tx: Tx, id: str, at: datetime) -> None:
    tx.execute(update(rollouts).where(rollouts.c.id == id).values(next_ask_at=at))


def next_ask(tx: Tx, id: str) -> datetime | None:
    return tx.execute(select(rollouts.c.next_ask_at).where(rollouts.c.id == id)).scalar()


def paused_at(tx: Tx, id: str) -> datetime | None:
    return tx.execute(select(rollouts.c.paused_at).where(rollouts.c.id == id)).scalar()


def put_champion_before(tx: Tx, id: str, version: int | None) -> None:
    tx.execute(update(rollouts).where(rollouts.c.id == id).values(champion_before=version))


def champion_before(tx: Tx, id: str) -> int | None:
    return tx.execute(select(rollouts.c.champion_before).where(rollouts.c.id == id)).scalar()


def active(query: Select[Any]) -> Select[Any]:
    """Only those that have started and not ended."""
    return query.where(under_way)


def holding(query: Select[Any]) -> Select[Any]:
    """Those under way, and those that are kept open."""
    return query.where(or_(under_way, rollouts.c.keep_open.is_(True) & succeeded))


def _rollout(row: Row[Any]) -> Rollout:
    return Rollout(
        id=row.id,
        plan=rollout_spec.load(row.plan),
        state=RolloutState(row.state),
        wave=row.wave,
        standings=(),
        reason=row.reason,
        devices=(),
        created_by=row.created_by,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        breached=row.breached,
        forgiven=row.forgiven,
    )
