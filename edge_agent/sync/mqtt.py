"""The line to the broker: presence, telemetry and the reported twin up; the desired twin and watermarks down."""

import logging
import socket
import ssl
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage, MQTTMessageInfo
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge_agent.core.backoff import Backoff
from edge_agent.core.clock import Clock
from edge_agent.core.config import SyncConfig
from edge_agent.core.errors import ConfigError, LinkDown
from edge_agent.sync.identity import Identity
from edge_agent.sync.outbox import Outbox
from edge_agent.sync.traffic import Traffic
from protos.contract import topics
from protos.contract.codec import MAX_TWIN_BYTES, decode_desired, decode_watermark, encode_reported, encode_status
from protos.contract.errors import InvalidMessage
from protos.contract.telemetry import Lane, Mark
from protos.contract.twin import DesiredTwin, Presence, ReportedTwin, Status

log = logging.getLogger(__name__)

SESSION_EXPIRY_S = 24 * 3600  # the broker keeps what it owes us so long
CONNECT_TIMEOUT_S = 15.0  # for TCP and TLS, and again for the broker's answer
GOODBYE_S = 3.0  # how long closing may wait for the broker to take the last status
SETTLED_S = 10.0  # a connection that held so long resets the back-off: two clients of one name would take turns else
PACKET_BYTES = 9 + 22  # of MQTT's headers and a TLS record, about: for systems that do not count
MAX_PACKET_BYTES = MAX_TWIN_BYTES + 4096  # down
REFUSALS = 3  # in a row: a broker that is being restarted may hang up once or twice

_NOT_WELCOME = {0x86, 0x87, 0x8A}  # MQTT 5 reason codes: bad user name, not authorized, banned

T = TypeVar("T")


class MqttLink:
    """One connection at a time, made again for ever with jittered pauses. Listeners run on the link's own threads.

    Every connection gets a client of its own: nothing a broken connection still owed is sent behind the spool's back.
    """

    def __init__(self, identity: Identity, config: SyncConfig, clock: Clock, boot_id: str, version: str) -> None:
        self._identity, self._config, self._clock = identity, config, clock
        self._boot_id, self._version = boot_id, version
        self._backoff = Backoff(config.backoff_min_s, config.backoff_max_s)
        self._client: Client | None = None
        self._connected = threading.Event()
        self._ended = threading.Event()
        self._stopping = threading.Event()
        self._loop: threading.Thread | None = None
        self._on_desired: list[Callable[[DesiredTwin], None]] = []
        self._on_watermark: list[Callable[[tuple[Mark, ...]], None]] = []
        self._on_connected: list[Callable[[], None]] = []
        self._on_acknowledged: list[Callable[[], None]] = []
        self._on_refused: list[Callable[[str], None]] = []
        self._outbox, self._traffic = Outbox(), Traffic()
        self._connects = 0
        self._dialled_at = clock.now()
        self._rejected = 0
        self._refusals = 0
        self._with_previous = False
        self._again = threading.Event()  # connect anew at once: there is a new certificate, or it is the end
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    def on_desired(self, listener: Callable[[DesiredTwin], None]) -> None:
        """Call before ``start``; it must not block. The same twin may come again after every connect."""
        self._on_desired.append(listener)

    def on_watermark(self, listener: Callable[[tuple[Mark, ...]], None]) -> None:
        """Call before ``start``; it must not block."""
        self._on_watermark.append(listener)

    def on_connected(self, listener: Callable[[], None]) -> None:
        """Call before ``start``; it must not block. Called after every connect."""
        self._on_connected.append(listener)

    def on_acknowledged(self, listener: Callable[[], None]) -> None:
        """Call before ``start``; it must not block. Called after every message that the broker has answered for."""
        self._on_acknowledged.append(listener)

    def on_refused(self, listener: Callable[[str], None]) -> None:
        """Call before ``start``; it must not block. Called with the reason when the broker has not taken the certificate
        several times in a row, and each time after."""
        self._on_refused.append(listener)

    @property
    def with_previous(self) -> bool:
        """The certificate of this connection is the one before the newest, which the broker did not take."""
        return self._with_previous

    @property
    def connects(self) -> int:
        """Connections made so far."""
        return self._connects

    @property
    def traffic_bytes(self) -> int:
        """Sent and received so far on all connections, as a carrier counts."""
        return self._traffic.total()

    @property
    def unacknowledged_bytes(self) -> int:
        return self._outbox.waiting_bytes

    @property
    def acknowledged(self) -> int:
        """The broker has answered for every message up to this number."""
        return self._outbox.answered_through

    @property
    def connected(self) -> bool:
        return self._connected.is_set()

    @property
    def rejected(self) -> int:
        """Messages from the hub that were not what their topic promises."""
        return self._rejected

    def start(self) -> None:
        self._thread.start()

    def renewed(self) -> None:
        """The certificate on the disk is a new one: connect with it. What the broker has not answered for is sent again."""
        self._again.set()  # before we look: a connection that is being made sees it
        client = self._client
        if client is not None and self.connected:
            client.disconnect()  # in good order, so that the will is not sent

    def close(self) -> None:
        """Say goodbye where the line is up, and end every thread; safe more than once."""
        self._stopping.set()
        self._again.set()
        client = self._client
        if client is not None and self.connected:
            self._say_goodbye(client)
            client.disconnect()
            self._ended.wait(GOODBYE_S)  # until it is written: a socket closed before that would set off the will
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(GOODBYE_S + CONNECT_TIMEOUT_S)

    def publish_telemetry(self, lane: Lane, payload: bytes) -> int:
        """Hand a batch to the broker at QoS 1 and return the message's number; only a watermark says that the hub has it.

        Raises LinkDown.
        """
        return self._publish(topics.telemetry(self._identity.tenant, self._identity.device_id, lane), payload)

    def publish_reported(self, twin: ReportedTwin) -> None:
        """Raises LinkDown: report again on the next connect."""
        self._publish(self._topic(topics.REPORTED), encode_reported(twin))

    def _publish(self, topic: str, payload: bytes) -> int:
        client = self._client
        if client is None or not self.connected:
            raise LinkDown(f"no connection to the broker at {self._where()}")
        info = client.publish(topic, payload, qos=1)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise LinkDown(f"cannot publish to {self._where()}: {info.rc.name}")
        return self._note(info.mid, topic, payload)

    def _note(self, mid: int, topic: str, payload: bytes) -> int:
        size = len(topic) + len(payload) + PACKET_BYTES
        self._traffic.packet(size)
        return self._outbox.add(mid, size)

    # -- connecting -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping.is_set():
            started = self._clock.monotonic()
            self._again.clear()
            try:
                self._hold_one_connection()
            except ssl.SSLCertVerificationError as error:  # it is we who refuse
                log.warning("broker is not trusted", extra={"broker": self._where(), "error": str(error)})
            except ssl.SSLError as error:
                self._refused(f"TLS: {error.reason or error}")
            except (OSError, ValueError, ConfigError) as error:  # not there, unknown host, no certificate
                log.warning("broker is not reachable", extra={"broker": self._where(), "error": str(error)})
            except Exception:  # the thread's outermost edge: without it the device would be silent until a restart
                log.exception("broker connection failed", extra={"broker": self._where()})
            settled = self._clock.monotonic() - started > SETTLED_S
            if not self._stopping.is_set():
                self._again.wait(self._backoff.after_loss() if settled else self._backoff.next())

    def _refused(self, reason: str) -> None:
        self._refusals += 1
        log.warning("broker refuses the connection", extra={"broker": self._where(), "reason": reason})
        if self._refusals >= REFUSALS:
            self._tell(self._on_refused, reason)

    def _hold_one_connection(self) -> None:
        """Return when it ended."""
        self._ended.clear()
        self._loop = None
        client = self._client = self._make_client()
        try:
            self._outbox.clear()
            self._dial(client)
            self._prepare(client)
            client.loop_start()
            deadline = self._clock.monotonic() + CONNECT_TIMEOUT_S
            while not self._stopping.is_set() and not self._ended.wait(self._config.keepalive_s):
                answered = self._loop is not None or self._clock.monotonic() < deadline
                if not answered or (self._loop is not None and not self._loop.is_alive()):
                    log.warning("broker connection died silently", extra={"broker": self._where()})
                    return
            if self._loop is None and not self._stopping.is_set():
                self._refused("it hung up before it answered")  # TLS 1.3 refuses a certificate after the handshake
        finally:
            self._connected.clear()
            client.disconnect()

    def _prepare(self, client: Client) -> None:
        connection = client.socket()
        if isinstance(connection, socket.socket):  # it is nothing else over TCP
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or the end of a burst waits 40 ms for an ACK
            self._traffic.begin(connection)

    def _dial(self, client: Client) -> None:
        broker = self._identity.broker
        if self._identity.broker.protocol == 4:
            client.connect(broker.host, broker.port, keepalive=self._config.keepalive_s)
            return
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho has no types here
        properties.SessionExpiryInterval = SESSION_EXPIRY_S
        properties.MaximumPacketSize = MAX_PACKET_BYTES
        client.connect(broker.host, broker.port, keepalive=self._config.keepalive_s, clean_start=False, properties=properties)

    def _make_client(self) -> Client:
        old = self._identity.broker.protocol == 4
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._identity.device_id,
            protocol=MQTTProtocolVersion.MQTTv311 if old else MQTTProtocolVersion.MQTTv5,
            clean_session=False if old else None,
            reconnect_on_failure=False,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        # Read anew each time: certificates are replaced while we run. One that is not taken takes turns with the one before it.
        other_turn = self._refusals >= REFUSALS and self._refusals % 2 == 1
        self._with_previous = other_turn and self._identity.previous() is not None
        client.tls_set_context(self._identity.tls(previous=self._with_previous))
        self._dialled_at = self._clock.now()
        client.will_set(self._topic(topics.STATUS), self._status(Presence.OFFLINE), qos=1, retain=True)
        window = len(Lane) * self._config.in_flight
        client.max_inflight_messages_set(window + 4)  # telemetry of all lanes, presence and reports
        client.max_queued_messages_set(window + 16)
        client.on_connect, client.on_disconnect = self._connect_answered, self._disconnected
        client.on_message, client.on_publish = self._received, self._published
        return client

    # -- on the client's thread -------------------------------------------------------------------------------------

    def _connect_answered(
        self, client: Client, _: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self._loop = threading.current_thread()
        if reason.is_failure:
            if reason.value in _NOT_WELCOME:
                self._refused(str(reason))
            else:
                log.warning("broker takes no connection now", extra={"broker": self._where(), "reason": str(reason)})
            return
        log.info("connected to the broker", extra={"broker": self._where(), "session": flags.session_present})
        status = self._status(Presence.ONLINE)
        self._note(client.publish(self._topic(topics.STATUS), status, qos=1, retain=True).mid, topics.STATUS, status)
        client.subscribe([(self._topic(topics.DESIRED), 1), (self._topic(topics.WATERMARK), 1)])
        self._connects += 1
        self._connected.set()
        self._refusals = 0
        if self._again.is_set():  # made with the certificate before the one that came meanwhile
            client.disconnect()
        self._tell([_without_value(listener) for listener in self._on_connected], None)

    def _disconnected(
        self, _c: Client, _: Any, _flags: DisconnectFlags, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        self._connected.clear()
        log.info("disconnected from the broker", extra={"broker": self._where(), "reason": str(reason)})
        self._ended.set()

    def _published(self, _c: Client, _: Any, mid: int, reason: ReasonCode, _properties: Properties | None) -> None:
        if reason.is_failure:
            log.warning("broker refuses a message", extra={"reason": str(reason), "mid": mid})
        self._outbox.answered(mid)
        self._traffic.packet(PACKET_BYTES)
        self._tell([_without_value(listener) for listener in self._on_acknowledged], None)

    def _received(self, _c: Client, _: Any, message: MQTTMessage) -> None:
        self._traffic.packet(len(message.topic) + len(message.payload) + PACKET_BYTES)
        try:
            if message.topic == self._topic(topics.DESIRED):
                if message.payload:  # an empty retained message only clears the topic
                    self._tell(self._on_desired, decode_desired(bytes(message.payload)))
            elif message.topic == self._topic(topics.WATERMARK):
                self._tell(self._on_watermark, decode_watermark(bytes(message.payload)))
        except InvalidMessage as error:
            self._rejected += 1
            log.warning(
                "message from the hub is malformed, ignored",
                extra={"topic": message.topic, "bytes": len(message.payload), "error": str(error)},
            )

    def _tell(self, listeners: list[Callable[[T], None]], value: T) -> None:
        for listener in listeners:
            try:
                listener(value)
            except Exception:  # the edge of this thread: a listener's bug must not end the connection
                log.exception("listener failed", extra={"listener": getattr(listener, "__qualname__", "?")})

    # -- presence ---------------------------------------------------------------------------------------------------

    def _say_goodbye(self, client: Client) -> None:
        info: MQTTMessageInfo = client.publish(
            self._topic(topics.STATUS), self._status(Presence.STOPPED, self._clock.now()), qos=1, retain=True
        )
        try:
            info.wait_for_publish(GOODBYE_S)
        except (ValueError, RuntimeError) as error:  # queue full, or the line broke
            log.warning("could not say goodbye to the broker", extra={"error": str(error)})

    def _status(self, presence: Presence, at: datetime | None = None) -> bytes:
        """By default of when this connection was begun: its will counts, that of one before it comes too late."""
        at = at or self._dialled_at
        return encode_status(Status(presence=presence, boot_id=self._boot_id, agent_version=self._version, at=at))

    def _topic(self, kind: str) -> str:
        return topics.of(self._identity.tenant, self._identity.device_id, kind)

    def _where(self) -> str:
        return f"{self._identity.broker.host}:{self._identity.broker.port}"


def _without_value(listener: Callable[[], None]) -> Callable[[None], None]:
    return lambda _: listener()
