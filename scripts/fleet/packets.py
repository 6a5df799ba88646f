"""The few packets of MQTT 5 that a device needs (OASIS MQTT 5.0, chapter 3), as bytes."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

CONNACK, PUBLISH, PUBACK, SUBACK, DISCONNECT = 2, 3, 4, 9, 14
PING, GOODBYE = b"\xc0\x00", b"\xe0\x00"
MAX_PACKET_BYTES = 1 << 20  # down
_SESSION_EXPIRY, _RECEIVE_MAXIMUM, _PACKET_MAXIMUM = 0x11, 0x21, 0x27


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    topic: str
    payload: bytes
    number: int = 0  # 0: QoS 0, nothing to acknowledge


def connect(client: str, *, keepalive_s: int, session_s: int, will: Message) -> bytes:
    """A session that is kept, and a retained will at QoS 1."""
    flags = 0x04 | 0x08 | 0x20
    properties = struct.pack(">BIBI", _SESSION_EXPIRY, session_s, _PACKET_MAXIMUM, MAX_PACKET_BYTES)
    body = _text("MQTT") + bytes([5, flags]) + struct.pack(">H", keepalive_s) + _length(len(properties)) + properties
    body += _text(client) + b"\x00" + _text(will.topic) + struct.pack(">H", len(will.payload)) + will.payload
    return _packet(0x10, body)


def subscribe(number: int, topics: tuple[str, ...]) -> bytes:
    """At QoS 1."""
    return _packet(0x82, struct.pack(">HB", number, 0) + b"".join(_text(topic) + b"\x01" for topic in topics))


def publish(message: Message, *, retain: bool = False) -> bytes:
    """At QoS 1."""
    head = 0x32 | int(retain)
    return _packet(head, _text(message.topic) + struct.pack(">HB", message.number, 0) + message.payload)


def acknowledge(number: int) -> bytes:
    return _packet(0x40, struct.pack(">H", number))


class Parser:
    """Bytes in any pieces; whole packets out, as (kind, flags, body). Raises ValueError for what is no MQTT."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        self._held += data
        while (end := self._end()) is not None:
            start, stop = end
            head, body = self._held[0], bytes(self._held[start:stop])
            del self._held[:stop]
            yield head >> 4, head & 0x0F, body

    def _end(self) -> tuple[int, int] | None:
        """Where the body of the first packet starts and stops; None: it has not all come."""
        length = shift = 0
        for position in range(1, 5):
            if position >= len(self._held):
                return None
            length |= (self._held[position] & 0x7F) << shift
            shift += 7
            if self._held[position] < 0x80:
                stop = position + 1 + length
                if length > MAX_PACKET_BYTES:
                    raise ValueError(f"a packet of {length} bytes")
                return (position + 1, stop) if stop <= len(self._held) else None
        raise ValueError("the length of a packet has more than four bytes")


def connected(body: bytes) -> tuple[int, int]:
    """Reason code of a CONNACK, and how many messages may wait for the broker's acknowledgement."""
    most = 65_535
    length, position = _read_length(body, 2)
    stop = position + length
    while position < stop:
        kind = body[position]
        size = _SIZES.get(kind)
        if kind == _RECEIVE_MAXIMUM:
            most = struct.unpack_from(">H", body, position + 1)[0]
        if size is not None:
            position += 1 + size
        elif kind == 0x26:  # a user property: two texts
            first = struct.unpack_from(">H", body, position + 1)[0]
            position += 3 + first + 2 + struct.unpack_from(">H", body, position + 3 + first)[0]
        else:  # a text
            position += 3 + struct.unpack_from(">H", body, position + 1)[0]
    return body[1], most


# of the properties in a CONNACK that are numbers; the others are texts
_SIZES = {0x11: 4, 0x13: 2, 0x21: 2, 0x22: 2, 0x24: 1, 0x25: 1, 0x27: 4, 0x28: 1, 0x29: 1, 0x2A: 1}


def received(flags: int, body: bytes) -> Message:
    size = struct.unpack_from(">H", body)[0]
    topic, position = body[2 : 2 + size].decode(), 2 + size
    number = 0
    if flags & 0x06:
        number, position = struct.unpack_from(">H", body, position)[0], position + 2
    length, position = _read_length(body, position)
    return Message(topic=topic, payload=body[position + length :], number=number)


def number_of(body: bytes) -> int:
    """Which message a PUBACK or a SUBACK is for."""
    return int(struct.unpack_from(">H", body)[0])


def reason_of(body: bytes) -> int:
    """Of a PUBACK; 0: taken."""
    return body[2] if len(body) > 2 else 0


def _packet(head: int, body: bytes) -> bytes:
    return bytes([head]) + _length(len(body)) + body


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">H", len(data)) + data


def _length(number: int) -> bytes:
    out = bytearray()
    while True:
        number, digit = number >> 7, number & 0x7F
        out.append(digit | (0x80 if number else 0))
        if not number:
            return bytes(out)


def _read_length(body: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        digit, position = body[position], position + 1
        number |= (digit & 0x7F) << shift
        shift += 7
        if digit < 0x80:
            return number, position
