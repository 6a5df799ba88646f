"""Readings per second through broker and ingest, durable before they are acknowledged, into SQLite and into PostgreSQL.

The reference is a paho subscriber that only acknowledges: same broker, same messages, same run, alternating with ingest.
"""

import argparse
import os
import statistics
import tempfile
import threading
from multiprocessing.connection import Connection
from pathlib import Path

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from cloud_hub.core.config import IngestConfig
from cloud_hub.core.ports import Broker
from cloud_hub.ingest.intake import tune_process
from cloud_hub.ingest.service import IngestService, IngestServices
from cloud_hub.services.fleet import FleetService
from cloud_hub.services.packages import PackageService
from cloud_hub.services.registry import RegistryService
from cloud_hub.services.rollouts import RolloutService
from cloud_hub.services.telemetry import TelemetryService
from cloud_hub.store.artifacts import ArtifactStore
from cloud_hub.store.database import Database
from cloud_hub.trust.authority import ingest_name
from edge_agent.core.clock import SystemClock
from protos.contract import topics
from scripts.benches._figures import figure
from scripts.benches._postgres import database, postgres
from scripts.benches._traffic import ROUND_S, ROWS, prepare, timed, traffic, wait

AIM = f"ratio >= 0.8, more than 1e6; here {os.cpu_count()} cores"
UNLIMITED = IngestConfig(device_bytes_per_s=1 << 40, device_burst_bytes=1 << 40)  # sixty devices stand for thousands


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few seconds instead of a minute: rougher figures")
    quick = parser.parse_args().quick
    messages, rounds = (6_000, 2) if quick else (30_000, 5)
    tune_process()
    noop: list[float] = []
    full: dict[str, list[float]] = {"SQLite": [], "PostgreSQL": []}
    with (
        tempfile.TemporaryDirectory(prefix="bench-ingest-") as name,
        traffic(Path(name), messages) as (broker, authority, publisher),
        postgres() as socket,
    ):
        for number in range(rounds):
            noop.append(run_noop(broker, publisher, messages))
            urls = {"SQLite": f"sqlite:///{name}/{number}.db", "PostgreSQL": database(socket, f"round{number}")}
            for kind, url in urls.items():
                prepare(url, authority)
                full[kind].append(run_ingest(broker, publisher, messages, url, Path(name)))
    for kind, values in full.items():
        ratio = statistics.median(b / a for a, b in zip(noop, values, strict=True))  # of neighbours: the machine may change
        value, reference = statistics.median(values), statistics.median(noop)
        figure("ingest", f"durable readings, {kind}", value, "readings/s", reference=reference, ratio=ratio, aim=AIM)


def run_noop(broker: Broker, publisher: Connection, messages: int) -> float:
    done, subscribed = threading.Event(), threading.Event()
    count = 0

    def acknowledge(client: Client, _userdata: object, message: object) -> None:
        nonlocal count
        client.ack(message.mid, message.qos)  # type: ignore[attr-defined]
        count += 1
        if count == messages:
            done.set()

    assert broker.ingest_tls is not None
    tls, id = broker.ingest_tls, ingest_name(1)  # those of ingest, whose session it ends
    client = Client(CallbackAPIVersion.VERSION2, client_id=id, protocol=MQTTProtocolVersion.MQTTv311, manual_ack=True)
    client.tls_set(str(tls.ca), str(tls.certificate), str(tls.key))
    client.on_connect = lambda client, *_: client.subscribe(topics.TELEMETRY_SUBSCRIPTION, qos=1)
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = acknowledge
    client.connect(broker.local.host, broker.local.port)
    client.loop_start()
    assert subscribed.wait(ROUND_S)
    seconds = timed(publisher, done.is_set)
    client.disconnect()
    client.loop_stop()
    return messages * ROWS / seconds


def run_ingest(broker: Broker, publisher: Connection, messages: int, url: str, folder: Path) -> float:
    db, clock = Database(url), SystemClock()
    fleet = FleetService(db, clock)
    artifacts = ArtifactStore(folder / "artifacts")
    registry, packages = RegistryService(db, artifacts, clock), PackageService(db, artifacts, clock)
    rollouts = RolloutService(db, registry, fleet, clock, packages)
    ingest = IngestService(
        UNLIMITED,
        db,
        IngestServices(fleet=fleet, rollouts=rollouts, telemetry=TelemetryService(db, clock)),
        address=broker.local,
        tls=broker.hub_tls,
        share_tls=broker.ingest_tls,
        clock=clock,
    )
    ingest.start()
    wait(lambda: ingest.ready)
    seconds = timed(publisher, lambda: ingest.counters.messages == messages)
    counters = ingest.counters
    ingest.stop()
    db.close()
    assert counters.batches == messages, f"not all of {messages} batches were stored: {counters}"
    return messages * ROWS / seconds


if __name__ == "__main__":
    main()
