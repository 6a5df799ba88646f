"""Sixty devices that publish batches of a hundred readings, each over its own mutual TLS connection, from another process."""

import multiprocessing
import selectors
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cloud_hub.broker.supervisor import open_broker
from cloud_hub.core.config import BrokerConfig, HubConfig
from cloud_hub.core.model import DEFAULT_TENANT, Principal, Role
from cloud_hub.core.ports import Broker, BrokerAddress, TlsFiles
from cloud_hub.services.enrollment import EnrollmentService
from cloud_hub.store.database import Database
from cloud_hub.trust.authority import Authority
from edge_agent.core.clock import SystemClock
from protos.contract import codec, ids, topics
from protos.contract.ids import DeviceId
from protos.contract.telemetry import Batch, InferenceTable, Lane

DEVICES = 60
ROWS = 100
ROUND_S = 120.0
CHUNK_BYTES = 16 * 1024
ADMIN = Principal(role=Role.ADMIN, name="bench")
NAMES = [ids.device_id(f"cam-{i:03d}") for i in range(DEVICES)]


@contextmanager
def traffic(folder: Path, messages: int) -> Iterator[tuple[Broker, Authority, Connection]]:
    """A broker, and devices that send ``messages`` batches, the same every time, whenever they are told to by ``timed``."""
    authority = Authority.create(folder / "ca")
    broker = open_broker(BrokerConfig(kind="mosquitto", port=0), folder, authority)
    broker.start()
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    arguments = (theirs, broker.local, certificates(folder, authority), messages // DEVICES)
    publisher = spawn.Process(target=publish, args=arguments, daemon=True)
    publisher.start()
    try:
        assert ours.recv() == "ready"
        yield broker, authority, ours
    finally:
        publisher.terminate()
        broker.stop()


def prepare(url: str, authority: Authority) -> None:
    """A database that knows the devices."""
    db = Database(url)
    db.migrate()
    enrollment = EnrollmentService(db, authority, SystemClock(), HubConfig())
    for name in NAMES:
        enrollment.create_device(ADMIN, name, "camera-x86", {})
    db.close()


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
