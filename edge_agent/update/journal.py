"""What happened to every update, durable before it is acted upon."""

import contextlib
import logging
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from edge_agent.core.clock import Clock
from edge_agent.core.errors import DiskFull
from edge_agent.update import floors
from edge_agent.update.floors import Floors, Release
from edge_agent.update.slots import Slot, Slots
from protos.contract import ids
from protos.contract.telemetry import from_ms, to_ms
from protos.contract.twin import DesiredTwin, ModelAssignment, UpdateStatus
from protos.contract.update import FINAL, UpdateState, may_follow

log = logging.getLogger(__name__)

KEPT = 50  # updates remembered
_MAX_REASON = 500  # characters; it travels in every reported twin
_SCHEMA = """
CREATE TABLE IF NOT EXISTS updates (
    generation INTEGER PRIMARY KEY,
    name TEXT NOT NULL, version INTEGER NOT NULL, manifest_digest TEXT NOT NULL, manifest_size_bytes INTEGER NOT NULL,
    rollout_id TEXT NOT NULL,
    state INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,      -- at the risky act of this state
    reason TEXT NOT NULL DEFAULT '',          -- set while on trial: the decision to roll back
    slot TEXT NOT NULL DEFAULT '',
    reference_ms REAL NOT NULL DEFAULT 0,     -- p95 of the golden run
    at_ms INTEGER NOT NULL,                   -- of the last change
    series TEXT NOT NULL DEFAULT '',          -- empty: nothing was verified, because nothing had to be
    release INTEGER NOT NULL DEFAULT 0        -- within the series, by the image repository
) STRICT;
CREATE TABLE IF NOT EXISTS seen (one INTEGER PRIMARY KEY CHECK (one = 1), generation INTEGER NOT NULL) STRICT;
"""
_SINCE = {"series": "TEXT NOT NULL DEFAULT ''", "release": "INTEGER NOT NULL DEFAULT 0"}  # columns older journals lack
_COLUMNS = (
    "generation, name, version, manifest_digest, manifest_size_bytes, rollout_id, state, attempts, reason, slot,"
    " reference_ms, at_ms"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """One row: where one generation stands."""

    generation: int
    assignment: ModelAssignment
    rollout_id: str
    state: UpdateState
    at: datetime
    attempts: int = 0
    reason: str = ""
    slot: str = ""
    reference_ms: float = 0.0

    @property
    def done(self) -> bool:
        return self.state in FINAL

    def status(self) -> UpdateStatus:
        return UpdateStatus(
            generation=self.generation,
            state=self.state,
            model=self.assignment,
            rollout_id=self.rollout_id,
            attempts=self.attempts,
            reason=self.reason,
            at=self.at,
        )


class Journal:
    """Updates in SQLite, synced at every change. A damaged file is set aside and begun again from what the slots hold.

    Every method raises DiskFull where the change cannot be written; then nothing has changed. Not thread-safe, but may be
    handed from one thread to another.
    """

    def __init__(self, path: Path | None, slots: Slots, clock: Clock) -> None:
        """``None``: in memory, from what the slots hold."""
        self._clock = clock
        self._db = _open(Path(":memory:")) if path is None else _open_or_begin_again(path)
        self.floors = Floors(self._db, self._change, durable=path is not None)
        self._catch_up(slots)

    def generation(self) -> int:
        """The newest desired generation acted on; 0: none yet."""
        row = self._db.execute("SELECT generation FROM seen").fetchone()
        return int(row[0]) if row else 0

    def newest(self) -> Update | None:
        row = self._db.execute(f"SELECT {_COLUMNS} FROM updates ORDER BY generation DESC LIMIT 1").fetchone()
        return _update(row) if row else None

    def see(self, generation: int) -> None:
        """Remember a generation that asks for nothing."""
        with self._change():
            self._see(generation)

    def offer(self, twin: DesiredTwin) -> Update:
        """A new row, OFFERED. The row before it must be final."""
        if twin.model is None:
            raise ValueError("a desired twin without a model is no update")
        before = self.newest()
        if before is not None and (not before.done or before.generation >= twin.generation):
            raise ValueError(f"generation {twin.generation} cannot follow {before.generation} in state {before.state.name}")
        with self._change():
            self._see(twin.generation)
            self._insert(twin.generation, twin.model, twin.rollout_id, UpdateState.OFFERED)
            self._db.execute(
                "DELETE FROM updates WHERE generation NOT IN (SELECT generation FROM updates ORDER BY generation DESC LIMIT ?)",
                (KEPT,),
            )
        return self._get(twin.generation)

    def advance(
        self,
        update: Update,
        *states: UpdateState,
        reason: str = "",
        slot: Slot | None = None,
        reference_ms: float = 0.0,
        release: Release | None = None,
    ) -> Update:
        """Through ``states`` in one durable step; attempts start again at 0, or at 1 for a trial: it begins by being tried.

        ``release``: what was verified about it. A commit raises the floor of its series.
        """
        state = self._get(update.generation).state
        for following in states:
            if not may_follow(state, following):
                raise ValueError(f"update {update.generation} cannot go from {state.name} to {following.name}")
            state = following
        with self._change():
            self._db.execute(
                "UPDATE updates SET state = ?, attempts = CASE WHEN ? THEN attempts ELSE ? END, reason = ?,"
                " slot = CASE WHEN ? = '' THEN slot ELSE ? END,"
                " reference_ms = CASE WHEN ? = 0 THEN reference_ms ELSE ? END, at_ms = ? WHERE generation = ?",
                (
                    int(state), state in FINAL, int(state is UpdateState.TRIAL), reason[:_MAX_REASON],
                    slot.name if slot else "", slot.name if slot else "", reference_ms, reference_ms,
                    to_ms(self._clock.now()), update.generation,
                ),
            )  # fmt: skip
            if release is not None:
                self._db.execute(
                    "UPDATE updates SET series = ?, release = ? WHERE generation = ?",
                    (release.series, release.number, update.generation),
                )
            if state is UpdateState.COMMITTED:
                floors.commit_release(self._db, update.generation)
        return self._get(update.generation)

    def count(self, update: Update) -> Update:
        """One more attempt at the act of this state, counted before it is made."""
        with self._change():
            self._db.execute("UPDATE updates SET attempts = attempts + 1 WHERE generation = ?", (update.generation,))
        return self._get(update.generation)

    def condemn(self, update: Update, reason: str) -> Update:
        """Decide that a trial is rolled back. From here on every restart finishes the rolling back."""
        with self._change():
            self._db.execute(
                "UPDATE updates SET reason = ? WHERE generation = ?", (reason[:_MAX_REASON] or "unknown", update.generation)
            )
        return self._get(update.generation)

    def reopen(self, update: Update) -> Update:
        """Begin again with an update that has ended, because why it did has passed."""
        with self._change():
            self._db.execute(
                "UPDATE updates SET state = ?, attempts = 0, reason = '', slot = '', at_ms = ? WHERE generation = ?",
                (int(UpdateState.OFFERED), to_ms(self._clock.now()), update.generation),
            )
        return self._get(update.generation)

    def carry(self, update: Update, generation: int) -> Update:
        """The same update is asked for by a newer generation: it goes on, or stays as it ended, under that one."""
        with self._change():
            self._see(generation)
            self._db.execute("UPDATE updates SET generation = ? WHERE generation = ?", (generation, update.generation))
        return self._get(generation)

    def forget(self) -> None:
        """Begin again at generation 0: what the hub still desires is then new. Floors stay."""
        with self._change():
            self._db.execute("DELETE FROM updates")
            self._db.execute("DELETE FROM seen")

    def close(self) -> None:
        self._db.close()

    @contextlib.contextmanager
    def _change(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            self._undo()
            raise DiskFull(f"the update journal cannot be written ({error}): free some space") from error
        except BaseException:
            self._undo()
            raise

    def _undo(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def _get(self, generation: int) -> Update:
        row = self._db.execute(f"SELECT {_COLUMNS} FROM updates WHERE generation = ?", (generation,)).fetchone()
        return _update(row)

    def _see(self, generation: int) -> None:
        self._db.execute(
            "INSERT INTO seen VALUES (1, ?) ON CONFLICT DO UPDATE SET generation = max(generation, excluded.generation)",
            (generation,),
        )

    def _insert(
        self, generation: int, model: ModelAssignment, rollout_id: str, state: UpdateState, *, slot: str = "", attempts: int = 0
    ) -> None:
        self._db.execute(
            "INSERT INTO updates (generation, name, version, manifest_digest, manifest_size_bytes, rollout_id, state, slot,"
            " attempts, at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                generation, model.name, model.version, model.manifest_digest, model.manifest_size_bytes, rollout_id,
                int(state), slot, attempts, to_ms(self._clock.now()),
            ),
        )  # fmt: skip

    def _catch_up(self, slots: Slots) -> None:
        """A slot that runs by a generation unknown here: the journal was lost, or in memory for a time.

        It is committed if it was good, and on trial if not; a slot that does not run is offered anew.
        """
        current = slots.current()
        record = slots.record(current) if current is not None else None
        if current is None or record is None or record.generation <= self.generation():
            return
        state = UpdateState.COMMITTED if record.good else UpdateState.TRIAL
        attempts = 0 if record.good else 1
        with self._change():
            self._see(record.generation)
            self._insert(record.generation, record.assignment, record.rollout_id, state, slot=current.name, attempts=attempts)


def _open_or_begin_again(path: Path) -> sqlite3.Connection:
    """Raises DiskFull for what is not damage: no room, no permission, busy."""
    try:
        try:
            return _open(path)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            aside = _set_aside(path)
            log.error("update journal was damaged and is begun again", extra={"set_aside": str(aside), "error": str(error)})
            return _open(path)
    except sqlite3.OperationalError as error:
        raise DiskFull(f"the update journal {path} cannot be opened ({error}): free some space") from error


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10.0)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")  # NORMAL lost acknowledged rows in power cuts
        db.executescript(_SCHEMA + floors.SCHEMA)
        _migrate(db)
        for row in db.execute(f"SELECT {_COLUMNS} FROM updates").fetchall():
            _update(row)
        if (found := db.execute("PRAGMA quick_check").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(found)
    except ValueError as error:
        db.close()
        raise sqlite3.DatabaseError(f"a row makes no sense: {error}") from error
    except BaseException:
        db.close()
        raise
    return db


def _migrate(db: sqlite3.Connection) -> None:
    """A journal of an older agent, in place. Each step may be the last before a power cut."""
    there = {row[1] for row in db.execute("PRAGMA table_info(updates)")}
    for column, kind in _SINCE.items():
        if column not in there:
            db.execute(f"ALTER TABLE updates ADD COLUMN {column} {kind}")


def _set_aside(path: Path) -> Path:
    aside = path.with_name(f"{path.name}.damaged")
    for suffix in ("", "-wal", "-shm"):
        file = path.with_name(path.name + suffix)
        if file.exists():
            file.replace(aside.with_name(aside.name + suffix))
    return aside


def _update(row: Sequence[object]) -> Update:
    generation, name, version, digest, size, rollout_id, state, attempts, reason, slot, reference_ms, at_ms = row
    assert isinstance(version, int) and isinstance(size, int) and isinstance(generation, int)  # the table is STRICT
    assert isinstance(state, int) and isinstance(attempts, int) and isinstance(at_ms, int) and isinstance(reference_ms, float)
    return Update(
        generation=generation,
        assignment=ModelAssignment(
            name=ids.model_name(str(name)),
            version=version,
            manifest_digest=ids.digest(str(digest)),
            manifest_size_bytes=size,
        ),
        rollout_id=str(rollout_id),
        state=UpdateState(state),
        attempts=attempts,
        reason=str(reason),
        slot=str(slot),
        reference_ms=reference_ms,
        at=from_ms(at_ms),
    )
