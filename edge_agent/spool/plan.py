"""What one group commit does to one lane, worked out before the file is touched."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from edge_agent.core.errors import DiskFull
from edge_agent.spool.records import Record, batch_of, chunks, count, merged, row_bytes, span
from edge_agent.spool.store import Store, StoredBatch
from protos.contract.codec import decode_batch, encode_batch
from protos.contract.telemetry import Batch, Gap, Lane


@dataclass(frozen=True, slots=True, kw_only=True)
class LanePlan:
    lane: Lane
    cut: tuple[StoredBatch, ...] = ()
    clear_before: int = 0  # open rows below this sequence leave the file
    add: tuple[Record, ...] = ()  # open rows that enter it
    rest: tuple[Record, ...] = ()  # all that is open afterwards
    next_sequence: int
    dropped: int  # by this plan

    @property
    def cost_bytes(self) -> int:
        """Of everything this lane holds outside batches that were stored before."""
        return sum(batch.cost_bytes for batch in self.cut) + sum(map(row_bytes, self.rest))

    @property
    def kept(self) -> int:
        return sum(batch.records for batch in self.cut) + count(self.rest)

    def write(self, store: Store, *, dropped_before: int) -> None:
        """Inside the caller's transaction; deletes first, so that the room serves what follows."""
        if self.clear_before:
            store.remove_open(self.lane, before=self.clear_before)
        for batch in self.cut:
            if batch.records:
                store.add_batch(self.lane, batch)
            else:
                newest = decode_batch(batch.payload).gaps[-1]
                _add_gap(store, self.lane, replace(newest, first_sequence=batch.first))
        if self.add:
            store.add_open(self.lane, self.add)
        store.set_lane(self.lane, next_sequence=self.next_sequence, dropped=dropped_before + self.dropped)


def plan_lane(
    epoch: str,
    lane: Lane,
    opened: Sequence[Record],
    fresh: Sequence[Record],
    *,
    limit: int,
    lingered: bool,
    next_sequence: int,
) -> LanePlan:
    """Cut what is full, and the remainder too once it has lingered."""
    records = [*opened, *fresh]
    runs = list(chunks(records, limit))
    remainder: Sequence[Record] = runs.pop() if runs and len(runs[-1]) < limit and not lingered else ()
    taken = len(records) - len(remainder)
    return LanePlan(
        lane=lane,
        cut=tuple(store_form(batch_of(epoch, lane, run)) for run in runs),
        clear_before=span(records[taken - 1])[1] + 1 if taken and opened else 0,
        add=tuple(records[max(taken, len(opened)) :]),
        rest=tuple(remainder),
        next_sequence=next_sequence,
        dropped=0,
    )


def shed_oldest(plan: LanePlan, epoch: str, *, reason: str, at: datetime) -> LanePlan:
    """The same plan with a gap in the place of its oldest batch, or of its open records where no batch holds any."""
    for i, batch in enumerate(plan.cut):
        if batch.records:
            gap = gap_form(epoch, plan.lane, batch.first, batch.last, reason=reason, at=at)
            cut = (*plan.cut[:i], gap, *plan.cut[i + 1 :])
            return replace(plan, cut=cut, dropped=plan.dropped + batch.records)
    if not count(plan.rest):
        return plan
    hole = merged(plan.rest, reason=reason, at=at)
    dropped = plan.dropped + count(plan.rest)
    return replace(plan, clear_before=hole.last_sequence + 1, add=(hole,), rest=(hole,), dropped=dropped)


def apply(
    store: Store,
    plans: Sequence[LanePlan],
    dropped_before: Mapping[Lane, int],
    *,
    limit: int,
    reason: str,
    at: datetime,
    least: Lane | None = None,
) -> list[LanePlan]:
    """Write the plans, lowest lane first, in one transaction; the plans as they were carried out.

    What exceeds ``limit`` bytes is dropped beforehand: lowest lane first, oldest first. With ``least`` no lane above it
    drops anything, and its own new records must fit.

    Raises:
        DiskFull: nothing was written or dropped.
    """
    done = list(plans)

    def over() -> bool:
        return store.batch_bytes + sum(plan.cost_bytes for plan in done) > limit

    with store.transaction():
        for i, plan in enumerate(plans):
            while over() and (dropped := _drop_oldest(store, plan.lane, reason=reason, at=at)):
                done[i] = replace(done[i], dropped=done[i].dropped + dropped)
            if over() and plan.lane is least:
                raise DiskFull("dropping all that may be dropped makes too little room")
            while over() and done[i].kept:
                done[i] = shed_oldest(done[i], store.epoch, reason=reason, at=at)
            if plan.lane is least:
                break
        for plan in done:
            plan.write(store, dropped_before=dropped_before[plan.lane])
    return done


def _drop_oldest(store: Store, lane: Lane, *, reason: str, at: datetime) -> int:
    """Drop the oldest batch that was never handed out; its records, 0 where there is none."""
    victim = store.oldest_droppable(lane)
    if victim is None:
        return 0
    store.remove_batch(lane, victim)
    _add_gap(store, lane, Gap(first_sequence=victim.first, last_sequence=victim.last, reason=reason, at=at))
    return victim.records


def _add_gap(store: Store, lane: Lane, gap: Gap) -> None:
    """Store a batch of one gap, grown over the gap batches that touch it and were never handed out."""
    near = store.gaps_beside(lane, gap.first_sequence, gap.last_sequence)
    for batch in near:
        store.remove_batch(lane, batch)
    first = min([gap.first_sequence, *(batch.first for batch in near)])
    last = max([gap.last_sequence, *(batch.last for batch in near)])
    store.add_batch(lane, gap_form(store.epoch, lane, first, last, reason=gap.reason, at=gap.at))


def gap_form(epoch: str, lane: Lane, first: int, last: int, *, reason: str, at: datetime) -> StoredBatch:
    gap = Gap(first_sequence=first, last_sequence=last, reason=reason, at=at)
    return store_form(Batch(epoch=epoch, lane=lane, first_sequence=first, last_sequence=last, gaps=(gap,)))


def store_form(batch: Batch) -> StoredBatch:
    return StoredBatch(first=batch.first_sequence, last=batch.last_sequence, records=batch.records, payload=encode_batch(batch))
