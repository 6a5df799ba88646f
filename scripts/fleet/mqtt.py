"""A device's connection to the broker, for thousands in one process: MQTT 5 over mutual TLS on one event loop."""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable

from scripts.fleet import packets
from scripts.fleet.line import TlsLine, Traffic
from scripts.fleet.packets import Message, Parser

CONNECT_S = 30.0
GOODBYE_S = 5.0
SESSION_S = 24 * 3600


class Connection:
    """Open from ``dial`` on; ``lost`` says when it is no more. Everything goes at QoS 1, at most as much unacknowledged as the
    broker allows; what is not acknowledged when it ends is the caller's to send again. For the loop's thread only."""

    def __init__(self, take: Callable[[Message], None], traffic: Traffic, *, delay_s: float = 0.0) -> None:
        """``delay_s``: what the link adds in each direction."""
        self._take, self._traffic, self._delay_s = take, traffic, delay_s
        self._parser = Parser()
        self._line: TlsLine | None = None
        self._welcome: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._number = 0
        self._most = 1
        self._unanswered: set[int] = set()
        self._waiting: deque[tuple[Message, bool]] = deque()
        self._answered = asyncio.Event()
        self._keepalive_s = 60
        self._pinging: asyncio.TimerHandle | None = None
        self.refused = 0  # messages that the broker did not take

    async def dial(
        self, host: str, port: int, context: ssl.SSLContext, *, client: str, will: Message, keepalive_s: int = 60
    ) -> None:
        """Raises OSError (ssl.SSLError among them) or TimeoutError."""
        loop = asyncio.get_running_loop()
        self._keepalive_s = keepalive_s
        try:
            async with asyncio.timeout(CONNECT_S):
                line = self._line = TlsLine(context, host, self._received, self._traffic)
                await loop.create_connection(lambda: line, host, port)
                line.lost.add_done_callback(self._ended)
                await line.ready
                line.write(packets.connect(client, keepalive_s=keepalive_s, session_s=SESSION_S, will=will))
                if reason := await self._welcome:
                    raise ConnectionRefusedError(f"the broker says 0x{reason:02x}")
        except BaseException:
            self.abort()
            raise
        self._traffic.connects += 1
        self._ping()

    @property
    def lost(self) -> "asyncio.Future[None]":
        assert self._line is not None, "not dialled"
        return self._line.lost

    @property
    def open(self) -> bool:
        return self._line is not None and not self._line.lost.done()

    def subscribe(self, *topics: str) -> None:
        self._write(packets.subscribe(self._next(), topics))

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """In order; on a connection that has ended it does nothing."""
        self._waiting.append((Message(topic=topic, payload=payload), retain))
        self._send()

    async def settled(self, within_s: float = GOODBYE_S) -> None:
        """Everything is acknowledged, or the connection has ended. Raises TimeoutError."""
        async with asyncio.timeout(within_s):
            while self.open and (self._waiting or self._unanswered):
                self._answered.clear()
                await self._answered.wait()

    def abort(self) -> None:
        """As a crash or a broken link does: the broker sends the will."""
        if self._line is not None:
            self._line.abort()

    def close(self) -> None:
        """In good order."""
        self._write(packets.GOODBYE)
        if self._line is not None:
            self._line.close()

    # -- pieces -----------------------------------------------------------------------------------------------------------

    def _received(self, data: bytes) -> None:
        for kind, flags, body in self._parser.feed(data):
            if self._delay_s:
                asyncio.get_running_loop().call_later(self._delay_s, self._handle, kind, flags, body)
            else:
                self._handle(kind, flags, body)

    def _handle(self, kind: int, flags: int, body: bytes) -> None:
        if kind == packets.PUBLISH:
            message = packets.received(flags, body)
            self._take(message)
            if message.number:
                self._write(packets.acknowledge(message.number))
        elif kind == packets.PUBACK:
            self.refused += packets.reason_of(body) >= 0x80
            self._unanswered.discard(packets.number_of(body))
            self._send()
            self._answered.set()
        elif kind == packets.CONNACK and not self._welcome.done():
            reason, self._most = packets.connected(body)
            self._welcome.set_result(reason)
        elif kind == packets.DISCONNECT:
            self.abort()

    def _send(self) -> None:
        while self._waiting and len(self._unanswered) < self._most and self.open:
            message, retain = self._waiting.popleft()
            number = self._next()
            self._unanswered.add(number)
            self._write(packets.publish(Message(topic=message.topic, payload=message.payload, number=number), retain=retain))

    def _write(self, packet: bytes) -> None:
        if self._delay_s:
            asyncio.get_running_loop().call_later(self._delay_s, self._write_now, packet)
        else:
            self._write_now(packet)

    def _write_now(self, packet: bytes) -> None:
        if self._line is not None and self.open:
            try:
                self._line.write(packet)
            except ConnectionError:
                self._line.abort()

    def _next(self) -> int:
        while True:
            self._number = self._number % 65_535 + 1
            if self._number not in self._unanswered:
                return self._number

    def _ping(self) -> None:
        if self.open:
            self._write(packets.PING)
            self._pinging = asyncio.get_running_loop().call_later(self._keepalive_s / 2, self._ping)

    def _ended(self, _: object) -> None:
        if self._pinging is not None:
            self._pinging.cancel()
        if not self._welcome.done():
            self._welcome.set_exception(ConnectionResetError("the broker hung up before it answered"))
            self._welcome.exception()  # it may be that nobody waits for it any more
        self._answered.set()
