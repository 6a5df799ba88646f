"""From ``landing`` to files.

A step writes its files first and changes the database in one transaction after it. Killed in between it leaves files that no
row lists; they are swept. Nothing is ever in two places, nothing in none.
"""

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime

from cloud_hub.archive import unfold
from cloud_hub.archive.files import Files
from cloud_hub.archive.parts import put_by_day
from cloud_hub.archive.unfold import Unfolded
from cloud_hub.core.config import TelemetryConfig
from cloud_hub.store import archive as store
from cloud_hub.store.archive import NewFile
from cloud_hub.store.database import Database
from cloud_hub.store.landing import Landed
from protos.contract import codec
from protos.contract.errors import ContractError
from protos.contract.ids import TenantId
from protos.contract.telemetry import to_ms

log = logging.getLogger(__name__)

STEP_BYTES = 256 << 20  # of tables in memory at once


class Compactor:
    """One at a time on a database: a second one finds its batches gone and gives up."""

    def __init__(self, db: Database, files: Files, config: TelemetryConfig) -> None:
        self._db = db
        self._files = files
        self._config = config
        self._unreadable: set[int] = set()  # rows told about

    def step(self, now: datetime) -> int:
        """Batches moved: as many as make one file, about. The write transaction holds no decoding and no file."""
        taken, by_tenant = self._take(to_ms(now) - round(self._config.compact_after_s * 1000))
        if not taken:
            return 0
        made = [file for tenant, batches in by_tenant.items() for file in self._put(tenant, batches, to_ms(now))]
        with self._db.write() as tx:
            store.moved(tx, taken, made)
        log.info("batches archived", extra={"batches": len(taken), "files": len(made), "rows": sum(file.rows for file in made)})
        return len(taken)

    def _take(self, before_ms: int) -> tuple[list[int], dict[TenantId, list[Unfolded]]]:
        """Row ids, and the batches of those that hold anything to archive."""
        taken: list[int] = []
        by_tenant: dict[TenantId, list[Unfolded]] = defaultdict(list)
        rows = size = 0
        with self._db.read() as tx, closing(store.ripe(tx, before_ms)) as ripe:
            for id, tenant, unfolded in self._decoded(ripe):
                taken.append(id)
                rows += unfold.rows(unfolded.batch)
                size += unfold.size_bytes(unfolded.batch)
                by_tenant[tenant].append(unfolded)
                if rows >= self._config.file_readings or size >= STEP_BYTES:
                    break
        return taken, by_tenant

    def _decoded(self, ripe: Iterator[Landed]) -> Iterator[tuple[int, TenantId, Unfolded]]:
        for landed in ripe:
            try:
                batch = codec.decode_batch(landed.payload)
            except ContractError as error:  # it could be decoded when it landed; it stays where it is
                if landed.id not in self._unreadable:
                    self._unreadable.add(landed.id)
                    log.error("landed batch cannot be read", extra={"landing": landed.id, "reason": str(error)})
                continue
            yield landed.id, landed.tenant, Unfolded(landed.device, landed.received_ms, batch)

    def _put(self, tenant: TenantId, batches: Sequence[Unfolded], now_ms: int) -> Iterator[NewFile]:
        came_ms = max(batch.received_ms for batch in batches)
        for kind, table in unfold.tables(batches):
            yield from put_by_day(self._files, tenant, kind, table, begun_ms=now_ms, came_ms=came_ms)
