"""Bytes on the wire per reading: our batches against one JSON message per reading, both over mutual TLS to a real mosquitto.

Counted by the kernel on the device's socket, both ways: TLS records, MQTT headers, acknowledgements and watermarks are in it,
the handshake is not. JSON is published at QoS 1, each message acknowledged before the next, as readings come one by one.
"""

import argparse
import json
import socket
import tempfile
import threading
from pathlib import Path

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge_agent.core.clock import SystemClock
from edge_agent.core.config import SpoolConfig, SyncConfig
from edge_agent.core.model import Outcome
from edge_agent.spool.sqlite import SqliteSpool
from edge_agent.sync.identity import Identity
from edge_agent.sync.mqtt import MqttLink
from edge_agent.sync.traffic import stream_bytes
from edge_agent.sync.uplink import Uplink
from scripts.benches._figures import figure
from scripts.benches._hub import SmallHub, wait
from scripts.benches._readings import outcomes

AIM = 1 / 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    readings = 2_000 if parser.parse_args().quick else 20_000
    items = outcomes(readings, every_s=0.1)
    with tempfile.TemporaryDirectory(prefix="bench-bytes-") as folder, SmallHub(Path(folder)) as hub:
        ours = _ours(hub.device("ours"), Path(folder), items) / readings
        hub.stop_ingest()  # which has no use for JSON
        theirs = _json(hub.device("theirs"), items) / readings
    figure("uplink-bytes", "both ways, in TLS", ours, "bytes/reading", reference=theirs, aim=f"ratio <= {AIM}")


def _ours(identity: Identity, folder: Path, items: list[Outcome]) -> int:
    spool = SqliteSpool(folder / "spool.sqlite", SpoolConfig(linger_s=0.2), SystemClock())
    for i, item in enumerate(items):
        spool.append(item)
        if i % 10 == 9:
            spool.flush()
    link = MqttLink(identity, SyncConfig(), SystemClock(), "bench", "0")
    uplink = Uplink(spool, link, SyncConfig(), SystemClock())
    link.start()
    wait(lambda: link.connected and link.unacknowledged_bytes == 0, "the broker")
    assert link._client is not None
    connection = link._client.socket()
    before = _counted(connection)
    uplink.start()
    wait(lambda: spool.stats().records == 0, "an empty spool")
    spent = _counted(connection) - before
    uplink.stop()
    link.close()
    spool.close()
    return spent


def _json(identity: Identity, items: list[Outcome]) -> int:
    connected = threading.Event()
    client = Client(CallbackAPIVersion.VERSION2, client_id=identity.device_id, protocol=MQTTProtocolVersion.MQTTv5)
    client.tls_set_context(identity.tls())
    client.on_connect = lambda *_: connected.set()
    client.connect(identity.broker.host, identity.broker.port)
    client.loop_start()
    assert connected.wait(20)
    topic = f"tl/v1/{identity.tenant}/{identity.device_id}/up/telemetry/normal"
    connection = client.socket()
    before = _counted(connection)
    for sequence, item in enumerate(items):
        client.publish(topic, as_json(sequence, item), qos=1).wait_for_publish(20)
    spent = _counted(connection) - before
    client.disconnect()
    client.loop_stop()
    return spent


def _counted(connection: object) -> int:
    assert isinstance(connection, socket.socket)
    counted = stream_bytes(connection)
    assert counted is not None, "this system does not count the bytes of a connection"
    return counted


def as_json(sequence: int, item: Outcome) -> bytes:
    """What a batch says of it, and no more."""
    values = {
        "sequence": sequence,
        "captured_at": item.captured_at.isoformat(timespec="milliseconds"),
        "model": item.model,
        "label": item.label,
        "confidence": round(item.confidence, 6),
        "latency_ms": round(item.latency_ms, 3),
        "captured": item.captured,
        "uncertain": item.uncertain,
    }
    return json.dumps(values, separators=(",", ":")).encode()


if __name__ == "__main__":
    main()
