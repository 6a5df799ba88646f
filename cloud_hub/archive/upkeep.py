"""The archive's one worker: everything that writes files or ends them happens here, one step after the other."""

from collections.abc import Sequence
from datetime import datetime

from cloud_hub.archive import merging
from cloud_hub.archive.compactor import Compactor
from cloud_hub.archive.files import Files
from cloud_hub.archive.ownership import claim
from cloud_hub.archive.retention import Forget, Retention
from cloud_hub.archive.sweep import Sweep
from cloud_hub.core.config import TelemetryConfig
from cloud_hub.core.steady import SteadyTime
from cloud_hub.store.database import Database
from edge_agent.core.clock import Clock
from protos.contract.telemetry import to_ms

STEPS = 20  # of the compactor in one tick: a backlog leaves room for the rest
RETENTION_EVERY_MS = 3_600_000


class Upkeep:
    """``tick`` runs in one thread, of one hub per database."""

    def __init__(
        self, db: Database, files: Files, config: TelemetryConfig, clock: Clock, forget: Sequence[Forget] = ()
    ) -> None:
        self._db = db
        self._files = files
        self._config = config
        self._clock = clock
        self._time = SteadyTime(clock)
        self._compactor = Compactor(db, files, config)
        self._retention = Retention(db, files, config, forget)
        self._sweep = Sweep(db, files)
        self._claimed = False
        self._retained_ms: int | None = None

    def tick(self, now: datetime | None = None) -> None:
        """Archive what has come of age, merge small files, let old ones go; killed anywhere, the next one goes on.

        Raises:
            NotReady: the archive is not this database's; nothing was touched.
            Conflict: another hub does the same; its work stands.
            Whatever the storage raises: nothing is lost.
        """
        now = now or self._clock.now()
        now_ms = to_ms(now)
        if not self._claimed:
            claim(self._db, self._files)
            self._claimed = True
        self._sweep.tick(now, keep_s=2 * self._config.query_timeout_s + 60)
        for _ in range(STEPS):
            if not self._compactor.step(now):
                break
        if self._time.believes(now) and (self._retained_ms is None or not 0 <= now_ms - self._retained_ms < RETENTION_EVERY_MS):
            self._retained_ms = None if self._retention.run(now) else now_ms
        merging.merge(self._db, self._files, self._config.file_readings, now_ms)  # last: a missing file fails it every time
