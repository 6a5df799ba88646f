"""A TLS socket that reads and writes in large pieces, and keeps the messages to itself.

paho reads a header byte by byte, builds an object per message and sends every PUBACK on its own; that costs more than storing
the message does. So paho keeps the session (connect, subscribe, ping, our own publishing), and what comes by the ten thousand
passes beside it: PUBLISH packets are cut out of the stream here, and paho never sees them.
"""

import contextlib
import ssl
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from cloud_hub.core.ports import TlsFiles

_READ_BYTES = 64 * 1024
_RECORD_BYTES = 16 * 1024  # of TLS
_PUBLISH = 0x30
_PUBACK = struct.Struct("!BBH")


class Published(NamedTuple):
    """A PUBLISH packet of MQTT 3.1.1 (3.3)."""

    topic: str
    payload: bytes
    mid: int  # 0 for QoS 0
    qos: int


class MqttSocket(ssl.SSLSocket):
    """Non-blocking; for one thread."""

    _inbox: bytes = b""  # read, not cut into packets yet
    _for_paho: bytes = b""  # one packet, or what is left of it
    _outbox: bytes = b""
    _ended = False
    _more = False

    def take(self, most: int, most_bytes: int) -> list[Published]:
        """The messages that are here, until they are ``most``, or ``most_bytes`` of payload, or a packet for paho comes.

        Raises OSError where the connection breaks.
        """
        found: list[Published] = []
        self._more = False
        while not self.wants_paho():
            inbox, at = self._inbox, 0
            while (packet := _packet(inbox, at)) is not None and not self._more:
                body, end = packet
                if inbox[at] & 0xF0 == _PUBLISH:
                    found.append(message := _published(inbox, at, body, end))
                    most_bytes -= len(message.payload)
                    self._more = len(found) >= most or most_bytes <= 0
                else:
                    self._for_paho = inbox[at:end]
                at = end
                if self._for_paho:
                    break
            self._inbox = inbox[at:]
            if self._more or self._for_paho or not self._fill():
                break
        return found

    def has_more(self) -> bool:
        """``take`` ended at its limit, so that there may be more before the network has."""
        return self._more

    def wants_paho(self) -> bool:
        """Something waits that only paho understands: a packet, or the end of the connection."""
        return bool(self._for_paho) or self._ended

    def _fill(self) -> bool:
        """False: nothing more is here now."""
        try:
            data = super().recv(_READ_BYTES)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        self._inbox += data
        self._ended = not data
        return True

    def acknowledge(self, mids: Sequence[int]) -> None:
        """PUBACKs (3.4). paho hands over whole packets only, so these come between two of them."""
        self.send(b"".join([_PUBACK.pack(0x40, 2, mid) for mid in mids]))

    # -- what paho uses -------------------------------------------------------------------------------------------------

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        if not self._for_paho and not self._ended:
            raise ssl.SSLWantReadError
        data, self._for_paho = self._for_paho[:buflen], self._for_paho[buflen:]
        return data

    def send(self, data: bytes, flags: int = 0) -> int:  # type: ignore[override]
        """Takes all of it; it goes out with ``flush``, or when it fills a record."""
        self._outbox += data
        if len(self._outbox) >= _RECORD_BYTES:
            self.flush()
        return len(data)

    def flush(self) -> bool:
        """False: the network takes no more now."""
        while self._outbox:
            try:
                sent = super().send(self._outbox)
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                return False
            self._outbox = self._outbox[sent:]
        return True

    def unsent(self) -> bool:
        return bool(self._outbox)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.flush()  # the DISCONNECT that comes before
        super().close()


def context(tls: TlsFiles) -> ssl.SSLContext:
    """For a client that connects with ``tls`` through such sockets."""
    made = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(tls.ca))
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.load_cert_chain(tls.certificate, tls.key)
    made.sslsocket_class = MqttSocket
    return made


def _packet(data: bytes, at: int) -> tuple[int, int] | None:
    """Where the body of the packet at ``at`` begins and ends (2.2.3); None: it is not whole."""
    length, shift, body = 0, 0, at + 1
    while True:
        if body >= len(data):
            return None
        digit = data[body]
        body += 1
        length |= (digit & 0x7F) << shift
        if digit < 0x80:
            break
        shift += 7
        if shift > 21:
            raise OSError("malformed packet from the broker")
    end = body + length
    return (body, end) if end <= len(data) else None


def _published(data: bytes, at: int, body: int, end: int) -> Published:
    qos, mid = data[at] >> 1 & 3, 0
    topic_end = body + 2 + (data[body] << 8 | data[body + 1])
    payload = topic_end
    if qos:
        mid = data[topic_end] << 8 | data[topic_end + 1]
        payload += 2
    if payload > end:
        raise OSError("malformed PUBLISH from the broker")
    return Published(_topic(data[body + 2 : topic_end]), data[payload:end], mid, qos)


@lru_cache(maxsize=65536)
def _topic(data: bytes) -> str:
    return data.decode(errors="replace")
