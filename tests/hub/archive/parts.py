"""An archive with everything around it, at a clock that stands still."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from cloud_hub.archive.engine import Engine
from cloud_hub.archive.files import Files
from cloud_hub.archive.retention import Forget
from cloud_hub.archive.upkeep import Upkeep
from cloud_hub.core.config import TelemetryConfig
from cloud_hub.core.model import StoredReading
from cloud_hub.services.readings import ReadingFilter, ReadingsService
from cloud_hub.services.telemetry import Incoming, TelemetryService
from cloud_hub.store import landing
from cloud_hub.store.database import Database
from protos.contract import codec
from protos.contract.ids import DeviceId, TenantId
from protos.contract.telemetry import MAX_TIME_MS, Batch, from_ms
from tests.hub.fleet_parts import ADMIN, Clock
from tests.hub.telemetry_parts import CAM, TENANT

ALWAYS = ReadingFilter(since=from_ms(0), until=from_ms(MAX_TIME_MS - 1))
CONFIG = TelemetryConfig(compact_after_s=60.0, keep_raw_days=30, keep_rollup_days=365)
Key = tuple[str, str, str, int]


@dataclass
class Store:
    db: Database
    files: Files
    folder: Path
    config: TelemetryConfig = CONFIG
    clock: Clock = field(default_factory=Clock)
    forget: tuple[Forget, ...] = ()

    def __post_init__(self) -> None:
        self.telemetry = TelemetryService(self.db, self.clock)
        self.engine = Engine(self.files, self.config, self.folder / "spill")
        self.readings = ReadingsService(self.db, self.engine, self.clock)
        self.restart()

    def restart(self) -> None:
        self.upkeep = Upkeep(self.db, self.files, self.config, self.clock, self.forget)

    def configure(self, **changes: float) -> None:
        self.config = replace(self.config, **changes)  # type: ignore[arg-type]
        self.__post_init__()

    def land(self, *batches: Batch, device: DeviceId = CAM, tenant: TenantId = TENANT, at: datetime | None = None) -> None:
        with self.db.write() as tx:
            landed = self.telemetry.land_many(tx, [self.incoming(batch, device, tenant, at) for batch in batches])
            assert all(one.new for one in landed), landed

    def incoming(self, batch: Batch, device: DeviceId = CAM, tenant: TenantId = TENANT, at: datetime | None = None) -> Incoming:
        return Incoming(tenant, device, batch.head, codec.encode_batch(batch), at or self.clock.now())

    def fold(self) -> None:
        """As the consumers do."""
        while True:
            with self.db.write() as tx:
                batches = landing.unfolded(tx, 1000)
                landing.fold_through(tx, {batch.stream: batch.last_sequence for batch in batches})
            if not batches:
                return

    def archive(self) -> None:
        """What is there becomes old enough and goes into files; only the last batch stays."""
        self.fold()
        self.clock.advance(self.config.compact_after_s + 1)
        self.upkeep.tick()

    def all(self, wanted: ReadingFilter = ALWAYS, limit: int = 1_000_000) -> list[StoredReading]:
        return [reading for page in self.readings.query(ADMIN, wanted, limit) for reading in page]

    def identities(self) -> list[Key]:
        return [(one.device, one.epoch, one.lane, one.sequence) for one in self.all()]

    def paths(self) -> set[str]:
        return {path for kind in ("readings", "windows", "events", "gaps", "rollups") for path in self.files.list(kind)}

    def days_go_by(self, days: float) -> None:
        self.clock.advance(timedelta(days=days).total_seconds())


def landed_rows(db: Database) -> int:
    with db.read() as tx:
        return int(tx.exec_driver_sql("SELECT count(*) FROM landing").scalar_one())
