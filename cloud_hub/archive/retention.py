"""What is old enough: readings become hourly roll-ups, everything else ends."""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from cloud_hub.archive import parquet
from cloud_hub.archive.files import Files
from cloud_hub.archive.parquet import DAY_MS
from cloud_hub.archive.parts import put_by_day
from cloud_hub.archive.rollups import rolled_up
from cloud_hub.core.config import TelemetryConfig
from cloud_hub.store import archive as store
from cloud_hub.store.archive import ArchiveFile, Kind
from cloud_hub.store.database import Database, Tx
from protos.contract.telemetry import to_ms

log = logging.getLogger(__name__)

ROWS = 2000  # of a table, deleted in one transaction
FILES = 100  # rolled up in one tick: about a second each

Forget = Callable[[Tx, int, int], int]  # (tx, before_ms, limit) -> rows deleted; fewer than limit: no more are as old


class Retention:
    def __init__(self, db: Database, files: Files, config: TelemetryConfig, forget: Sequence[Forget] = ()) -> None:
        """``forget``: of tables whose rows go as readings do, with nothing left in their place."""
        self._db = db
        self._files = files
        self._config = config
        self._forget = forget

    def run(self, now: datetime) -> bool:
        """Whole days go, by UTC. True: there is more to do at once."""
        now_ms = to_ms(now)
        raw_ms = _day_before(now, self._config.keep_raw_days)
        self._end([Kind.WINDOWS, Kind.EVENTS, Kind.GAPS], raw_ms, now_ms)
        self._end([Kind.ROLLUPS], _day_before(now, self._config.keep_rollup_days), now_ms)
        for forget in self._forget:
            self._empty(forget, raw_ms)
        with self._db.read() as tx:
            readings = store.expired(tx, [Kind.READINGS], raw_ms, FILES)
        for file in readings:  # last: a missing file holds up no more than these
            self._roll_up(file, now_ms)
        return len(readings) == FILES

    def _roll_up(self, file: ArchiveFile, now_ms: int) -> None:
        """The sums become live in the transaction that ends the readings: none is counted twice, none is left out."""
        sums = rolled_up(parquet.read(self._files.get(file.path)))
        made = list(put_by_day(self._files, file.tenant, Kind.ROLLUPS, sums, begun_ms=now_ms, came_ms=file.came_ms))
        with self._db.write() as tx:
            store.replaced(tx, [file], made, now_ms)
        log.info("readings rolled up", extra={"day": file.day, "rows": file.rows, "sums": len(sums)})

    def _end(self, kinds: Sequence[Kind], before_ms: int, now_ms: int) -> None:
        while True:
            with self._db.write() as tx:
                files = store.expired(tx, kinds, before_ms, FILES)
                store.replaced(tx, files, [], now_ms)
            if not files:
                return
            log.info("archive files ended", extra={"files": len(files), "rows": sum(file.rows for file in files)})

    def _empty(self, forget: Forget, before_ms: int) -> None:
        while True:
            with self._db.write() as tx:
                gone = forget(tx, before_ms, ROWS)
            if gone < ROWS:
                return


def _day_before(now: datetime, days: int) -> int:
    return to_ms(now - timedelta(days=days)) // DAY_MS * DAY_MS
