"""What a lane of the spool holds, for whoever looks in from outside."""

import contextlib
from collections.abc import Sequence
from datetime import datetime

from edge_agent.core.ports import LaneStats
from edge_agent.spool.intake import Waiting
from edge_agent.spool.records import Record, count, happened_at, row_bytes, span
from edge_agent.spool.store import Store
from protos.contract.codec import decode_batch
from protos.contract.errors import ContractError
from protos.contract.telemetry import Batch, Gap, Lane, from_ms


def oldest(store: Store, lane: Lane, uncut: Sequence[Record], waiting: Waiting) -> int:
    """The first sequence that is held, or the next one; ``uncut`` are the records between the batches and ``waiting``."""
    if (first := store.oldest(lane)) is not None:
        return first
    return span(uncut[0])[0] if uncut else waiting.first


def lane_stats(store: Store, lane: Lane, uncut: Sequence[Record], waiting: Waiting, *, dropped: int) -> LaneStats:
    total = store.totals[lane]
    return LaneStats(
        records=total.records + count(uncut) + waiting.records,
        bytes=total.bytes + sum(map(row_bytes, uncut)) + waiting.bytes,
        dropped=dropped,
        gaps=total.gaps + sum(isinstance(record, Gap) for record in uncut),
        next=waiting.next,
        committed=oldest(store, lane, uncut, waiting) - 1,
        oldest_at=_oldest_at(store, lane, uncut),
    )


def _oldest_at(store: Store, lane: Lane, uncut: Sequence[Record]) -> datetime | None:
    for stored in store.batches(lane, behind=-1, limit=1):
        with contextlib.suppress(ContractError):
            return _started_at(decode_batch(stored.payload))
    return happened_at(uncut[0]) if uncut else None


def _started_at(batch: Batch) -> datetime:
    """The earliest event time of the first record of each kind."""
    times = [event.at for event in batch.events[:1]] + [gap.at for gap in batch.gaps[:1]]
    times += [window.start for window in batch.windows[:1]]
    if len(batch.inferences):
        times.append(from_ms(int(batch.inferences.captured_at_ms[0])))
    return min(times)
