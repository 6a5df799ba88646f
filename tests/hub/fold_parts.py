"""A hub that lands and folds, and what came out of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from cloud_hub.core.config import DriftConfig
from cloud_hub.core.model import StreamWindow, WindowFilter
from cloud_hub.core.ports import WindowListener
from cloud_hub.services.folding import Fold
from cloud_hub.services.streams import StreamService
from cloud_hub.store import drift, episodes, landing, stream_states, stream_windows
from cloud_hub.store.database import Database
from protos.contract import codec, ids
from protos.contract.ids import DeviceId, TenantId
from protos.contract.telemetry import Batch, to_ms
from tests.hub.fleet_parts import ADMIN, Clock
from tests.hub.telemetry_parts import CAM, TENANT


@dataclass
class FoldingHub:
    """``restarted`` and ``other`` are further processes on the same database."""

    db: Database
    clock: Clock = field(default_factory=Clock)
    listeners: Sequence[WindowListener] = ()

    def __post_init__(self) -> None:
        self.streams = StreamService(self.db, self.clock)
        self.fold = self.process()

    def process(self) -> Fold:
        return Fold(self.db, DriftConfig(), self.clock, listeners=self.listeners)

    def restart(self) -> None:
        self.fold = self.process()

    def put(self, yaml: str) -> None:
        self.streams.put(ADMIN, yaml)

    def land(self, *sent: Batch, device: DeviceId = CAM, tenant: TenantId = TENANT) -> None:
        rows = [
            landing.Batch(
                tenant=tenant,
                device=device,
                digest=ids.digest_of(payload := codec.encode_batch(batch)),
                received_ms=to_ms(self.clock.now()),
                payload=payload,
                **batch.head._asdict(),
            )
            for batch in sent
        ]
        with self.db.append() as tx:
            landing.land_many(tx, rows)

    def tick(self, *sent: Batch, device: DeviceId = CAM) -> None:
        if sent:
            self.land(*sent, device=device)
        self.fold.tick()

    def idle(self, seconds: float = 1000.0) -> None:
        self.clock.advance(seconds)
        self.fold.tick()

    def windows(self, stream: str = "", device: DeviceId | None = None) -> list[StreamWindow]:
        """Oldest first, in the order they closed."""
        found, _ = self.streams.windows(ADMIN, WindowFilter(stream=stream, device=device))
        return [window for _, window in reversed(found)]

    def states(self, stream: str) -> int:
        s = stream_states.stream_states.c
        with self.db.read() as tx:
            return len(tx.execute(select(s.device).where(s.stream == stream)).all())

    def outcome(self) -> dict[str, list[Any]]:
        """All that folding writes and users can see, in an order that does not depend on when it was written."""
        with self.db.read() as tx:
            tables = {
                "drift": tx.execute(select(drift.drift_windows)),
                "devices": tx.execute(select(drift.drift_devices)),
                "episodes": tx.execute(
                    select(
                        *(
                            column
                            for column in episodes.drift_episodes.c
                            if column.name not in ("number", "id", "told", "job_id")
                        )
                    )
                ),
                "streams": tx.execute(select(*(column for column in stream_windows.stream_windows.c if column.name != "id"))),
            }
            return {name: sorted((tuple(row) for row in rows), key=repr) for name, rows in tables.items()}
