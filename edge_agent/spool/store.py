"""The spool's file: what is read from it and written to it."""

import contextlib
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_agent.core.errors import Corrupt, DiskFull
from edge_agent.spool.records import ROW_OVERHEAD_BYTES, Record, pack, span, unpack
from edge_agent.spool.room import Room
from edge_agent.spool.schema import WAL_BYTES, most_pages, prepare, translated
from protos.contract.errors import InvalidValue
from protos.contract.telemetry import Lane, check_epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBatch:
    """``records`` is 0 for a batch of gaps only. ``sent``: handed out once, so its content is settled for ever."""

    first: int
    last: int
    records: int
    payload: bytes
    sent: bool = False
    epoch: str = ""  # that the payload names; of a row that is read

    @property
    def cost_bytes(self) -> int:
        return len(self.payload) + ROW_OVERHEAD_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """Of the batches of one lane."""

    batches: int = 0
    gaps: int = 0  # batches of gaps only
    records: int = 0
    bytes: int = 0

    def plus(self, batch: StoredBatch, sign: int = 1) -> "Total":
        return Total(
            batches=self.batches + sign,
            gaps=self.gaps + sign * (batch.records == 0),
            records=self.records + sign * batch.records,
            bytes=self.bytes + sign * batch.cost_bytes,
        )


class Store:
    """One open file. Not thread-safe. Changes go inside ``transaction``; ``totals`` follow it.

    A row's number is its sequence plus the ``base`` of its lane, so that a new epoch numbers all that is held anew without
    touching it. Outside this class there are sequences only.

    Raises:
        Retryable: another process holds the file.
        Corrupt: the file is damaged, or of a format this version cannot read.
        DiskFull: no room; the file is as it was.
    """

    epoch: str
    resets: int  # epochs before this one
    totals: dict[Lane, Total]
    _base: dict[Lane, int]

    def __init__(self, path: Path, *, max_bytes: int) -> None:
        with translated(path):
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=2.0)
        self._path, self._room, self._capped = path, Room(path), False
        self._most_pages = most_pages(max_bytes)
        try:
            with translated(path):
                prepare(self._connection, path)
                self._read_head()
                self._fit_disk(at_first=True)
        except BaseException:
            self._connection.close()
            raise

    @property
    def batch_bytes(self) -> int:
        return sum(total.bytes for total in self.totals.values())

    def _read_head(self) -> None:
        db = self._connection
        row = db.execute("SELECT epoch, resets FROM epoch").fetchone()
        lanes = dict(db.execute("SELECT lane, base FROM lane").fetchall())
        if row is None or set(lanes) != set(Lane):
            raise Corrupt(f"{self._path} names no epoch, or lanes {sorted(lanes)}")
        try:
            check_epoch(row[0])
        except InvalidValue as error:
            raise Corrupt(f"{self._path} is damaged: {error}") from error
        self.epoch, self.resets = row
        self._base = {Lane(lane): base for lane, base in lanes.items()}
        self.totals = dict.fromkeys(Lane, Total())
        sums = "SELECT lane, count(*), sum(records=0), sum(records), sum(length(payload)) FROM batch GROUP BY lane"
        for lane, batches, gaps, records, size in db.execute(sums):
            size += batches * ROW_OVERHEAD_BYTES
            self.totals[Lane(lane)] = Total(batches=batches, gaps=gaps, records=records, bytes=size)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, and durable on the way out."""
        before = self.epoch, self.resets, dict(self.totals), dict(self._base)
        try:
            with translated(self._path):
                self._fit_disk()
                self._connection.execute("BEGIN IMMEDIATE")
                yield
                self._connection.execute("COMMIT")
        except BaseException:
            self.epoch, self.resets, self.totals, self._base = before
            if self._connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
            raise

    def with_room(self, work: Callable[[], None]) -> None:
        """Do it, on a full disk once more after emptying the log. Raises DiskFull."""
        try:
            work()
        except DiskFull:
            self.recycle()
            work()

    def recycle(self) -> None:
        """Empty the write-ahead log into the file, so that the next transaction reuses its room."""
        self._room.give_up()
        self._empty_log()

    def _empty_log(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()

    def _fit_disk(self, *, at_first: bool = False) -> None:
        """Let the file grow up to its limit, or not at all on a disk that is all but full: then what is new takes the room of
        what is dropped for it, and the log can always be brought into the file."""
        low = self._in_file and self._room.low
        if not at_first and low == self._capped:
            return
        self._capped = low
        if low:
            self._empty_log()  # while there is a little room: it may hold pages beyond the file's end
            (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
        elif self._in_file:
            self._room.hold(WAL_BYTES)
        self._connection.execute(f"PRAGMA max_page_count={min(pages, self._most_pages) if low else self._most_pages}")

    @property
    def _in_file(self) -> bool:
        return str(self._path) != ":memory:"

    def file_bytes(self) -> int:
        """On the disk, with the write-ahead log and the reserve; 0 for a store in memory."""
        return self._room.file_bytes()

    @property
    def has_room(self) -> bool:
        """Whether what it needs on a full disk is laid by."""
        return self._room.held

    def close(self) -> None:
        self._connection.close()

    # -- epochs -----------------------------------------------------------------------------------------------------

    def begin_epoch(self, forgotten: Mapping[Lane, int], *, resets: int) -> None:
        """All that is held belongs to a new epoch: what had sequence n has n - ``forgotten`` of its lane.

        Batches keep the bytes of the epoch they were cut in until they are handed out, and none of them counts as sent.
        """
        self.epoch, self.resets = secrets.token_hex(8), resets
        self._connection.execute("UPDATE epoch SET epoch=?, resets=?", (self.epoch, resets))
        for lane, by in forgotten.items():
            self._base[lane] += by
            self._connection.execute("UPDATE lane SET base=? WHERE lane=?", (self._base[lane], lane))
        self._connection.execute("UPDATE batch SET sent=0 WHERE sent=1")

    def count_resets(self, resets: int) -> None:
        self.resets = resets
        self._connection.execute("UPDATE epoch SET resets=?", (resets,))

    # -- lanes and open rows ----------------------------------------------------------------------------------------

    def lanes(self) -> Mapping[Lane, tuple[int, int]]:
        """Next sequence and records dropped so far."""
        with translated(self._path):
            found = self._connection.execute("SELECT lane, next, dropped FROM lane").fetchall()
        return {Lane(lane): (n - self._base[lane], dropped) for lane, n, dropped in found}

    def set_lane(self, lane: Lane, *, next_sequence: int, dropped: int) -> None:
        row = (next_sequence + self._base[lane], dropped, lane)
        self._connection.execute("UPDATE lane SET next=?, dropped=? WHERE lane=?", row)

    def open_rows(self, lane: Lane) -> list[tuple[int, int, Record | None]]:
        """First, last and the record, None where its row is damaged; in order."""
        base = self._base[lane]
        with translated(self._path):
            rows = self._connection.execute("SELECT first, last, row FROM open WHERE lane=? ORDER BY first", (lane,)).fetchall()
        return [(first - base, last - base, unpack(first - base, last - base, row)) for first, last, row in rows]

    def add_open(self, lane: Lane, records: Sequence[Record]) -> None:
        base = self._base[lane]
        rows = [(lane, *(number + base for number in span(record)), pack(record)) for record in records]
        self._connection.executemany("INSERT INTO open VALUES (?, ?, ?, ?)", rows)

    def remove_open(self, lane: Lane, *, before: int) -> None:
        self._connection.execute("DELETE FROM open WHERE lane=? AND first<?", (lane, before + self._base[lane]))

    # -- batches ----------------------------------------------------------------------------------------------------

    def add_batch(self, lane: Lane, batch: StoredBatch) -> None:
        base = self._base[lane]
        self._connection.execute(
            "INSERT INTO batch VALUES (?, ?, ?, ?, ?, ?, ?)",
            (self.epoch, lane, batch.first + base, batch.last + base, batch.records, batch.sent, batch.payload),
        )
        self.totals[lane] = self.totals[lane].plus(batch)

    def remove_batch(self, lane: Lane, batch: StoredBatch) -> None:
        self._connection.execute("DELETE FROM batch WHERE lane=? AND first=?", (lane, batch.first + self._base[lane]))
        self.totals[lane] = self.totals[lane].plus(batch, -1)

    def batches(self, lane: Lane, *, behind: int, limit: int) -> list[StoredBatch]:
        """The oldest whose first sequence is beyond ``behind``."""
        return self._select(lane, "first>? ORDER BY first LIMIT ?", behind + self._base[lane], limit)

    def spans(self, lane: Lane) -> list[tuple[int, int]]:
        """First and last sequence of every batch, in order."""
        base = self._base[lane]
        with translated(self._path):
            rows = self._connection.execute("SELECT first, last FROM batch WHERE lane=? ORDER BY first", (lane,)).fetchall()
        return [(first - base, last - base) for first, last in rows]

    def oldest(self, lane: Lane) -> int | None:
        """First sequence of the oldest batch."""
        with translated(self._path):
            (first,) = self._connection.execute("SELECT min(first) FROM batch WHERE lane=?", (lane,)).fetchone()
        return None if first is None else first - self._base[lane]

    def oldest_droppable(self, lane: Lane) -> StoredBatch | None:
        """Never handed out, and holding records."""
        found = self._select(lane, "sent=0 AND records>0 ORDER BY first LIMIT 1")
        return found[0] if found else None

    def gaps_beside(self, lane: Lane, first: int, last: int) -> list[StoredBatch]:
        """Batches of gaps only, never handed out, that touch ``first..last`` from outside."""
        base = self._base[lane]
        before = self._select(lane, "first<? ORDER BY first DESC LIMIT 1", first + base)
        behind = self._select(lane, "first=?", last + 1 + base)
        near = [batch for batch in before + behind if not batch.sent and batch.records == 0]
        return [batch for batch in near if batch.last + 1 == first or batch.first == last + 1]

    def mark_sent(self, lane: Lane, *, first: int, last: int) -> None:
        base = self._base[lane]
        self._connection.execute(
            "UPDATE batch SET sent=1 WHERE lane=? AND first BETWEEN ? AND ?", (lane, first + base, last + base)
        )

    def remove_through(self, lane: Lane, sequence: int) -> None:
        """Every batch that ends at or before ``sequence``."""
        where, values = "lane=? AND first<=? AND last<=?", (lane, sequence + self._base[lane], sequence + self._base[lane])
        batches, gaps, records, size = self._connection.execute(
            "SELECT count(*), coalesce(sum(records=0), 0), coalesce(sum(records), 0), coalesce(sum(length(payload)), 0)"
            f" FROM batch WHERE {where}",
            values,
        ).fetchone()
        self._connection.execute(f"DELETE FROM batch WHERE {where}", values)
        before = self.totals[lane]
        self.totals[lane] = Total(
            batches=before.batches - batches,
            gaps=before.gaps - gaps,
            records=before.records - records,
            bytes=before.bytes - size - batches * ROW_OVERHEAD_BYTES,
        )

    def _select(self, lane: Lane, where: str, *values: int) -> list[StoredBatch]:
        base = self._base[lane]
        with translated(self._path):
            rows = self._connection.execute(
                f"SELECT epoch, first, last, records, payload, sent FROM batch WHERE lane=? AND {where}", (lane, *values)
            ).fetchall()
        return [
            StoredBatch(epoch=epoch, first=first - base, last=last - base, records=records, payload=payload, sent=bool(sent))
            for epoch, first, last, records, payload, sent in rows
        ]
