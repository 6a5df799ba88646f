"""MQTT clients with certificates, as devices have them."""

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from cloud_hub.core.ports import BrokerAddress, TlsFiles
from cloud_hub.trust.authority import Authority
from protos.contract import codec, ids
from protos.contract.ids import DeviceId, TenantId
from protos.contract.telemetry import Batch, InferenceTable, Lane, Mark

DEADLINE_S = 20.0
EPOCH = "e1"
MODEL = ids.digest_of(b"manifest")


def wait_for(condition: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> None:
    end = time.monotonic() + deadline_s
    tick = threading.Event()
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {deadline_s} s"
        tick.wait(0.01)


@dataclass
class Identity:
    """PEM files of one client."""

    authority: Authority
    folder: Path

    def device(self, id: str) -> TlsFiles:
        key = ec.generate_private_key(ec.SECP256R1())
        csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
        pem = self.authority.sign_device(
            csr.public_bytes(serialization.Encoding.PEM).decode(),
            tenant=TenantId("default"),
            device_id=DeviceId(id),
            days=1,
        )
        key_pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
        return self.files(id, pem, key_pem)

    def files(self, name: str, certificate_pem: str, key_pem: str) -> TlsFiles:
        self.folder.mkdir(parents=True, exist_ok=True)
        files = TlsFiles(ca=self.folder / "ca.pem", certificate=self.folder / f"{name}.pem", key=self.folder / f"{name}.key")
        files.ca.write_text(self.authority.ca_pem)
        files.certificate.write_text(certificate_pem)
        files.key.write_text(key_pem)
        return files


class MqttClient:
    """A plain paho client that keeps everything it receives."""

    def __init__(
        self,
        address: BrokerAddress,
        tls: TlsFiles,
        client_id: str,
        *subscriptions: str,
        will: str = "",
        will_payload: bytes = b"will",
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.received: list[tuple[str, bytes]] = []
        self.connected = threading.Event()
        self.refused = threading.Event()
        self.ended = threading.Event()
        self._subscriptions = subscriptions
        self._subscribed = threading.Event()
        protocol = MQTTProtocolVersion(address.protocol)
        self.client = Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=protocol)
        if context is None:
            context = ssl.create_default_context(cafile=str(tls.ca))
            context.load_cert_chain(tls.certificate, tls.key)
        self.client.tls_set_context(context)
        if will:
            self.client.will_set(will, will_payload, qos=1)
        self.client.on_connect = self._on_connect
        self.client.on_subscribe = lambda *_: self._subscribed.set()
        self.client.on_message = self._on_message
        self.client.on_disconnect = lambda *_: self.ended.set()
        self.client.connect(address.host, address.port)
        self.client.loop_start()

    def ready(self) -> "MqttClient":
        assert self.connected.wait(DEADLINE_S), "not connected"
        if self._subscriptions:
            assert self._subscribed.wait(DEADLINE_S), "not subscribed"
        return self

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, wait: bool = True) -> None:
        info = self.client.publish(topic, payload, qos=1, retain=retain)
        if wait:
            info.wait_for_publish(DEADLINE_S)

    def topics(self) -> list[str]:
        return [topic for topic, _ in self.received]

    def payloads(self, topic: str) -> list[bytes]:
        return [payload for name, payload in self.received if name == topic]

    def marks(self) -> dict[tuple[str, Lane], int]:
        """The newest of each stream."""
        found: dict[tuple[str, Lane], int] = {}
        for topic, payload in list(self.received):
            if topic.endswith("/down/watermark"):
                for mark in codec.decode_watermark(payload):
                    found[mark.epoch, mark.lane] = mark.committed_through
        return found

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def vanish(self) -> None:
        """The connection ends without a DISCONNECT."""
        sock: Any = self.client.socket()
        self.client.loop_stop()
        sock.close()

    def _on_connect(self, client: Client, _userdata: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self.refused.set()
            return
        if self._subscriptions:
            client.subscribe([(topic, 1) for topic in self._subscriptions])
        self.connected.set()

    def _on_message(self, _client: Client, _userdata: Any, message: MQTTMessage) -> None:
        self.received.append((message.topic, bytes(message.payload)))


@contextmanager
def client(address: BrokerAddress, tls: TlsFiles, client_id: str, *subscriptions: str, will: str = "") -> Iterator[MqttClient]:
    made = MqttClient(address, tls, client_id, *subscriptions, will=will)
    try:
        yield made.ready()
    finally:
        made.close()


def batch(first: int, rows: int = 10, *, epoch: str = EPOCH, lane: Lane = Lane.NORMAL, salt: int = 0) -> Batch:
    """Readings ``first`` to ``first + rows - 1``."""
    steps = np.arange(rows)
    table = InferenceTable(
        sequence=(first + steps).astype("<u8"),
        captured_at_ms=(1_770_000_000_000 + 1000 * (first + steps)).astype("<i8"),
        label=(steps % 2).astype("<u2"),
        confidence=np.full(rows, 0.9, "<f4"),
        latency_ms=np.full(rows, 1.5 + salt, "<f4"),
        flags=np.zeros(rows, "u1"),
        frame_key=(first + steps).astype("<u8"),
        model=np.zeros(rows, "u1"),
        models=(MODEL,),
    )
    return Batch(epoch=epoch, lane=lane, first_sequence=first, last_sequence=first + rows - 1, inferences=table)


def mark(through: int) -> Mark:
    return Mark(epoch=EPOCH, lane=Lane.NORMAL, committed_through=through)
