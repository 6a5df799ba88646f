"""Judges the gates of every rollout under way, from what was counted since the last time."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from cloud_hub.archive.engine import Engine
from cloud_hub.core import gates as rules
from cloud_hub.core.errors import Exhausted, NotReady
from cloud_hub.core.gates import GateVerdict, Metric, Outcome, Readings
from cloud_hub.core.gates import Group as Versus
from cloud_hub.core.model import Baseline
from cloud_hub.core.tallies import MANY, Side, Tally
from cloud_hub.services import gate_evidence as evidence
from cloud_hub.services.gate_evidence import Asked
from cloud_hub.services.gate_figures import DEVICES, Group, readings
from cloud_hub.services.gates import told
from cloud_hub.services.versions import Versions
from cloud_hub.store import gate_counts, gate_sources, registry
from cloud_hub.store import gates as store
from cloud_hub.store.database import Database, Tx
from cloud_hub.store.gate_counts import Counters
from cloud_hub.store.gate_sources import Seen
from cloud_hub.store.gates import Gated, Member
from edge_agent.core.clock import Clock
from protos.contract.ids import DeviceId, ModelName
from protos.contract.update import UpdateState

log = logging.getLogger(__name__)

_REST = 10  # times as long as judging a rollout was work: a tenth of one core at most
_FAILED = (UpdateState.FAILED, UpdateState.ROLLED_BACK)


class GateJudge:
    """``tick`` may run in one thread at a time. What it reads is a few rows for each device of a rollout, never a reading."""

    def __init__(self, db: Database, engine: Engine, clock: Clock, *, busy: Callable[[], float] = time.thread_time) -> None:
        """``engine`` answers what devices did before they were asked, once for each. ``busy``: seconds this thread computed."""
        self._db = db
        self._engine = engine
        self._clock = clock
        self._busy = busy
        self._versions = Versions()
        self._rests: dict[str, float] = {}  # until when, by the monotonic clock
        self._told: dict[tuple[str, DeviceId], bytes] = {}  # reported twins as they were counted
        self._cleared = False

    def tick(self, now: datetime) -> None:
        with self._db.read() as tx:
            under_way = store.every(tx)
        for gated in under_way:
            if self._clock.monotonic() < self._rests.get(gated.rollout, 0.0):
                continue
            before_s = self._busy()
            try:
                self._go_on(gated, now)
            except Exception:  # outermost edge for one rollout: it must not hold up the others
                log.exception("gates cannot be judged", extra={"rollout": gated.rollout})
                self._hold(gated, now)
            self._rests[gated.rollout] = self._clock.monotonic() + _REST * (self._busy() - before_s)
        self._clear(under_way)

    def _go_on(self, gated: Gated, now: datetime) -> None:
        with self._db.read() as tx:
            members = store.members(tx, gated.rollout)
            seen = gate_sources.seen(tx, [member.device for member in members])
            known = gate_counts.counters(tx, gated.rollout)
        gated = self._coarsen(self._compare_from(gated, members), members)
        self._count(gated, members, seen, known, now)
        if any(gate.versus == Versus.BEFORE for gate in rules.parse(gated.gates)):
            self._look_back(gated, members, seen)
        with self._db.read() as tx:
            before, asked = store.verdict(tx, gated.rollout), Asked(gated, members)
            committed = sum(member.side is Side.TREATED for member in members)
            verdict = self._judged(tx, asked, seen, now)
        shown = told(verdict)
        if before is None or (before.outcome, before.committed, before.readings) == (verdict.outcome.value, committed, shown):
            return
        with self._db.write() as tx:
            outcome = verdict.outcome.value
            store.put_verdict(tx, gated.rollout, outcome=outcome, committed=committed, readings=shown, at=now)
        if before.outcome != outcome:
            log.info("gates judged", extra={"rollout": gated.rollout, "outcome": outcome, "reason": verdict.reason})

    def _hold(self, gated: Gated, now: datetime) -> None:
        """A verdict that was passed before must not let a wave through that nobody has judged."""
        verdict = rules.waiting(rules.parse(gated.gates), "it cannot be judged: the hub's log says why")
        with self._db.write() as tx:
            before = store.verdict(tx, gated.rollout)
            if before is not None and before.outcome == Outcome.PASS.value:
                readings = told(verdict)
                store.put_verdict(tx, gated.rollout, outcome=verdict.outcome.value, committed=0, readings=readings, at=now)

    def _coarsen(self, gated: Gated, members: Sequence[Member]) -> Gated:
        """Who is told from the others needs no slots. A side that so few are left of that it does begins anew, in slots."""
        on = {side: {member.device for member in members if member.side is side} for side in Side}
        many = {side for side, devices in on.items() if len(devices) >= MANY} | gated.coarse
        if not many:
            return gated
        with self._db.read() as tx:
            telling = gate_counts.telling(tx, gated.rollout)
        few = {side for side in many if 0 < len(telling.get(side, set()) & on[side]) < min(DEVICES, MANY)}
        coarse = frozenset(many - few)
        if coarse != gated.coarse:
            with self._db.write() as tx:
                store.put_coarse(tx, gated.rollout, coarse)
                for side in gated.coarse - coarse:
                    gate_counts.forget(tx, gated.rollout, side)
        return replace(gated, coarse=coarse)

    def _compare_from(self, gated: Gated, members: Sequence[Member]) -> Gated:
        commits = [member.ended_at for member in members if member.side is Side.TREATED and member.ended_at]
        if gated.compared_from is not None or not commits:
            return gated
        with self._db.write() as tx:
            store.put_compared_from(tx, gated.rollout, min(commits))
        return replace(gated, compared_from=min(commits))

    def _count(
        self,
        gated: Gated,
        members: Sequence[Member],
        seen: Mapping[DeviceId, Seen],
        known: Mapping[DeviceId, Counters],
        now: datetime,
    ) -> None:
        """What devices say that they counted; of those that said nothing new nothing is done."""
        changed: list[Counters] = []
        more: dict[Side, list[Tally]] = {}
        for member in members:
            reported = seen[member.device].reported if member.device in seen else None
            before = known.get(member.device)
            moved = before is None or before.side is not (member.side if gated.compared_from is not None else None)
            if reported is None or (not moved and self._told.get((gated.rollout, member.device)) == reported):
                continue
            counted = evidence.counted(member, before, reported, gated, now)
            changed.append(counted.counters)
            for side, tally in counted.more.items():
                more.setdefault(side, []).append(tally)
            self._told[gated.rollout, member.device] = reported
        if changed:
            with self._db.write() as tx:
                gate_counts.put_counters(tx, gated.rollout, changed)
                for side, tallies in more.items():
                    gate_counts.add_tallies(tx, gated.rollout, side, tallies)

    def _look_back(self, gated: Gated, members: Sequence[Member], seen: Mapping[DeviceId, Seen]) -> None:
        """Of devices that were asked since the last time, all in one query."""
        with self._db.read() as tx:
            known = gate_counts.counters(tx, gated.rollout)
        asked = {
            member.device: member.asked_at
            for member in members
            if member.asked_at is not None and member.device in known and not known[member.device].looked_back
        }
        if not asked:
            return
        try:
            found = evidence.look_back(self._db, self._engine, self._versions, gated, list(asked), min(asked.values()))
        except (Exhausted, NotReady) as error:
            log.warning("gates cannot look back now", extra={"rollout": gated.rollout, "reason": str(error)})
            return
        counters = []
        for device in asked:
            reported = seen[device].reported
            assert reported is not None  # or it would not be known
            done, own = evidence.counted_before(known[device], reported)
            counters.append(done)
            found += own
        with self._db.write() as tx:
            gate_counts.put_counters(tx, gated.rollout, counters)
            gate_counts.add_tallies(tx, gated.rollout, Side.BEFORE, found)

    def _judged(self, tx: Tx, asked: Asked, seen: Mapping[DeviceId, Seen], now: datetime) -> GateVerdict:
        gates = rules.parse(asked.gated.gates)
        wanted = {Metric(gate.metric) for gate in gates}
        tallies = gate_counts.tallies(tx, asked.gated.rollout)
        lost = evidence.crashes(tx, asked, seen, now) if Metric.CRASH_RATE in wanted else {}
        labelled = evidence.answers(tx, asked, now) if Metric.ACCURACY in wanted else {}
        on = {member.device: member.side for member in asked.members}
        ended = sum(member.state in _FAILED for member in asked.members)
        committed = sum(side is Side.TREATED for side in on.values())

        def of(side: Side) -> Readings:
            now_on = Side.TREATED if side is Side.BEFORE else side
            return readings(
                Group(
                    tallies=[tally for tally in tallies[side] if on.get(DeviceId(tally.device)) is now_on],
                    crashes=lost.get(side),
                    installs=(committed, committed + ended) if side is Side.TREATED else None,
                    answers=labelled.get(side),
                ),
                lambda version: self._baseline(tx, asked.gated, version),
            )

        groups = {Versus.BEFORE: of(Side.BEFORE)}
        if any(side is Side.CONTROL for side in on.values()):
            groups[Versus.CONTROL] = of(Side.CONTROL)
        over = () if self._may_look_back(tx, asked) else (Versus.BEFORE,)
        return rules.judge(gates, of(Side.TREATED), groups, over)

    def _may_look_back(self, tx: Tx, asked: Asked) -> bool:
        """Whether there is a device left of which more may be found."""
        known = gate_counts.counters(tx, asked.gated.rollout)
        waited_for = (one.device for one in asked.members if one.asked_at is not None and one.side is Side.TREATED)
        return any(device not in known or not known[device].looked_back for device in waited_for)

    def _baseline(self, tx: Tx, gated: Gated, version: str) -> Baseline | None:
        name, _, number = version.rpartition(":")
        found = registry.find_version(tx, gated.tenant, ModelName(name), int(number)) if number.isdigit() else None
        return found.baseline if found is not None else None

    def _clear(self, under_way: Sequence[Gated]) -> None:
        """What was counted for rollouts that have ended is not needed any more."""
        going = {gated.rollout for gated in under_way}
        if not self._cleared or any(rollout not in going for rollout, _ in self._told):
            self._told = {key: reported for key, reported in self._told.items() if key[0] in going}
            self._rests = {rollout: rest for rollout, rest in self._rests.items() if rollout in going}
            with self._db.write() as tx:
                gate_counts.clear(tx)
            self._cleared = True
