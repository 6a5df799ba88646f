"""What gates compare besides the readings that ``gate_fold`` counts: what devices did before, count themselves, and lost."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from cloud_hub.archive.engine import Engine
from cloud_hub.archive.histograms import SQL_BUCKET
from cloud_hub.core.drift import CONFIDENCE_BINS
from cloud_hub.core.tallies import LEAST_SLOT_MS, MANY, SLOTS, Side, Tally
from cloud_hub.services.fleet import RESTARTED
from cloud_hub.services.gate_figures import Crashes
from cloud_hub.services.gate_fold import counts_for
from cloud_hub.services.snapshots import Scope, Snapshot
from cloud_hub.services.versions import Versions
from cloud_hub.store import gate_sources
from cloud_hub.store.database import Database, Tx
from cloud_hub.store.gate_counts import Counters
from cloud_hub.store.gate_sources import Seen
from cloud_hub.store.gates import Gated, Member
from protos.contract import codec
from protos.contract.ids import DeviceId, Digest
from protos.contract.telemetry import to_ms

_CONTROL = "control"  # why a device keeps a frame that it drew by lot, before it looked at it
_WORKER_LOST = "inference.worker_lost"
_TRUSTED = timedelta(minutes=1)  # a clock that is not further off
CRASHES = (_WORKER_LOST, "agent.fault", RESTARTED)


@dataclass(frozen=True, slots=True)
class Asked:
    """Devices of one rollout, by what has become of them."""

    gated: Gated
    members: Sequence[Member]

    def spans(self, member: Member, now: datetime) -> dict[Side, tuple[datetime, datetime]]:
        """When the device was on which side."""
        found = {}
        if member.asked_at is not None:
            found[Side.BEFORE] = (member.asked_at - timedelta(seconds=self.gated.back_s), member.asked_at)
        if member.side is Side.TREATED and member.ended_at is not None:
            found[Side.TREATED] = (member.ended_at, now)
        if member.side is Side.CONTROL and self.gated.compared_from is not None:
            found[Side.CONTROL] = (self.gated.compared_from, now)
        return found

    def since(self) -> datetime:
        """Nothing before it is on any side."""
        return self.gated.began_at - timedelta(seconds=self.gated.back_s)


def crashes(tx: Tx, asked: Asked, seen: Mapping[DeviceId, Seen], now: datetime) -> dict[Side, list[Crashes]]:
    """A device that has gone counts for as long as it was heard of."""
    happened: dict[DeviceId, list[tuple[datetime, int]]] = {}
    for device, at, kind, detail in gate_sources.events(tx, asked.gated.tenant, CRASHES, asked.since()):
        happened.setdefault(device, []).append((at, _times(kind, detail)))
    found: dict[Side, list[Crashes]] = {side: [] for side in Side}
    for member in asked.members:
        if (known := seen.get(member.device)) is None:
            continue
        for side, (start, end) in asked.spans(member, now).items():
            start, end = max(start, known.enrolled_at or start), min(end, known.until(now))
            if end > start:
                told = happened.get(member.device, ())
                ahead = _ahead(known) if told else timedelta(0)
                count = sum(times for at, times in told if start <= at - ahead < end)
                found[side].append(Crashes(count=count, hours=(end - start).total_seconds() / 3600))
    return found


def answers(tx: Tx, asked: Asked, now: datetime) -> dict[Side, tuple[int, int, int]]:
    """Right, labelled and devices, of control samples: others were kept because of what the model said of them."""
    members = {member.device: member for member in asked.members}
    right, labelled = Counter[Side](), Counter[Side]()
    devices: dict[Side, set[DeviceId]] = {side: set() for side in Side}
    for answer in gate_sources.answers(tx, asked.gated.tenant, list(members), _CONTROL, asked.since()):
        for side, (start, end) in asked.spans(members[answer.device], now).items():
            if start <= answer.at < end:
                labelled[side] += 1
                right[side] += answer.right
                devices[side].add(answer.device)
    return {side: (right[side], labelled[side], len(devices[side])) for side in Side}


def counted(member: Member, before: Counters | None, reported: bytes, gated: Gated, now: datetime) -> "Counted":
    """What the device counted since it was looked at last; on another side, or after another start, it begins anew."""
    twin = codec.decode_reported(reported)
    health, side = twin.health, member.side if gated.compared_from is not None else None
    current = Counters(
        device=member.device,
        looked_back=before.looked_back if before else False,
        side=side,
        boot=twin.boot_id,
        inferences=health.inferences,
        errors=health.inference_errors,
    )
    more: dict[Side, Tally] = {}
    if before is not None and side is not None and before.side is side:
        again = before.boot != twin.boot_id
        good = health.inferences - (0 if again else before.inferences)
        bad = health.inference_errors - (0 if again else before.errors)
        if good + bad > 0 and min(good, bad) >= 0:
            slot = 0 if side in gated.coarse else to_ms(now) // gated.slot_ms % SLOTS
            more[side] = _own(member.device, good, bad, slot)
    return Counted(counters=current, more=more)


@dataclass(frozen=True, slots=True)
class Counted:
    counters: Counters
    more: Mapping[Side, Tally]


def counted_before(counters: Counters, reported: bytes) -> tuple[Counters, list[Tally]]:
    """What the device had counted when it was asked, in all slots alike: since it started, for it says no more."""
    health = codec.decode_reported(reported).health
    share = [(health.inferences + slot) // SLOTS for slot in range(SLOTS)]
    errors = [(health.inference_errors + slot) // SLOTS for slot in range(SLOTS)]
    made = [_own(counters.device, good, bad, slot) for slot, (good, bad) in enumerate(zip(share, errors, strict=True))]
    return replace(counters, looked_back=True), [one for one in made if one.attempts]


def look_back(
    db: Database, engine: Engine, versions: Versions, gated: Gated, devices: Sequence[DeviceId], until: datetime
) -> list[Tally]:
    """What ``devices`` inferred before they were asked, from the database and the archive.

    Raises Exhausted, NotReady or Unavailable: it may work later.
    """
    since = until - timedelta(seconds=gated.back_s)
    scope = Scope(tenant=gated.tenant, since_ms=to_ms(since), until_ms=to_ms(until), devices=devices)
    with closing(engine.question()) as question:
        snapshot = Snapshot(db, engine, question, scope)
        rows = [
            row
            for part in question.ask(_SQL.format(snapshot=snapshot, slots=1 if len(devices) >= MANY else SLOTS))
            for row in part.to_pylist()
        ]
    made = []
    with db.read() as tx:
        for row in rows:
            version = versions.find(tx, gated.tenant, Digest(row["model"]))
            if version is not None and counts_for(gated, Side.BEFORE, version):
                called, mean = f"{version.name}:{version.version}", version.baseline.confidence_mean
                made.append(_told(row, called, row["confidence_sum"] - row["readings"] * mean))
    return made


_SQL = (
    "WITH chosen AS (SELECT *, epoch_ms(captured_at) AS ms FROM {snapshot.readings} WHERE {snapshot.condition}), "
    "spans AS (SELECT device, min(ms) AS first_ms, max(ms) + 1 - min(ms) AS span_ms FROM chosen GROUP BY device) "
    f"SELECT device, model, (ms - first_ms) // greatest({LEAST_SLOT_MS}, span_ms // {{slots}} + 1) % {{slots}} AS slot, "
    "count(*) AS readings, count(*) FILTER (uncertain) AS uncertain, sum(confidence::DOUBLE) AS confidence_sum, "
    f"histogram(least(floor(confidence::DOUBLE * {CONFIDENCE_BINS}), {CONFIDENCE_BINS - 1})::INTEGER) AS confidence, "
    f"histogram({SQL_BUCKET['latency_ms']}) AS latency, histogram(label::INTEGER) AS labels "
    "FROM chosen JOIN spans USING (device) GROUP BY 1, 2, 3"
)


def _told(row: Mapping[str, Any], version: str, shift: float) -> Tally:
    bins = np.zeros(CONFIDENCE_BINS)
    for bin, readings in dict(row["confidence"]).items():
        bins[bin] = readings
    return Tally(
        device=row["device"],
        slot=row["slot"],
        version=version,
        readings=row["readings"],
        uncertain=row["uncertain"],
        shift=shift,
        confidence=bins,
        latency=Counter(dict(row["latency"])),
        labels=Counter(dict(row["labels"])),
    )


def _own(device: DeviceId, good: int, bad: int, slot: int) -> Tally:
    return Tally(device=device, slot=slot, version="", attempts=good + bad, errors=bad)


def _ahead(seen: Seen) -> timedelta:
    """Of the device's clock before ours, as far as it is connected and that is more than the age of what it said last."""
    if seen.heard_until is not None or seen.heard_at is None or seen.reported is None:
        return timedelta(0)
    clock = codec.decode_reported(seen.reported).at
    ahead = (clock if seen.clock_at is None else max(clock, seen.clock_at)) - seen.heard_at
    return ahead if abs(ahead) >= _TRUSTED else timedelta(0)


def _times(kind: str, detail: str) -> int:
    """Crashes that an event stands for: of lost workers the device tells the 1st, 2nd, 4th, 8th and so on."""
    so_far = detail.partition(" ")[0]
    if kind != _WORKER_LOST or not (so_far.isascii() and so_far.isdigit()) or len(so_far) > 9:
        return 1
    return max(1, int(so_far) - int(so_far) // 2)
