"""The stream of MQTT packets, however the network cuts it."""

import random
import select
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_hub.ingest import sockets
from cloud_hub.ingest.sockets import MqttSocket, Published
from cloud_hub.trust.authority import Authority
from tests.hub.mqtt_parts import Identity, wait_for

Ends = tuple[MqttSocket, ssl.SSLSocket]


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[Ends]:
    """Ours and the broker's."""
    authority = Authority.create(tmp_path / "ca")
    identity = Identity(authority, tmp_path / "files")
    issued, client = authority.issue_server(["localhost"]), authority.issue_hub_client()
    server = identity.files("server", issued.certificate_pem, issued.key_pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(server.certificate, server.key)
    ours, theirs = socket.socketpair()
    made: list[ssl.SSLSocket] = []
    accepting = threading.Thread(target=lambda: made.append(context.wrap_socket(theirs, server_side=True)))
    accepting.start()
    connected = sockets.context(identity.files("hub", client.certificate_pem, client.key_pem)).wrap_socket(
        ours, server_hostname="localhost"
    )
    accepting.join()
    connected.setblocking(False)
    assert isinstance(connected, MqttSocket)
    yield connected, made[0]
    connected.close()
    made[0].close()


def packet(first: int, body: bytes) -> bytes:
    length, encoded = len(body), bytearray()
    while True:
        length, digit = divmod(length, 128)
        encoded.append(digit | (0x80 if length else 0))
        if not length:
            return bytes([first]) + encoded + body


def publish(message: Published) -> bytes:
    topic = message.topic.encode()
    mid = struct.pack("!H", message.mid) if message.qos else b""
    return packet(0x30 | message.qos << 1, struct.pack("!H", len(topic)) + topic + mid + message.payload)


def test_messages_come_out_whole_and_in_order_however_they_are_cut(ends: Ends) -> None:
    ours, broker = ends
    rng = random.Random(5)
    messages = [
        Published(f"tl/v1/default/cam-{n % 7}/up/status", rng.randbytes(rng.choice([0, 1, 100, 130, 20_000])), n + 1, 1)
        for n in range(300)
    ]
    messages[17] = Published("a", b"", 0, 0)
    stream = b"".join(map(publish, messages))

    def send() -> None:
        at = 0
        while at < len(stream):
            step = rng.choice([1, 2, 3, 50, 5000, 40_000])
            broker.sendall(stream[at : at + step])
            at += step

    sending = threading.Thread(target=send)
    sending.start()
    received: list[Published] = []
    while len(received) < len(messages):
        if not ours.has_more():
            assert select.select([ours], [], [], 20)[0], "the stream stopped"
        received += ours.take(10, 1 << 30)
    sending.join()
    assert received == messages


def test_other_packets_go_to_paho_one_at_a_time_and_in_their_place(ends: Ends) -> None:
    ours, broker = ends
    before, after = Published("a/b", b"before", 1, 1), Published("a/b", b"after", 2, 1)
    connack, pingresp = packet(0x20, b"\0\0"), packet(0xD0, b"")
    broker.sendall(publish(before) + connack + pingresp + publish(after))
    taken: list[Published] = []

    def all_taken() -> bool:
        taken.extend(ours.take(10, 1 << 30))
        return ours.wants_paho()

    wait_for(all_taken, "a packet for paho")
    assert taken == [before]
    assert ours.take(10, 1 << 30) == []
    assert ours.recv(1) + ours.recv(1) + ours.recv(100) == connack
    with pytest.raises(ssl.SSLWantReadError):
        ours.recv(1)
    assert ours.take(10, 1 << 30) == []
    assert ours.recv(100) == pingresp
    assert ours.take(10, 1 << 30) == [after]


def test_the_end_of_the_connection_is_told_to_paho(ends: Ends) -> None:
    ours, broker = ends
    broker.close()
    wait_for(lambda: ours.take(10, 1 << 30) == [] and ours.wants_paho(), "the end")
    assert ours.recv(1) == b""


def test_what_is_no_mqtt_ends_the_connection(ends: Ends) -> None:
    ours, broker = ends
    broker.sendall(b"\x30\xff\xff\xff\xff\xff")
    with pytest.raises(OSError, match="malformed"):
        wait_for(lambda: ours.take(10, 1 << 30), "an error")


def test_acknowledgements_leave_in_one_piece(ends: Ends) -> None:
    ours, broker = ends
    ours.acknowledge([1, 2, 65535])
    assert ours.unsent()
    assert ours.flush()
    assert broker.recv(100) == b"\x40\x02\x00\x01\x40\x02\x00\x02\x40\x02\xff\xff"
