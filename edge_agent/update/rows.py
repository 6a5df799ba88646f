"""The journal's file: its tables, its rows, and what older agents left of them."""

import json
import logging
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from edge_agent.core.errors import DiskFull
from edge_agent.update import floors
from edge_agent.update.record import KINDS, Assignment, Component, Conditions, Update
from protos.contract import ids
from protos.contract.telemetry import from_ms, to_ms
from protos.contract.twin import Fit, MaintenanceWindow, ModelAssignment, PackageAssignment
from protos.contract.update import UpdateState

log = logging.getLogger(__name__)

Value = int | float | str

_TABLE = """
CREATE TABLE IF NOT EXISTS updates (
    component TEXT NOT NULL,
    generation INTEGER NOT NULL,
    name TEXT NOT NULL, version TEXT NOT NULL, digest TEXT NOT NULL, size_bytes INTEGER NOT NULL,  -- of a model: its manifest's
    rollout_id TEXT NOT NULL,
    state INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,      -- at the risky act of this state
    cuts INTEGER NOT NULL DEFAULT 0,          -- attempts that were ended from outside, and are not among these
    reason TEXT NOT NULL DEFAULT '',          -- set while on trial: the decision to roll back
    place TEXT NOT NULL DEFAULT '',
    verified INTEGER NOT NULL DEFAULT 0,
    fit TEXT NOT NULL DEFAULT '',             -- JSON: what the golden run measured
    windows TEXT NOT NULL DEFAULT '[]',       -- JSON: when it may become active
    not_before_ms INTEGER NOT NULL DEFAULT 0,
    waited_s REAL NOT NULL DEFAULT 0,         -- for its conditions
    at_ms INTEGER NOT NULL,                   -- of the last change of state
    series TEXT NOT NULL DEFAULT '',          -- empty: nothing was verified, because nothing had to be
    release INTEGER NOT NULL DEFAULT 0,       -- within the series, by the image repository
    PRIMARY KEY (component, generation)
) STRICT;
"""
_SCHEMA = (
    _TABLE
    + """
CREATE TABLE IF NOT EXISTS seen (one INTEGER PRIMARY KEY CHECK (one = 1), generation INTEGER NOT NULL) STRICT;
"""
)
COLUMNS = (
    "component, generation, name, version, digest, size_bytes, rollout_id, state, attempts, reason, place, verified, fit,"
    " windows, not_before_ms, waited_s, at_ms"
)
_OF_MODELS_ALONE = {  # how a column of today came to be, in a journal from before there were components
    "component": "'model'",
    "version": "CAST(version AS TEXT)",
    "digest": "manifest_digest",
    "size_bytes": "manifest_size_bytes",
    "place": "slot",
    "fit": "''",  # it had the latency of the golden run alone: a trial that is under way goes on without that bound
    "cuts": "0",
    "verified": "state = 4",
    "windows": "'[]'",
    "not_before_ms": "0",
    "waited_s": "0.0",
}


def open_or_begin_again(path: Path) -> sqlite3.Connection:
    """Raises DiskFull for what is not damage: no room, no permission, busy."""
    try:
        try:
            return opened(path)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            aside = _set_aside(path)
            log.error("update journal was damaged and is begun again", extra={"set_aside": str(aside), "error": str(error)})
            return opened(path)
    except sqlite3.OperationalError as error:
        raise DiskFull(f"the update journal {path} cannot be opened ({error}): free some space") from error


def opened(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10.0)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")  # NORMAL lost acknowledged rows in power cuts
        _migrate(db)
        db.executescript(_SCHEMA + floors.SCHEMA)
        for row in db.execute(f"SELECT {COLUMNS} FROM updates").fetchall():
            update_of(row)
        if (found := db.execute("PRAGMA quick_check").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(found)
    except (ValueError, TypeError, LookupError) as error:
        db.close()
        raise sqlite3.DatabaseError(f"a row makes no sense: {error}") from error
    except BaseException:
        db.close()
        raise
    return db


def _migrate(db: sqlite3.Connection) -> None:
    """A journal of an older agent, in place: of one that excused no attempt; of one that updated models alone."""
    there = {row[1] for row in db.execute("PRAGMA table_info(updates)")}
    if "component" in there and "cuts" not in there:
        db.execute("ALTER TABLE updates ADD COLUMN cuts INTEGER NOT NULL DEFAULT 0")
    if not there or "component" in there:
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        db.execute("ALTER TABLE updates RENAME TO updates_of_models")
        db.execute(_TABLE)
        today = [row[1] for row in db.execute("PRAGMA table_info(updates)")]
        oldest = {"series": "''", "release": "0"}  # there from the second kind of journal on
        values = [_OF_MODELS_ALONE.get(name) or (name if name in there else oldest[name]) for name in today]
        db.execute(f"INSERT INTO updates ({', '.join(today)}) SELECT {', '.join(values)} FROM updates_of_models")
        db.execute("DROP TABLE updates_of_models")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _set_aside(path: Path) -> Path:
    aside = path.with_name(f"{path.name}.damaged")
    for suffix in ("", "-wal", "-shm"):
        file = path.with_name(path.name + suffix)
        if file.exists():
            file.replace(aside.with_name(aside.name + suffix))
    return aside


def named(assignment: Assignment) -> tuple[Value, ...]:
    """Name, version, digest, size."""
    if isinstance(assignment, ModelAssignment):
        return assignment.name, str(assignment.version), assignment.manifest_digest, assignment.manifest_size_bytes
    return assignment.name, assignment.version, assignment.digest, assignment.size_bytes


def conditions(it: Conditions) -> tuple[Value, Value]:
    """Windows and not_before_ms."""
    windows = [[each.start_minute, each.end_minute, sorted(each.days), each.local] for each in it.windows]
    return json.dumps(windows), to_ms(it.not_before) if it.not_before is not None else 0


def fit(it: Fit | None) -> str:
    return json.dumps([it.p50_ms, it.p95_ms, it.peak_bytes, it.error, it.agreement]) if it is not None else ""


def update_of(row: Sequence[object]) -> Update:
    """Raises ValueError, TypeError, LookupError: it makes no sense."""
    (
        component, generation, name, version, digest, size, rollout_id, state, attempts, reason, place, verified, measured,
        windows, not_before_ms, waited_s, at_ms,
    ) = row  # fmt: skip
    assert isinstance(generation, int) and isinstance(size, int) and isinstance(state, int)  # the table is STRICT
    assert isinstance(attempts, int) and isinstance(at_ms, int) and isinstance(not_before_ms, int)
    assert isinstance(waited_s, float)
    kind = Component(component)
    return Update(
        component=kind,
        generation=generation,
        assignment=_assignment(kind, str(name), str(version), str(digest), size),
        rollout_id=str(rollout_id),
        state=UpdateState(state),
        attempts=attempts,
        reason=str(reason),
        place=str(place),
        verified=bool(verified),
        fit=_fit(str(measured)),
        waited_s=waited_s,
        conditions=Conditions(
            windows=tuple(
                MaintenanceWindow(start_minute=start, end_minute=end, days=frozenset(days), local=bool(local))
                for start, end, days, local in json.loads(str(windows))
            ),
            not_before=from_ms(not_before_ms) if not_before_ms else None,
        ),
        at=from_ms(at_ms),
    )


def _assignment(component: Component, name: str, version: str, digest: str, size_bytes: int) -> Assignment:
    if component is Component.MODEL:
        return ModelAssignment(
            name=ids.model_name(name),
            version=int(version),
            manifest_digest=ids.digest(digest),
            manifest_size_bytes=size_bytes,
        )
    return PackageAssignment(
        kind=KINDS[component], name=name, version=version, digest=ids.digest(digest), size_bytes=size_bytes
    )


def _fit(text: str) -> Fit | None:
    if not text:
        return None
    p50_ms, p95_ms, peak_bytes, error, agreement = json.loads(text)
    return Fit(p50_ms=p50_ms, p95_ms=p95_ms, peak_bytes=int(peak_bytes), error=error, agreement=agreement)
