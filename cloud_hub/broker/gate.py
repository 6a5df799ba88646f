"""What stands between a connection and amqtt: identity, topics and sizes, by the rules of the mosquitto configuration.

amqtt looks up the session of a client id before it authenticates, sends retained messages to whoever connects, publishes a
will unseen and takes packets of any size. So nothing reaches it before the first packet is a CONNECT whose client id is the
certificate's common name, and nothing leaves it that the receiver may not read.
"""

import struct
from asyncio import StreamReader, StreamWriter
from typing import Any

from amqtt.adapters import ReaderAdapter, StreamReaderAdapter, StreamWriterAdapter
from amqtt.contexts import Action
from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin
from amqtt.session import Session

from protos.contract import topics

MAX_PACKET_BYTES = 2 << 20
MAX_CONNECT_BYTES = 128 * 1024  # a will of 64 KiB and its topic
HUB = "tl:hub"

_CONNECT = 1
_PUBLISH = 3
_LEVEL_311 = 4
_WILL_FLAG = 0x04


class Refused(Exception):
    """This connection is not let in; the message says why."""


def may_write(client: str, topic: str) -> bool:
    return _under(client, topic, "up")


def may_read(client: str, topic_or_filter: str) -> bool:
    """For a filter: everything it matches may be read."""
    return _under(client, topic_or_filter, "down")


def common_name(writer: StreamWriter) -> str:
    """Of the client's verified certificate. Raises Refused."""
    certificate = writer.get_extra_info("peercert")
    for part in (certificate or {}).get("subject", ()):
        for key, value in part:
            if key == "commonName":
                return str(value)
    raise Refused("no client certificate")


def serial(writer: StreamWriter) -> int | None:
    """Of the client's verified certificate; None where it showed none."""
    number = (writer.get_extra_info("peercert") or {}).get("serialNumber")
    return None if number is None else int(number, 16)


async def admit(reader: StreamReader, client: str) -> bytes:
    """The bytes of the CONNECT packet, once it is one that ``client`` may send. Raises Refused."""
    head = await reader.readexactly(1)
    if head[0] >> 4 != _CONNECT:
        raise Refused("first packet is not CONNECT")
    length, shift = 0, 0
    while True:
        byte = await reader.readexactly(1)
        head += byte
        length |= (byte[0] & 0x7F) << shift
        shift += 7
        if not byte[0] & 0x80:
            break
        if shift > 21:
            raise Refused("malformed packet length")
    if length > MAX_CONNECT_BYTES:
        raise Refused(f"CONNECT of {length} bytes")
    body = await reader.readexactly(length)
    _check_connect(body, client)
    return head + body


def _check_connect(body: bytes, client: str) -> None:
    try:
        name, at = _text(body, 0)
        level, flags = body[at], body[at + 1]
        if name != "MQTT" or level != _LEVEL_311:
            return  # amqtt answers with the right return code
        identity, at = _text(body, at + 4)
        if identity != client:
            raise Refused(f"client id {identity[:80]!r} is not the certificate's name {client!r}")
        if flags & _WILL_FLAG:
            will_topic, _ = _text(body, at)
            if not may_write(client, will_topic):
                raise Refused(f"will on topic {will_topic[:200]!r} of another")
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise Refused(f"malformed CONNECT: {error}") from error


def _text(data: bytes, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("!H", data, at)
    end = at + 2 + length
    if end > len(data):
        raise IndexError("text runs past the end")
    return data[at + 2 : end].decode(), end


def _under(client: str, topic: str, direction: str) -> bool:
    parts = topic.split("/")
    if parts[:2] != topics.ROOT.split("/"):
        return False
    if client == HUB:
        return True
    return len(parts) >= 6 and parts[3] == client and parts[4] == direction


class GateReader(ReaderAdapter):  # type: ignore[misc]  # amqtt has no types
    """Gives the CONNECT packet again, then the stream; refuses packets above the limit."""

    def __init__(self, first: bytes, reader: StreamReader, writer: StreamWriter) -> None:
        self._first = first
        self._rest = StreamReaderAdapter(reader)
        self._writer = writer

    async def read(self, n: int = -1) -> bytes:
        if self._first:
            data, self._first = self._first[:n], self._first[n:]
            return data
        if n > MAX_PACKET_BYTES:
            self._writer.transport.abort()  # amqtt would keep the connection and read on in the middle of the packet
            raise ConnectionResetError(f"packet of {n} bytes")
        data = await self._rest.read(n)
        return bytes(data)

    def feed_eof(self) -> None:
        self._rest.feed_eof()


class GateWriter(StreamWriterAdapter):  # type: ignore[misc]  # amqtt has no types
    """Drops what the receiver may not read. amqtt writes one whole packet at a time."""

    def __init__(self, writer: StreamWriter, client: str) -> None:
        super().__init__(writer)
        self._client = client

    def write(self, data: bytes) -> None:
        if data[0] >> 4 != _PUBLISH or may_read(self._client, _published_topic(data)):
            super().write(data)


def _published_topic(packet: bytes) -> str:
    at = 1
    while packet[at] & 0x80:
        at += 1
    return _text(packet, at + 1)[0]


class Admitted(BaseAuthPlugin):  # type: ignore[misc]  # amqtt has no types
    """Whoever gets here has passed the gate."""

    async def authenticate(self, *, session: Session) -> bool | None:
        return session.client_id is not None


class TopicRules(BaseTopicPlugin):  # type: ignore[misc]  # amqtt has no types
    """The ACL; ``client_id`` is the certificate's name, the gate saw to it."""

    async def topic_filtering(
        self, *, session: Session | None = None, topic: str | None = None, action: Action | None = None
    ) -> bool | None:
        if session is None or session.client_id is None or topic is None:
            return False
        rule = may_write if action == Action.PUBLISH else may_read
        return rule(session.client_id, topic)


def plugins() -> dict[str, dict[str, Any]]:
    """As amqtt's configuration names them."""
    return {f"{__name__}.{cls.__name__}": {} for cls in (Admitted, TopicRules)}
