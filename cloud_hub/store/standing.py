"""How the hub stands, in numbers over all tenants: for its metrics."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from sqlalchemy import ColumnElement, Table, func, select

from cloud_hub.core.alert_rules import Severity
from cloud_hub.core.model import JobState, RolloutState
from cloud_hub.store import stream_states
from cloud_hub.store.alerts import alerts
from cloud_hub.store.archive import Kind, archive_files
from cloud_hub.store.database import Tx
from cloud_hub.store.episodes import drift_episodes
from cloud_hub.store.fleet import devices
from cloud_hub.store.landing import landing
from cloud_hub.store.notices import NoticeState, alert_notices
from cloud_hub.store.quarantine import quarantine
from cloud_hub.store.rollouts import rollouts
from cloud_hub.store.training import training_jobs
from protos.contract.twin import Presence


@dataclass(frozen=True, slots=True, kw_only=True)
class Archived:
    """Live files of one kind."""

    files: int
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    devices: Mapping[str, int]  # by presence; "never": not seen yet
    jobs: Mapping[str, int]  # by state
    rollouts: Mapping[str, int]  # by state
    open_alerts: Mapping[str, int]  # by severity
    notices: Mapping[str, int]  # not told: "waiting", or given up: "dead"
    archived: Mapping[str, Archived]  # by kind
    open_episodes: int
    quarantined: int  # messages kept, repeats counted once
    landing_batches: int
    landing_bytes: int  # of payload
    unfolded_records: int
    unfolded_since_ms: int | None  # when the oldest batch that is not unfolded came; None: there is none


_UNTOLD = (NoticeState.WAITING, NoticeState.DEAD)


def standing(tx: Tx) -> Standing:
    """A few aggregates. The longest goes over the batches that wait for the archive, without reading their payload."""
    presences = _counted(tx, devices, devices.c.presence)
    by_presence = {presence.name.lower(): presences.get(presence, 0) for presence in Presence}
    batches, payload = tx.execute(
        select(func.count(), func.coalesce(func.sum(func.length(landing.c.payload)), 0)).select_from(landing)
    ).one()
    records, since_ms = stream_states.lag(tx)
    return Standing(
        devices=by_presence | {"never": presences.get(None, 0)},
        jobs=_by_number(JobState, _counted(tx, training_jobs, training_jobs.c.state)),
        rollouts=_by_number(RolloutState, _counted(tx, rollouts, rollouts.c.state)),
        open_alerts=_by_number(Severity, _counted(tx, alerts, alerts.c.severity, alerts.c.resolved_at.is_(None))),
        notices={state.name.lower(): _count(tx, alert_notices, alert_notices.c.state == state) for state in _UNTOLD},
        archived=_archived(tx),
        open_episodes=_count(tx, drift_episodes, drift_episodes.c.closed_at.is_(None)),
        quarantined=_count(tx, quarantine),
        landing_batches=int(batches),
        landing_bytes=int(payload),
        unfolded_records=records,
        unfolded_since_ms=since_ms,
    )


def _archived(tx: Tx) -> dict[str, Archived]:
    f = archive_files.c
    sums = (func.count(), func.coalesce(func.sum(f.rows), 0), func.coalesce(func.sum(f.bytes), 0))
    found = {
        kind: Archived(files=int(files), rows=int(rows), bytes=int(size))
        for kind, files, rows, size in tx.execute(select(f.kind, *sums).where(f.removed_ms.is_(None)).group_by(f.kind))
    }
    return {kind.value: found.get(kind.value, Archived(files=0, rows=0, bytes=0)) for kind in Kind}


def _counted(tx: Tx, table: Table, column: ColumnElement[int | None], *where: ColumnElement[bool]) -> dict[int | None, int]:
    query = select(column, func.count()).select_from(table).where(*where).group_by(column)
    return {value: int(count) for value, count in tx.execute(query)}


def _by_number(kind: type[IntEnum], counts: Mapping[int | None, int]) -> dict[str, int]:
    """All of ``kind``, so that a series is there before its first case."""
    return {one.name.lower(): counts.get(int(one), 0) for one in kind}


def _count(tx: Tx, table: Table, *where: ColumnElement[bool]) -> int:
    return int(tx.execute(select(func.count()).select_from(table).where(*where)).scalar_one())
