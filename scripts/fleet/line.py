"""TLS over asyncio without asyncio's own: that keeps 256 KiB for each connection, which is a gigabyte for four thousand."""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass

_READ_BYTES = 16 << 10  # a TLS record


@dataclass(slots=True)
class Traffic:
    """Of all connections of one device, as it is on the wire, less TCP and IP."""

    sent_bytes: int = 0
    received_bytes: int = 0
    connects: int = 0


class TlsLine(asyncio.Protocol):
    """One connection. ``ready`` once TLS stands, ``lost`` when it has ended; what comes goes to ``take``, on the loop."""

    def __init__(self, context: ssl.SSLContext, host: str, take: Callable[[bytes], None], traffic: Traffic) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._take, self._traffic = take, traffic
        self._transport: asyncio.Transport | None = None
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._advance()

    def data_received(self, data: bytes) -> None:
        self._traffic.received_bytes += len(data)
        self._incoming.write(data)
        self._advance()

    def connection_lost(self, error: Exception | None) -> None:
        why = error or ConnectionResetError("the other side hung up")
        if not self.ready.done():
            self.ready.set_exception(why)
            self.ready.exception()  # it may be that nobody waits for it any more
        if not self.lost.done():
            self.lost.set_result(None)

    def write(self, data: bytes) -> None:
        """Raises ConnectionError where it has ended."""
        if self._transport is None or self.lost.done():
            raise ConnectionResetError("the connection has ended")
        try:
            self._tls.write(data)
        except ssl.SSLError as error:
            raise ConnectionResetError(str(error)) from error
        self._flush()

    def abort(self) -> None:
        """At once, as a crash does it: nothing is said."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Once what was written has gone out."""
        if self._transport is not None:
            self._transport.close()

    def _advance(self) -> None:
        try:
            if not self.ready.done():
                self._tls.do_handshake()
                self.ready.set_result(None)
            while chunk := self._tls.read(_READ_BYTES):
                self._take(chunk)
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLError, ValueError) as error:  # not trusted, not taken, or no MQTT
            if not self.ready.done():
                self.ready.set_exception(error)
                self.ready.exception()
            self.abort()
        self._flush()

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data and self._transport is not None:
            self._traffic.sent_bytes += len(data)
            self._transport.write(data)
