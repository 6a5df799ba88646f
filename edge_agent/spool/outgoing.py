"""What is sent of a stored batch: its bytes as they stand, or once and for all what takes their place."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from edge_agent.core.errors import DiskFull
from edge_agent.spool.plan import gap_form, store_form
from edge_agent.spool.records import shifted
from edge_agent.spool.store import Store, StoredBatch
from protos.contract.codec import decode_batch
from protos.contract.errors import InvalidMessage, InvalidValue
from protos.contract.telemetry import Batch, Lane

log = logging.getLogger(__name__)

DAMAGED = "stored bytes damaged"


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedOut:
    batches: Sequence[tuple[Batch, bytes]]
    damaged: int  # records that became a gap


def hand_out(store: Store, lane: Lane, *, behind: int, limit: int, limit_bytes: int, at: datetime) -> HandedOut:
    """Marked as sent in the file before they leave it: a batch that may be out there never changes.

    At least one where there is any, however many bytes it has. On a full disk only what was marked before.

    Raises Corrupt.
    """
    ready: list[tuple[Batch, StoredBatch, StoredBatch]] = []
    size = 0
    for found in store.batches(lane, behind=behind, limit=limit):
        batch, final = _settled(store.epoch, lane, found, at)
        size += len(final.payload)
        if ready and size > limit_bytes:
            break
        ready.append((batch, found, final))
    if not _mark(store, lane, [(found, final) for _, found, final in ready]):
        ready = [(batch, found, final) for batch, found, final in ready if found is final and found.sent]
    damaged = sum(found.records - final.records for _, found, final in ready)
    return HandedOut(batches=[(batch, final.payload) for batch, _, final in ready], damaged=damaged)


def _mark(store: Store, lane: Lane, rows: Sequence[tuple[StoredBatch, StoredBatch]]) -> bool:
    """Put each second in the place of its first and mark it as sent; False where the disk has no room even for that."""
    unsent = [found for found, _ in rows if not found.sent]
    moved = [(found, final) for found, final in rows if found is not final]
    if not unsent and not moved:
        return True

    def work() -> None:
        with store.transaction():
            for found, final in moved:
                store.remove_batch(lane, found)
                store.add_batch(lane, final)
            if unsent:
                store.mark_sent(lane, first=unsent[0].first, last=unsent[-1].last)

    try:
        store.with_room(work)
    except DiskFull as error:
        log.warning("no room to mark batches as sent", extra={"lane": lane.name.lower(), "error": str(error)})
        return False
    return True


def _settled(epoch: str, lane: Lane, found: StoredBatch, at: datetime) -> tuple[Batch, StoredBatch]:
    """The batch that is sent for ``found``, and its row: ``found`` itself where its bytes are the ones to send.

    Bytes that rotted on the disk become a gap of the same range, because no receiver could ever take them; a batch cut in an
    earlier epoch gets bytes of this one.
    """
    try:
        batch = decode_batch(found.payload)
        if (batch.epoch, batch.lane) != (
            found.epoch,
            lane,
        ) or batch.last_sequence - batch.first_sequence != found.last - found.first:
            raise InvalidMessage(f"it holds {batch.first_sequence}..{batch.last_sequence} of {batch.epoch}, lane {batch.lane}")
        if found.epoch != epoch:
            batch = _moved(batch, epoch, found.first)
            return batch, replace(store_form(batch), epoch=epoch, sent=found.sent)
        if batch.first_sequence != found.first:
            raise InvalidMessage(f"it starts at {batch.first_sequence}")
        return batch, found
    except (InvalidMessage, InvalidValue) as error:
        log.error("stored batch is damaged", extra={"lane": lane.name.lower(), "first": found.first, "error": str(error)})
    gap = gap_form(epoch, lane, found.first, found.last, reason=DAMAGED, at=at)
    return decode_batch(gap.payload), replace(gap, epoch=epoch, sent=found.sent)


def _moved(batch: Batch, epoch: str, first: int) -> Batch:
    """The same records in ``epoch``, numbered from ``first``."""
    by = batch.first_sequence - first
    return replace(
        batch,
        epoch=epoch,
        first_sequence=first,
        last_sequence=batch.last_sequence - by,
        inferences=replace(batch.inferences, sequence=(batch.inferences.sequence.astype(np.int64) - by).astype(np.uint64)),
        events=tuple(shifted(event, by) for event in batch.events),
        gaps=tuple(shifted(gap, by) for gap in batch.gaps),
        windows=tuple(replace(window, sequence=window.sequence - by) for window in batch.windows),
    )
