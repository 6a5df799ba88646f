"""amqtt inside the hub's process, for development where no mosquitto is installed.

It speaks MQTT 3.1.1 only and keeps its queue in memory: a restart of the hub loses retained and queued messages. No data is
lost by that, since spools wait for the watermark and desired twins are published again, but it is several times slower.
Clients need a certificate, exactly as with mosquitto; see ``gate`` for how the same rules are kept.
"""

import asyncio
import logging
import ssl
import threading
from asyncio import StreamReader, StreamWriter

from amqtt.broker import Broker
from amqtt.contexts import BrokerConfig as AmqttConfig
from amqtt.contexts import ListenerConfig, ListenerType

from cloud_hub.broker import gate
from cloud_hub.broker.identity import BrokerIdentity, check_free, reachable
from cloud_hub.core.config import BrokerConfig
from cloud_hub.core.errors import NotReady
from cloud_hub.core.ports import BrokerAddress, Refusals, TlsFiles

log = logging.getLogger(__name__)

PROTOCOL = 4

_LISTENER = "default"
_START_S = 10.0
_CONNECT_S = 10.0


class EmbeddedBroker:
    """Runs on a thread and an event loop of its own."""

    def __init__(self, config: BrokerConfig, identity: BrokerIdentity, *, port: int, name: str) -> None:
        self._config = config
        self._identity = identity
        self._address = BrokerAddress(host=name, port=port, protocol=PROTOCOL)
        self._local = BrokerAddress(host=identity.local_host, port=port, protocol=PROTOCOL)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self._started = threading.Event()
        self._failure = ""
        self._refused: frozenset[int] = frozenset()  # serials
        self._connections: set[StreamWriter] = set()  # for the loop's thread
        self._context: ssl.SSLContext | None = None

    @property
    def address(self) -> BrokerAddress:
        return self._address

    @property
    def local(self) -> BrokerAddress:
        return self._local

    @property
    def hub_tls(self) -> TlsFiles:
        return self._identity.hub

    @property
    def ingest_tls(self) -> TlsFiles | None:
        return None

    def start(self) -> None:
        check_free(self._config.host, self._local.port)
        for noisy in ("amqtt", "transitions"):  # they log every packet
            logging.getLogger(noisy).setLevel(logging.ERROR)
        self._started.clear()
        self._failure = ""
        self._thread = threading.Thread(target=self._run, name="broker", daemon=True)
        self._thread.start()
        if not self._started.wait(_START_S):
            raise NotReady(f"the embedded broker did not start within {_START_S:.0f} s")
        if self._failure:
            raise NotReady(f"the embedded broker cannot start: {self._failure}")

    def stop(self) -> None:
        if self._thread is None or not self._thread.is_alive() or self._loop is None or self._stop is None:
            return
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_START_S)

    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive() and reachable(self._local, self._identity.hub)

    def refuse(self, refusals: Refusals) -> None:
        self._refused = refusals.serials
        if self._loop is not None and self._loop.is_running():
            self._loop.call_soon_threadsafe(self._end_refused)

    def renew(self) -> None:
        self._identity.renew()
        if self._context is not None:
            self._context.load_cert_chain(self._identity.server.certificate, self._identity.server.key)

    def _end_refused(self) -> None:
        for writer in tuple(self._connections):
            if gate.serial(writer) in self._refused:
                writer.transport.abort()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:  # outermost edge of the thread: start() tells it
            self._failure = str(error)
            log.exception("embedded broker ended")
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        listener = ListenerConfig(type=ListenerType.EXTERNAL, bind=f"{self._local.host}:{self._local.port}")
        broker = Broker(AmqttConfig(listeners={_LISTENER: listener}, plugins=gate.plugins()))
        await broker.start()
        self._connections.clear()
        self._context = self._server_context()

        async def connected(reader: StreamReader, writer: StreamWriter) -> None:
            self._connections.add(writer)
            try:
                if gate.serial(writer) not in self._refused:
                    await _let_in(broker, reader, writer)
            finally:
                self._connections.discard(writer)
                writer.close()

        server = await asyncio.start_server(connected, self._config.host, self._local.port, ssl=self._context)
        self._started.set()
        await self._stop.wait()
        server.close()
        for writer in tuple(self._connections):
            writer.transport.abort()
        await broker.shutdown()

    def _server_context(self) -> ssl.SSLContext:
        tls = self._identity.server
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tls.ca))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(tls.certificate, tls.key)
        return context


async def _let_in(broker: Broker, reader: StreamReader, writer: StreamWriter) -> None:
    try:
        client = gate.common_name(writer)
        first = await asyncio.wait_for(gate.admit(reader, client), _CONNECT_S)
    except gate.Refused as error:
        log.warning("connection refused", extra={"reason": str(error)})
        return
    except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
        return
    try:
        await broker.external_connected(gate.GateReader(first, reader, writer), gate.GateWriter(writer, client), _LISTENER)
    except (ConnectionError, asyncio.IncompleteReadError) as error:
        log.info("connection lost", extra={"client": client, "reason": str(error)})
