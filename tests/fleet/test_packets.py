"""The simulator's own MQTT, held against paho's reading of the same bytes and against a real broker (``test_fleet``)."""

import random

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from scripts.fleet import packets
from scripts.fleet.packets import Message, Parser


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 200_000])
def test_packets_come_out_whole_however_the_bytes_come_in(size: int) -> None:
    dice = random.Random(size)
    messages = [Message(topic=f"tl/v1/t/d{i}/down/desired", payload=dice.randbytes(size), number=i + 1) for i in range(3)]
    data = b"".join(packets.publish(message) for message in messages) + packets.PING
    parser = Parser()
    found: list[tuple[int, int, bytes]] = []
    while data:
        cut = dice.randint(1, max(1, size // 3 + 5))
        found += parser.feed(data[:cut])
        data = data[cut:]
    assert [packets.received(flags, body) for kind, flags, body in found if kind == packets.PUBLISH] == messages
    assert found[-1] == (12, 0, b"")


@pytest.mark.parametrize("data", [b"\x30\xff\xff\xff\xff\x01", b"\x30\xff\xff\xff\x7f"])
def test_what_is_no_packet_is_refused_before_it_is_held(data: bytes) -> None:
    with pytest.raises(ValueError, match="packet"):
        list(Parser().feed(data))


def test_the_answer_to_a_connect_says_how_much_may_wait() -> None:
    properties = Properties(PacketTypes.CONNACK)  # type: ignore[no-untyped-call]
    properties.ReceiveMaximum = 20
    properties.AssignedClientIdentifier = "somebody"
    properties.UserProperty = [("a", "b"), ("c", "d")]
    properties.ServerKeepAlive = 30
    properties.MaximumQoS = 1
    packed: bytes = properties.pack()  # type: ignore[no-untyped-call]
    assert packets.connected(b"\x00\x00" + packed) == (0, 20)
    assert packets.connected(b"\x00\x87\x00") == (0x87, 65_535)


def test_a_message_with_properties_and_one_without_acknowledgement_are_read() -> None:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.MessageExpiryInterval = 5
    packed: bytes = properties.pack()  # type: ignore[no-untyped-call]
    body = b"\x00\x01t" + packed + b"words"
    assert packets.received(0x00, body) == Message(topic="t", payload=b"words")


def test_a_refusal_is_told_from_an_acknowledgement() -> None:
    assert (packets.reason_of(b"\x00\x01"), packets.reason_of(b"\x00\x01\x87\x00")) == (0, 0x87)
    assert packets.number_of(b"\x01\x02\x87\x00") == 0x0102
