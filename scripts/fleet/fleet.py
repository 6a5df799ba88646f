"""Many simulated devices in one process."""

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from edge_agent.core.clock import SystemClock
from edge_agent.sync import identity as identities
from edge_agent.sync.enroll import enroll
from edge_agent.sync.identity import Broker, Identity
from scripts.fleet.admin import Admin
from scripts.fleet.conditions import Conditions
from scripts.fleet.device import SimulatedDevice

log = logging.getLogger(__name__)

BOARD = "camera-x86"
THREADS = 16  # that wait for the hub or for a link: the work itself is a small part
_TOGETHER = 8  # enrolments


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """The fleet at one moment."""

    devices: int
    connected: int
    settled: int
    versions: Mapping[int, int]  # devices by the version they run; 0: none
    updates: Mapping[str, int]  # that have ended, by how
    restarts: int
    records: int
    mqtt_bytes: int  # both ways, with TLS
    metadata_bytes: int  # over gRPC, less framing
    blob_bytes: int

    def as_json(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.__slots__}


class Fleet:
    """Devices of one folder: ``enrol`` once, then ``async with`` runs them. A folder that is used again holds the same devices,
    with the models they ran."""

    def __init__(self, folder: Path, conditions: Conditions, *, threads: int = THREADS) -> None:
        self._folder, self._conditions = folder, conditions
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="fleet")
        self._identities: list[Identity] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.devices: list[SimulatedDevice] = []

    async def enrol(self, admin: Admin, names: Sequence[str], *, board: str = BOARD, labels: Mapping[str, str]) -> None:
        """Add devices; those that are not enrolled yet are, as people and devices do it. Raises what ``enroll`` and gRPC do."""
        loop, turns = asyncio.get_running_loop(), asyncio.Semaphore(_TOGETHER)

        async def one(name: str) -> Identity:
            async with turns:
                return await loop.run_in_executor(self._pool, self._enrol, admin, name, board, labels)

        self._identities += await asyncio.gather(*(one(name) for name in names))

    def reroute(self, *, hub: int | None = None, broker: int | None = None, first: int | None = None) -> None:
        """Before they run: so many devices, or all, reach gRPC or the broker at another port of this machine, as a relay's."""
        for i, one in enumerate(self._identities[:first]):
            address = f"localhost:{hub}" if hub is not None else one.hub_address
            found = Broker(host="localhost", port=broker) if broker is not None else one.broker
            self._identities[i] = replace(one, hub_address=address, broker=found)

    async def __aenter__(self) -> "Fleet":
        clock = SystemClock()
        for identity in self._identities:
            folder = self._folder / identity.device_id
            self.devices.append(SimulatedDevice(folder, identity, self._conditions, clock, self._pool))
        self._tasks = [asyncio.create_task(device.run()) for device in self.devices]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for device in self.devices:
            device.stop()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        self._pool.shutdown()
        for device, result in zip(self.devices, results, strict=True):
            if isinstance(result, Exception):
                log.error("a device failed", exc_info=result, extra={"device": device.id})

    def failed(self) -> list[BaseException]:
        """Why devices ended that nobody stopped."""
        ended = [task for task in self._tasks if task.done() and not task.cancelled()]
        return [error for task in ended if (error := task.exception()) is not None]

    def picture(self) -> Picture:
        fetched = [device.updates.fetched for device in self.devices]
        return Picture(
            devices=len(self.devices),
            connected=sum(device.connected for device in self.devices),
            settled=sum(device.settled for device in self.devices),
            versions=dict(sorted(Counter(device.version for device in self.devices).items())),
            updates=dict(Counter(happening.kind for device in self.devices for _, happening in device.ended)),
            restarts=sum(device.restarts for device in self.devices),
            records=sum(device.told.produced for device in self.devices),
            mqtt_bytes=sum(device.traffic.sent_bytes + device.traffic.received_bytes for device in self.devices),
            metadata_bytes=sum(one.metadata_bytes for one in fetched),
            blob_bytes=sum(one.blob_bytes for one in fetched),
        )

    def _enrol(self, admin: Admin, name: str, board: str, labels: Mapping[str, str]) -> Identity:
        folder = self._folder / name
        if identities.exists(folder):
            return identities.load(folder)
        folder.mkdir(parents=True, exist_ok=True)
        return enroll(admin.create(name, board, labels), folder)
