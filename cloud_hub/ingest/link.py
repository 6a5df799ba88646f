"""A connection to the broker: takes what devices publish, and acknowledges only when told to.

It speaks MQTT 3.1.1 to either broker. mosquitto honours shared subscriptions, which came with version 5, for such clients too.
"""

import contextlib
import logging
import random
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from paho.mqtt.client import Client, MQTTMessageInfo
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion

from cloud_hub.core.config import IngestConfig
from cloud_hub.core.ports import BrokerAddress, TlsFiles
from cloud_hub.ingest import sockets
from cloud_hub.ingest.sockets import MqttSocket
from protos.contract.topics import HUB_SUBSCRIPTION

log = logging.getLogger(__name__)

HUB_CLIENT_ID = "tl:hub"  # the common name of the hub's certificate, and so what the broker takes it for

_KEEPALIVE_S = 30
_SHARE_KEEPALIVE_S = 10  # what the broker has given to a process that hangs comes again from the devices, after 1.5 of these
_PAUSE_MIN_S = 0.1
_PAUSE_MAX_S = 5.0
_IDLE_S = 1.0
_IN_FLIGHT = 1000  # of our own messages, not yet acknowledged by the broker
_JOIN_S = 10.0


class Incoming(NamedTuple):
    topic: str
    payload: bytes
    mid: int
    qos: int
    connection: int  # which one it came over: packet ids are used again after a reconnect


class Link:
    """One connection, kept up by a thread of its own. The other methods may be called from any thread."""

    def __init__(
        self,
        address: BrokerAddress,
        tls: TlsFiles,
        client_id: str,
        subscriptions: Sequence[str],
        *,
        limits: IngestConfig,
        persistent: bool = False,
        on_session: Callable[[], None] = lambda: None,
    ) -> None:
        """``client_id`` is the common name in ``tls``.

        ``persistent``: the broker keeps the session while there is no connection, and what it has for it; otherwise what was
        not acknowledged is the devices' to repeat.
        ``on_session`` is called on the link's thread whenever a connection is ready; it must be quick.
        """
        self._address = address
        self._client_id = client_id
        self._subscriptions = subscriptions
        self._limits = limits
        self._persistent = persistent
        self._on_session = on_session
        self._queue: deque[Incoming] = deque()
        self._queue_bytes = 0  # of payload
        self._arrived = threading.Condition()
        self._connection = 0
        self._ready = False
        self._acks: list[int] = []
        self._sending = threading.Lock()
        self._closing = threading.Event()
        self._wake_r, self._wake_w = socket.socketpair()
        self._wake_r.setblocking(False)
        self._wake_w.setblocking(False)
        self._thread: threading.Thread | None = None
        self._tls = tls
        self._context = sockets.context(tls)
        self._client = self._make_client()

    def _make_client(self) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            clean_session=not self._persistent,
            protocol=MQTTProtocolVersion.MQTTv311,
        )
        client.max_inflight_messages_set(_IN_FLIGHT)
        client.tls_set_context(self._context)
        client.on_connect = self._connected
        client.on_subscribe = self._subscribed
        client.on_socket_register_write = self._wake  # makes publish leave the writing to our thread
        return client

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="ingest-link", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Messages not acknowledged come again."""
        self._closing.set()
        self._wake()
        if self._thread is not None:
            self._thread.join(_JOIN_S)
        self._wake_r.close()
        self._wake_w.close()

    @property
    def ready(self) -> bool:
        """Connected and subscribed."""
        return self._ready

    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    @property
    def waiting(self) -> tuple[int, int]:
        """Messages that nobody has received yet, and their bytes."""
        return len(self._queue), self._queue_bytes

    def receive(self, most: int, *, wait_s: float, linger_s: float) -> list[Incoming]:
        """Up to ``most`` messages: waits ``wait_s`` for the first, then ``linger_s`` for the group to fill."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: bool(self._queue) or self._closing.is_set(), wait_s):
                return []
            self._arrived.wait_for(lambda: len(self._queue) >= most or self._full() or self._closing.is_set(), linger_s)
            full = self._full()
            group = [self._queue.popleft() for _ in range(min(most, len(self._queue)))]
            self._queue_bytes -= sum(len(message.payload) for message in group)
        if full:
            self._wake()
        return group

    def ack(self, group: Sequence[Incoming]) -> None:
        """Those of an older connection are left out: the broker sends them again, under ids that may be others' by now."""
        with self._sending:
            self._acks += [message.mid for message in group if message.qos and message.connection == self._connection]
        self._wake()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> MQTTMessageInfo | None:
        """QoS 1; None while there is no connection."""
        with self._sending:
            if not self._ready:
                return None
            info = self._client.publish(topic, payload, qos=1, retain=retain)
        return info if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS else None

    # -- the thread -----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        pause_s = _PAUSE_MIN_S
        while not self._closing.is_set():
            started = time.monotonic()
            try:
                self._context.load_cert_chain(self._tls.certificate, self._tls.key)  # they may have been renewed
                keepalive_s = _KEEPALIVE_S if self._persistent else _SHARE_KEEPALIVE_S
                self._client.connect(self._address.host, self._address.port, keepalive=keepalive_s)
                self._pump()
            except OSError as error:
                log.warning("no connection to the broker", extra={"reason": str(error), "retry_in_s": round(pause_s, 1)})
            except Exception:  # outermost edge of the thread: whatever paho trips over, a new connection mends
                log.exception("connection to the broker failed")
            else:
                if not self._closing.is_set():
                    log.warning("connection to the broker lost")
            self._forget()
            if time.monotonic() - started > _PAUSE_MAX_S:
                pause_s = _PAUSE_MIN_S
            self._closing.wait(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(2 * pause_s, _PAUSE_MAX_S)

    def _pump(self) -> None:
        """Move bytes until the connection is gone."""
        sock = self._client.socket()
        if not isinstance(sock, MqttSocket):
            raise OSError("connection lost at once")
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_r, selectors.EVENT_READ)
            watched = 0
            while self._has(sock):
                self._write(sock)  # acknowledgements before a DISCONNECT
                if self._closing.is_set():
                    self._client.disconnect()
                    self._write(sock)
                if not self._has(sock):
                    return
                paused = self._full()
                watched = _watch(selector, sock, watched, self._wanted(sock, paused))
                for key, _ in selector.select(0 if sock.has_more() and not paused else _IDLE_S):
                    if key.fileobj is self._wake_r:
                        self._wake_r.recv(4096)
                if not paused:
                    self._read(sock)
                self._client.loop_misc()

    def _full(self) -> bool:
        return len(self._queue) >= self._limits.queue_messages or self._queue_bytes >= self._limits.queue_bytes

    def _has(self, sock: object) -> bool:
        """Whether the connection still is the one over ``sock``."""
        return self._client.socket() is sock

    def _wanted(self, sock: MqttSocket, paused: bool) -> int:
        unsent = self._client.want_write() or sock.unsent()
        return (0 if paused else selectors.EVENT_READ) | (selectors.EVENT_WRITE if unsent else 0)

    def _read(self, sock: MqttSocket) -> None:
        """Everything that is here, up to the limit of the queue."""
        messages = sock.take(self._limits.queue_messages - len(self._queue), self._limits.queue_bytes - self._queue_bytes)
        if messages:
            connection = self._connection
            with self._arrived:
                self._queue.extend([Incoming(*message, connection) for message in messages])
                self._queue_bytes += sum(len(message.payload) for message in messages)
                self._arrived.notify()
        while sock.wants_paho() and self._has(sock):
            self._client.loop_read()

    def _write(self, sock: MqttSocket) -> None:
        with self._sending:
            acks, self._acks = self._acks, []
        if acks:
            sock.acknowledge(acks)
        if self._client.want_write():
            self._client.loop_write()
        if self._has(sock):
            sock.flush()

    def _wake(self, *_: Any) -> None:
        with contextlib.suppress(OSError):  # awake already, or closed
            self._wake_w.send(b"\0")

    def _forget(self) -> None:
        """What was not acknowledged comes again over the next connection."""
        with self._sending:  # nobody may send into the next connection what was meant for this one
            self._ready = False
            self._connection += 1
            self._acks.clear()
        with self._arrived:
            self._queue.clear()
            self._queue_bytes = 0

    # -- paho's callbacks, all on the thread ----------------------------------------------------------------------------

    def _connected(self, client: Client, _userdata: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            log.error("the broker refuses this process", extra={"client": self._client_id, "reason": str(reason)})
            return
        if self._persistent and HUB_SUBSCRIPTION not in self._subscriptions:
            client.unsubscribe(HUB_SUBSCRIPTION)  # which an older version of the hub has left in the session
        client.subscribe([(filter, 1) for filter in self._subscriptions])

    def _subscribed(self, *_: Any) -> None:
        self._ready = True
        fields = {"client": self._client_id, "host": self._address.host, "port": self._address.port}
        log.info("connected to the broker", extra=fields)
        self._on_session()


def _watch(selector: selectors.BaseSelector, sock: MqttSocket, watched: int, wanted: int) -> int:
    if wanted == watched:
        return wanted
    if not wanted:
        selector.unregister(sock)
    elif not watched:
        selector.register(sock, wanted)
    else:
        selector.modify(sock, wanted)
    return wanted
