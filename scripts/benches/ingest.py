"""Readings per second through broker and ingest, durable before they are acknowledged.

The reference is a paho subscriber that only acknowledges: same broker, same messages, same run, alternating with ingest.
Sixty devices publish batches of a hundred readings, each over its own mutual TLS connection, from another process.
"""

import argparse
import multiprocessing
import selectors
import socket
import ssl
import statistics
import struct
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from cloud_hub.broker.supervisor import open_broker
from cloud_hub.core.config import BrokerConfig, HubConfig, IngestConfig
from cloud_hub.core.model import DEFAULT_TENANT, Principal, Role
from cloud_hub.core.ports import Broker, BrokerAddress, TlsFiles
from cloud_hub.ingest.service import IngestService, tune_process
from cloud_hub.services.enrollment import EnrollmentService
from cloud_hub.services.fleet import FleetService
from cloud_hub.services.registry import RegistryService
from cloud_hub.services.rollouts import RolloutService
from cloud_hub.services.telemetry import TelemetryService
from cloud_hub.store.artifacts import ArtifactStore
from cloud_hub.store.database import Database
from cloud_hub.trust.authority import Authority
from edge_agent.core.clock import SystemClock
from protos.contract import codec, ids, topics
from protos.contract.ids import DeviceId
from protos.contract.telemetry import Batch, InferenceTable, Lane
from scripts.benches._figures import figure

DEVICES = 60
ROWS = 100
AIM = 0.5
ROUND_S = 120.0
CHUNK_BYTES = 16 * 1024
ADMIN = Principal(role=Role.ADMIN, name="bench")
NAMES = [ids.device_id(f"cam-{i:03d}") for i in range(DEVICES)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few seconds instead of a minute: rougher figures")
    quick = parser.parse_args().quick
    messages, rounds = (6_000, 2) if quick else (30_000, 5)
    tune_process()
    with tempfile.TemporaryDirectory(prefix="bench-ingest-") as folder:
        noop, full = measure(Path(folder), messages, rounds)
    reference, value = statistics.median(noop), statistics.median(full)
    ratio = statistics.median(b / a for a, b in zip(noop, full, strict=True))  # of neighbours: the machine may change meanwhile
    figure("ingest", "durable readings", value, "readings/s", reference=reference, ratio=ratio, aim=f"ratio >= {AIM}")


def measure(folder: Path, messages: int, rounds: int) -> tuple[list[float], list[float]]:
    """Readings per second of the reference and of ingest, a value per round."""
    authority = Authority.create(folder / "ca")
    broker = open_broker(BrokerConfig(kind="mosquitto", port=0), folder, authority)
    broker.start()
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    publisher = multiprocessing.get_context("spawn").Process(
        target=publish, args=(theirs, broker.local, certificates(folder, authority), messages // DEVICES), daemon=True
    )
    publisher.start()
    total = messages // DEVICES * DEVICES
    try:
        assert ours.recv() == "ready"
        noop, full = [], []
        for number in range(rounds):
            noop.append(run_noop(broker, ours, total))
            full.append(run_ingest(broker, ours, total, folder / f"round-{number}", authority))
        return noop, full
    finally:
        publisher.terminate()
        broker.stop()


def run_noop(broker: Broker, publisher: Connection, messages: int) -> float:
    done, subscribed = threading.Event(), threading.Event()
    count = 0

    def acknowledge(client: Client, _userdata: object, message: object) -> None:
        nonlocal count
        client.ack(message.mid, message.qos)  # type: ignore[attr-defined]
        count += 1
        if count == messages:
            done.set()

    client = Client(CallbackAPIVersion.VERSION2, client_id="tl:hub", protocol=MQTTProtocolVersion.MQTTv311, manual_ack=True)
    client.tls_set(str(broker.hub_tls.ca), str(broker.hub_tls.certificate), str(broker.hub_tls.key))
    client.on_connect = lambda client, *_: client.subscribe(topics.HUB_SUBSCRIPTION, qos=1)
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = acknowledge
    client.connect(broker.local.host, broker.local.port)
    client.loop_start()
    assert subscribed.wait(ROUND_S)
    seconds = timed(publisher, done.is_set)
    client.disconnect()
    client.loop_stop()
    return messages * ROWS / seconds


def run_ingest(broker: Broker, publisher: Connection, messages: int, folder: Path, authority: Authority) -> float:
    folder.mkdir()
    db, clock = Database(f"sqlite:///{folder / 'hub.db'}"), SystemClock()
    db.migrate()
    fleet = FleetService(db, clock)
    rollouts = RolloutService(db, RegistryService(db, ArtifactStore(folder / "artifacts"), clock), fleet, clock)
    telemetry = TelemetryService(db, clock)
    enrollment = EnrollmentService(db, authority, clock, HubConfig())
    for name in NAMES:
        enrollment.create_device(ADMIN, name, "camera-x86", {})
    ingest = IngestService(
        IngestConfig(),
        db,
        fleet=fleet,
        rollouts=rollouts,
        telemetry=telemetry,
        address=broker.local,
        tls=broker.hub_tls,
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


def timed(publisher: Connection, done: Callable[[], bool]) -> float:
    """Seconds from the first publish until the last message is acknowledged."""
    publisher.send("go")
    started = time.perf_counter()
    wait(done)
    seconds = time.perf_counter() - started
    assert publisher.recv() == "sent"
    return seconds


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + ROUND_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not done within {ROUND_S:.0f} s")
        time.sleep(0.002)


def certificates(folder: Path, authority: Authority) -> list[TlsFiles]:
    (folder / "devices").mkdir()
    ca = folder / "devices" / "ca.pem"
    ca.write_text(authority.ca_pem)
    made = []
    for name in NAMES:
        key = ec.generate_private_key(ec.SECP256R1())
        csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
        pem = csr.public_bytes(serialization.Encoding.PEM).decode()
        files = TlsFiles(ca=ca, certificate=ca.with_name(f"{name}.pem"), key=ca.with_name(f"{name}.key"))
        files.certificate.write_text(authority.sign_device(pem, tenant=DEFAULT_TENANT, device_id=name, days=1))
        files.key.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        made.append(files)
    return made


# -- the publisher's process --------------------------------------------------------------------------------------------


def publish(pipe: Connection, address: BrokerAddress, tls: list[TlsFiles], batches: int) -> None:
    """On every "go" sends ``batches`` messages of each device, encoded beforehand, as fast as the broker takes them."""
    payloads = [codec.encode_batch(batch(number * ROWS)) for number in range(batches)]
    chunks = [packets(name, payloads) for name in NAMES]
    with selectors.DefaultSelector() as selector:
        connections = [connect(address, files, name) for name, files in zip(NAMES, tls, strict=True)]
        for connection in connections:
            selector.register(connection, selectors.EVENT_READ)
        pipe.send("ready")
        while pipe.recv() == "go":
            reader = threading.Thread(target=count_acks, args=(selector, DEVICES * batches))
            reader.start()
            for turn in range(max(map(len, chunks))):
                for connection, own in zip(connections, chunks, strict=True):
                    if turn < len(own):
                        connection.sendall(own[turn])
            reader.join()
            pipe.send("sent")


def count_acks(selector: selectors.BaseSelector, expected: int) -> None:
    received = 0
    while received < 4 * expected:
        for key, _ in selector.select(1.0):
            assert isinstance(key.fileobj, ssl.SSLSocket)
            received += len(key.fileobj.recv(65536))


def batch(first: int) -> Batch:
    random = np.random.default_rng(first)
    steps = np.arange(ROWS)
    table = InferenceTable(
        sequence=(first + steps).astype("<u8"),
        captured_at_ms=(1_770_000_000_000 + 33 * (first + steps)).astype("<i8"),
        label=random.integers(0, 43, ROWS).astype("<u2"),
        confidence=random.random(ROWS).astype("<f4"),
        latency_ms=(random.random(ROWS) * 5).astype("<f4"),
        flags=(random.random(ROWS) < 0.1).astype("u1"),
        frame_key=random.integers(0, 1 << 63, ROWS).astype("<u8"),
        model=np.zeros(ROWS, "u1"),
        models=(ids.digest_of(b"manifest"),),
    )
    return Batch(epoch="bench", lane=Lane.NORMAL, first_sequence=first, last_sequence=first + ROWS - 1, inferences=table)


def packets(name: DeviceId, payloads: list[bytes]) -> list[bytes]:
    """PUBLISH packets of QoS 1 (MQTT 3.1.1, 3.3), joined to chunks."""
    topic = topics.telemetry(DEFAULT_TENANT, name, Lane.NORMAL).encode()
    chunks, chunk = [], bytearray()
    for number, payload in enumerate(payloads):
        body = struct.pack("!H", len(topic)) + topic + struct.pack("!H", number % 65535 + 1) + payload
        chunk += b"\x32" + remaining_length(len(body)) + body
        if len(chunk) >= CHUNK_BYTES:
            chunks.append(bytes(chunk))
            chunk.clear()
    return [*chunks, bytes(chunk)]


def remaining_length(length: int) -> bytes:
    encoded = bytearray()
    while True:
        length, digit = divmod(length, 128)
        encoded.append(digit | (0x80 if length else 0))
        if not length:
            return bytes(encoded)


def connect(address: BrokerAddress, tls: TlsFiles, name: DeviceId) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(tls.ca))
    context.load_cert_chain(tls.certificate, tls.key)
    connection = context.wrap_socket(socket.create_connection((address.host, address.port)), server_hostname=address.host)
    client_id = name.encode()
    body = b"\0\4MQTT\4\2\0\0" + struct.pack("!H", len(client_id)) + client_id
    connection.sendall(b"\x10" + remaining_length(len(body)) + body)
    assert connection.recv(4) == b"\x20\x02\0\0", f"{name} is not let in"
    return connection


if __name__ == "__main__":
    main()
