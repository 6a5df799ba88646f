"""Removes files that nothing refers to: those that ended a while ago, and those whose step was cut short."""

import logging
from datetime import datetime

from cloud_hub.archive.files import Files, begun_ms
from cloud_hub.store import archive as store
from cloud_hub.store.archive import Kind
from cloud_hub.store.database import Database
from protos.contract.telemetry import to_ms

log = logging.getLogger(__name__)

ORPHAN_MS = 900_000  # a file without a row may be one that is being made
LIST_EVERY_MS = 3_600_000  # listing an object store costs money
_FORGOTTEN = 500  # files in one transaction


class Sweep:
    def __init__(self, db: Database, files: Files) -> None:
        self._db = db
        self._files = files
        self._listed_ms: int | None = None

    def tick(self, now: datetime, keep_s: float) -> None:
        """``keep_s``: how long a query may still read a file that has ended."""
        now_ms = to_ms(now)
        self._ended(now_ms - round(keep_s * 1000))
        if self._listed_ms is None or not 0 <= now_ms - self._listed_ms < LIST_EVERY_MS:
            self._listed_ms = now_ms
            self._orphans(now_ms - ORPHAN_MS)

    def _ended(self, before_ms: int) -> None:
        while True:
            with self._db.read() as tx:
                files = store.removed(tx, before_ms, _FORGOTTEN)
            if not files:
                return
            for file in files:
                self._files.delete(file.path)
            with self._db.write() as tx:
                store.forget(tx, files)

    def _orphans(self, before_ms: int) -> None:
        """Where listed files are missing the database is an older one, put back: what it does not list may hold their rows."""
        with self._db.read() as tx:
            before, _ = store.paths(tx)
        found = {path for kind in Kind for path in self._files.list(kind)}
        with self._db.read() as tx:
            must, may = store.paths(tx)
        if missing := (before & must) - found:
            fields = {"missing": len(missing), "example": min(missing), "unlisted": len(found - must - may)}
            log.error("archive files are missing: restore archive and database from one backup; nothing is swept", extra=fields)
            return
        for path in found - must - may:
            begun = begun_ms(path)
            if begun is not None and begun < before_ms:
                self._files.delete(path)
                log.warning("unfinished archive file removed", extra={"path": path})
