"""Getting a spool file that works, whatever is found at its place: the same, a new one beside the damaged, or memory."""

import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from edge_agent.core.errors import Corrupt, DiskFull
from edge_agent.core.files import sync_folder
from edge_agent.spool.plan import gap_form
from edge_agent.spool.records import Record, span
from edge_agent.spool.store import Store
from protos.contract.telemetry import Gap, Lane

log = logging.getLogger(__name__)

KEEP_DAMAGED = 2  # files set aside, for whoever looks into it; a device has no room for more
DAMAGED = "stored bytes damaged"
_MEMORY = Path(":memory:")


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneFound:
    next: int
    dropped: int
    open: tuple[Record, ...]  # with a gap for each damaged row


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    store: Store
    lanes: dict[Lane, LaneFound]
    event: tuple[str, str] | None = None  # kind and detail of what the hub should know


def open_spool(path: Path, *, max_bytes: int, now: Callable[[], datetime]) -> Opened:
    """Raises Retryable where another process has the file, and nothing else: a device without a disk infers and tells."""
    try:
        if path.exists() and not path.is_file():
            raise Corrupt(f"{path} is not a file")
        return _opened(_open_file(path, max_bytes), now)
    except Corrupt as error:
        return replace_file(path, error, max_bytes=max_bytes, now=now)
    except (DiskFull, OSError) as error:
        return _in_memory(max_bytes, now, error)


def replace_file(path: Path, damage: Corrupt, *, max_bytes: int, now: Callable[[], datetime], resets: int = 0) -> Opened:
    """A new file in the place of a damaged one that nobody has open; ``resets`` is what is known of it."""
    try:
        aside = set_aside(path)
    except OSError as error:
        return _in_memory(max_bytes, now, error)
    log.error("spool set aside", extra={"path": str(path), "aside": str(aside), "error": str(damage)})
    try:
        try:
            store = _open_file(path, max_bytes)
        except DiskFull:
            aside.unlink(missing_ok=True)  # its room is needed
            store = _open_file(path, max_bytes)
        with store.transaction():
            store.count_resets(max(resets + 1, _number(aside)))
    except (DiskFull, OSError) as error:
        return _in_memory(max_bytes, now, error)
    return _opened(store, now, event=("spool.reset", str(damage)))


def set_aside(path: Path) -> Path:
    """Move a damaged file, or whatever stands there, out of the way, keeping the newest few."""
    earlier = sorted(path.parent.glob(f"{path.name}.corrupt-*"), key=_number)
    aside = path.with_name(f"{path.name}.corrupt-{_number(earlier[-1]) + 1 if earlier else 1}")
    for old in earlier[: max(0, len(earlier) + 1 - KEEP_DAMAGED)]:
        if old.is_file():  # a folder is nothing of ours
            old.unlink(missing_ok=True)
    path.replace(aside)
    _remove(path)  # what belongs to the file that is gone
    sync_folder(path.parent)
    return aside


def _open_file(path: Path, max_bytes: int) -> Store:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = not path.exists()
    try:
        store = Store(path, max_bytes=max_bytes)
    except DiskFull:
        if fresh:
            _remove(path)
        raise
    if fresh and not store.has_room:  # it could take nothing that matters
        store.close()
        _remove(path)
        raise DiskFull(f"{path.parent} has too little room for a spool")
    if fresh:
        sync_folder(path.parent)
    return store


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal", ".reserve"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _in_memory(max_bytes: int, now: Callable[[], datetime], error: Exception) -> Opened:
    log.error("the spool is kept in memory until a restart", extra={"error": str(error)})
    return _opened(Store(_MEMORY, max_bytes=max_bytes), now, event=("spool.in_memory", str(error)))


def _opened(store: Store, now: Callable[[], datetime], *, event: tuple[str, str] | None = None) -> Opened:
    try:
        return Opened(store=store, lanes={lane: _load(store, lane, now()) for lane in Lane}, event=event)
    except BaseException:
        store.close()
        raise


def _load(store: Store, lane: Lane, at: datetime) -> LaneFound:
    """Every sequence from the oldest to the next is accounted for: by a batch, an open record, or a gap put in here.

    Raises:
        Corrupt: the file says two things about one sequence.
    """
    next_sequence, dropped = store.lanes()[lane]
    rows: list[Record] = []
    for first, last, record in store.open_rows(lane):
        if record is None:
            record = Gap(first_sequence=first, last_sequence=last, reason=DAMAGED, at=at)
            dropped += last - first + 1
        rows.append(record)
    spans = [*store.spans(lane), *map(span, rows), (next_sequence, next_sequence)]
    for (first, last), (following, _) in itertools.pairwise(spans):
        if not 0 <= first <= last < following:
            raise Corrupt(f"the spool accounts for {first}..{last} and goes on with {following}")
    open_from = span(rows[0])[0] if rows else next_sequence
    for (_, before), (behind, _) in itertools.pairwise(spans):
        if behind == before + 1:
            continue
        gap = Gap(first_sequence=before + 1, last_sequence=behind - 1, reason=DAMAGED, at=at)
        log.error("records are missing", extra={"lane": lane.name.lower(), "first": before + 1, "last": behind - 1})
        dropped += gap.records
        with store.transaction():
            if behind <= open_from:
                store.add_batch(lane, gap_form(store.epoch, lane, before + 1, behind - 1, reason=DAMAGED, at=at))
            else:
                store.add_open(lane, [gap])
                rows = sorted([*rows, gap], key=span)
            store.set_lane(lane, next_sequence=next_sequence, dropped=dropped)
    return LaneFound(next=next_sequence, dropped=dropped, open=tuple(rows))


def _number(path: Path) -> int:
    suffix = path.name.rpartition("-")[2]
    return int(suffix) if suffix.isdecimal() else 0
