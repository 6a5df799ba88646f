"""A hub that ingests: database, services, broker and the ingest service."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cloud_hub.broker.supervisor import open_broker
from cloud_hub.core.config import BrokerConfig, IngestConfig
from cloud_hub.core.ports import Broker, BrokerAddress, TlsFiles
from cloud_hub.ingest.service import IngestService, IngestServices
from cloud_hub.services.telemetry import TelemetryService
from cloud_hub.trust.authority import Authority
from protos.contract import codec, topics
from protos.contract.ids import DeviceId
from protos.contract.telemetry import Batch, Lane
from tests.hub.fleet_parts import ADMIN, TENANT, Hub
from tests.hub.mqtt_parts import Identity, MqttClient, batch, wait_for

CONFIG = IngestConfig(group_messages=50, group_wait_s=0.01, queue_messages=1000)


@dataclass
class Ingesting:
    """Everything between a device's MQTT connection and the database."""

    folder: Path
    kind: str = "mosquitto"
    config: IngestConfig = CONFIG
    broker_address: BrokerAddress | None = None  # of a broker that another process runs
    tls: TlsFiles | None = None
    share_tls: TlsFiles | None = None
    database_url: str = ""  # empty: a SQLite file in folder

    def __post_init__(self) -> None:
        self.hub = Hub(self.folder, database_url=self.database_url)
        self.telemetry = TelemetryService(self.hub.db, self.hub.clock)
        authority = Authority.load(self.folder / "ca")  # by the time of day, as the broker's TLS
        if self.broker_address is None:
            self.broker: Broker = open_broker(BrokerConfig(kind=self.kind, port=0), self.folder, authority)
        self.identity = Identity(authority, self.folder / "clients")
        self.ingest = self.new_ingest()
        self.clients: list[MqttClient] = []

    def new_ingest(self, telemetry: TelemetryService | None = None) -> IngestService:
        return IngestService(
            self.config,
            self.hub.db,
            IngestServices(fleet=self.hub.fleet, rollouts=self.hub.rollouts, telemetry=telemetry or self.telemetry),
            address=self.broker_address or self.broker.local,
            tls=self.tls or self.broker.hub_tls,
            share_tls=self.share_tls if self.broker_address else self.broker.ingest_tls,
            clock=self.hub.clock,
        )

    def start(self) -> "Ingesting":
        self.broker.start()
        self.start_ingest()
        return self

    def start_ingest(self) -> None:
        self.ingest.start()
        wait_for(lambda: self.ingest.ready, "ingest is connected")

    def stop(self) -> None:
        for client in self.clients:
            client.close()
        self.ingest.stop()
        self.broker.stop()
        self.hub.db.close()

    def shared_client(self, id: str) -> MqttClient:
        """The one connection of a known device."""
        if not self.clients:
            self.hub.device(id)
            self.client(id)
        return self.clients[0]

    def client(self, id: str) -> MqttClient:
        """A device's connection; the device need not be known to the hub."""
        tls = self.identity.device(id)
        client = MqttClient(self.broker.address, tls, id, f"tl/v1/+/{id}/down/#").ready()
        self.clients.append(client)
        return client

    def send(self, client: MqttClient, id: str, sent: Batch, *, tenant: str = TENANT, wait: bool = True) -> None:
        client.publish(up(id, "telemetry/" + sent.lane.name.lower(), tenant), codec.encode_batch(sent), wait=wait)

    def stored(self, id: str) -> int:
        """Batches of a device."""
        return sum(stats.batches for stats in self.telemetry.stats(ADMIN, DeviceId(id)).devices)

    def reasons(self) -> list[str]:
        return [message.reason for message in self.telemetry.quarantined(ADMIN)]


@dataclass
class Repeating:
    """A device with a spool: what no mark covers it sends again, oldest first, whenever nothing has moved for a while."""

    running: Ingesting
    id: str
    batches: Sequence[Batch]
    patience_s: float = 1.0

    def __post_init__(self) -> None:
        self.running.hub.device(self.id)
        self._client = self.running.client(self.id)
        self._moved_at = float("-inf")
        self._mark = -1
        self._unsent = list(self.batches)

    def done(self) -> bool:
        """All of it is covered by marks; call it again and again until it is."""
        marks = self._client.marks()
        mark = max(marks.values(), default=-1)
        if mark > self._mark or self._unsent:
            self._mark, self._moved_at = mark, time.monotonic()
        elif time.monotonic() - self._moved_at > self.patience_s:
            self._moved_at = time.monotonic()
            self._unsent = [batch for batch in self.batches if batch.last_sequence > self._mark]
        now, self._unsent = self._unsent[:5], self._unsent[5:]
        for one in now:
            self.running.send(self._client, self.id, one, wait=False)
        return self._mark == self.batches[-1].last_sequence


def up(id: str, kind: str, tenant: str = TENANT) -> str:
    return f"tl/v1/{tenant}/{id}/up/{kind}"


def down(id: str, kind: str) -> str:
    return topics.of(TENANT, DeviceId(id), kind)


__all__ = ["ADMIN", "TENANT", "Ingesting", "Lane", "Repeating", "batch", "down", "up"]
