"""What happened to every update, durable before it is acted upon."""

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from edge_agent.core.clock import Clock
from edge_agent.core.errors import DiskFull
from edge_agent.update import floors, rows
from edge_agent.update.floors import Floors, Release
from edge_agent.update.record import Component, Found, Update, Wanted
from edge_agent.update.rows import Value
from protos.contract.telemetry import to_ms
from protos.contract.twin import Fit
from protos.contract.update import FINAL, UpdateState, may_follow

KEPT = 50  # updates remembered, of each component
MOST_CUTS = 10  # attempts at one update that are excused: beyond them it is what takes the board down
_MAX_REASON = 500  # characters; it travels in every reported twin
_ROW = "component = ? AND generation = ?"


class Journal:
    """A line of updates for each component in SQLite, synced at every change. A damaged file is set aside and begun again.

    Every method raises DiskFull where the change cannot be written; then nothing has changed. Not thread-safe, but may be
    handed from one thread to another.
    """

    def __init__(self, path: Path | None, found: Iterable[Found], clock: Clock) -> None:
        """``None``: in memory. ``found``: what runs, by the word of its places; what is not known here is begun from that."""
        self._clock = clock
        self._db = rows.opened(Path(":memory:")) if path is None else rows.open_or_begin_again(path)
        self.floors = Floors(self._db, self._change, durable=path is not None)
        for each in found:
            self._catch_up(each)

    def generation(self) -> int:
        """The newest desired generation acted on, over all components; 0: none yet."""
        row = self._db.execute("SELECT generation FROM seen").fetchone()
        return int(row[0]) if row else 0

    def newest(self, component: Component = Component.MODEL) -> Update | None:
        row = self._db.execute(
            f"SELECT {rows.COLUMNS} FROM updates WHERE component = ? ORDER BY generation DESC LIMIT 1", (component.value,)
        ).fetchone()
        return rows.update_of(row) if row else None

    def committed(self, component: Component) -> Update | None:
        """The newest that was committed, and not taken back afterwards."""
        row = self._db.execute(
            f"SELECT {rows.COLUMNS} FROM updates WHERE component = ? AND state = ? AND reason = ''"
            " ORDER BY generation DESC LIMIT 1",
            (component.value, int(UpdateState.COMMITTED)),
        ).fetchone()
        return rows.update_of(row) if row else None

    def see(self, generation: int) -> None:
        """Remember a generation that has been acted on."""
        with self._change():
            self._see(generation)

    def offer(self, component: Component, wanted: Wanted) -> Update:
        """A new row, OFFERED. The row before it must be final."""
        before = self.newest(component)
        if before is not None and (not before.done or before.generation >= wanted.generation):
            raise ValueError(
                f"generation {wanted.generation} of {component.value} cannot follow {before.generation} in state "
                f"{before.state.name}"
            )
        with self._change():
            self._insert(component, wanted, UpdateState.OFFERED)
            self._db.execute(
                "DELETE FROM updates WHERE component = ? AND generation NOT IN"
                " (SELECT generation FROM updates WHERE component = ? ORDER BY generation DESC LIMIT ?)",
                (component.value, component.value, KEPT),
            )
        return self._get(component, wanted.generation)

    def advance(
        self,
        update: Update,
        *states: UpdateState,
        reason: str = "",
        place: str = "",
        fit: Fit | None = None,
        release: Release | None = None,
    ) -> Update:
        """Through ``states`` in one durable step; attempts start again at 0, or at 1 for a trial: it begins by being tried.

        ``place``, ``fit``: as they were where they are not given. ``release``: what was verified about it. A commit raises the
        floor of its series.
        """
        state = self._get(update.component, update.generation).state
        for following in states:
            if not may_follow(state, following):
                raise ValueError(f"update {update.generation} cannot go from {state.name} to {following.name}")
            state = following
        values: dict[str, Value] = {
            "state": int(state),
            "reason": reason[:_MAX_REASON],
            "waited_s": 0.0,
            "at_ms": to_ms(self._clock.now()),
        }
        if state not in FINAL:
            values["attempts"] = int(state is UpdateState.TRIAL)
        if place:
            values["place"] = place
        if fit is not None:
            values["fit"] = rows.fit(fit)
        if release is not None:
            values |= {"series": release.series, "release": release.number}
        with self._change():
            self._set(update, **values)
            if state is UpdateState.COMMITTED:
                floors.commit_release(self._db, update.component.value, update.generation)
        return self._get(update.component, update.generation)

    def count(self, update: Update) -> Update:
        """One more attempt at the act of this state, counted before it is made."""
        return self._write(update, attempts=self._get(update.component, update.generation).attempts + 1)

    def excuse(self, update: Update) -> Update:
        """The attempt that was counted last was ended from outside; of one update at most ``MOST_CUTS`` are taken back."""
        with self._change():
            self._db.execute(
                f"UPDATE updates SET attempts = attempts - 1, cuts = cuts + 1 WHERE {_ROW} AND attempts > 0 AND cuts < ?",
                (update.component.value, update.generation, MOST_CUTS),
            )
        return self._get(update.component, update.generation)

    def verify(self, update: Update, fit: Fit | None) -> Update:
        """Its trial run has passed, and needs not be made again."""
        return self._write(update, verified=1, fit=rows.fit(fit))

    def wait(self, update: Update, waited_s: float) -> Update:
        """So long it has waited for its conditions, in all."""
        return self._write(update, waited_s=waited_s)

    def condemn(self, update: Update, reason: str) -> Update:
        """Decide that a trial is rolled back. From here on every restart finishes the rolling back."""
        return self._write(update, reason=reason[:_MAX_REASON] or "unknown")

    def remark(self, update: Update, reason: str) -> Update:
        """What became of an update that had ended: the version before it runs again."""
        if not update.done:
            raise ValueError(f"update {update.generation} is {update.state.name}: its reason is its own")
        return self._write(update, reason=reason[:_MAX_REASON])

    def reopen(self, update: Update) -> Update:
        """Begin again with an update that has ended, because why it did has passed."""
        return self._write(
            update,
            state=int(UpdateState.OFFERED), attempts=0, cuts=0, reason="", place="", verified=0, fit="", waited_s=0.0,
            at_ms=to_ms(self._clock.now()),
        )  # fmt: skip

    def carry(self, update: Update, wanted: Wanted) -> Update:
        """The same is asked for by a newer generation: it goes on, or stays as it ended, under that one and its conditions."""
        windows, not_before_ms = rows.conditions(wanted.conditions)
        with self._change():
            self._set(update, generation=wanted.generation, windows=windows, not_before_ms=not_before_ms)
        return self._get(update.component, wanted.generation)

    def forget(self, component: Component) -> None:
        """Begin again at generation 0: what the hub still desires of ``component`` is then new. Floors stay."""
        with self._change():
            self._db.execute("DELETE FROM updates WHERE component = ?", (component.value,))
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

    def _get(self, component: Component, generation: int) -> Update:
        row = self._db.execute(f"SELECT {rows.COLUMNS} FROM updates WHERE {_ROW}", (component.value, generation)).fetchone()
        return rows.update_of(row)

    def _write(self, update: Update, **values: Value) -> Update:
        with self._change():
            self._set(update, **values)
        return self._get(update.component, update.generation)

    def _set(self, update: Update, **values: Value) -> None:
        columns = ", ".join(f"{name} = ?" for name in values)
        self._db.execute(
            f"UPDATE updates SET {columns} WHERE {_ROW}", (*values.values(), update.component.value, update.generation)
        )

    def _see(self, generation: int) -> None:
        self._db.execute(
            "INSERT INTO seen VALUES (1, ?) ON CONFLICT DO UPDATE SET generation = max(generation, excluded.generation)",
            (generation,),
        )

    def _insert(self, component: Component, wanted: Wanted, state: UpdateState, *, place: str = "", attempts: int = 0) -> None:
        values: dict[str, Value] = dict(
            zip(("name", "version", "digest", "size_bytes"), rows.named(wanted.assignment), strict=True)
        )
        values |= dict(zip(("windows", "not_before_ms"), rows.conditions(wanted.conditions), strict=True))
        values |= {
            "component": component.value,
            "generation": wanted.generation,
            "rollout_id": wanted.rollout_id,
            "state": int(state),
            "place": place,
            "attempts": attempts,
            "at_ms": to_ms(self._clock.now()),
        }
        marks = ", ".join("?" * len(values))
        self._db.execute(f"INSERT INTO updates ({', '.join(values)}) VALUES ({marks})", tuple(values.values()))

    def _catch_up(self, found: Found) -> None:
        """A generation unknown here is started from: the journal was lost, or in memory for a time.

        It is committed if it was good, and on trial if not; what is not started from is offered anew.
        """
        newest = self.newest(found.component)
        if newest is not None and found.generation <= newest.generation:
            return
        wanted = Wanted(generation=found.generation, assignment=found.assignment, rollout_id=found.rollout_id)
        state = UpdateState.COMMITTED if found.good else UpdateState.TRIAL
        with self._change():
            self._insert(found.component, wanted, state, place=found.place, attempts=int(not found.good))
            self._see(found.generation)
