"""One simulated device: its connection, its twins, its telemetry, and the real engine behind them."""

import asyncio
import contextlib
import logging
import ssl
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from pathlib import Path

import numpy as np

from edge_agent.core.backoff import Backoff
from edge_agent.core.clock import Clock
from edge_agent.core.errors import AgentError
from edge_agent.core.model import Happening
from edge_agent.sync.identity import Identity
from protos.contract import codec, topics
from protos.contract.errors import InvalidMessage
from protos.contract.telemetry import MAX_TEXT, Lane
from protos.contract.twin import DesiredTwin, Health, Presence, ReportedTwin, Status
from scripts.fleet.conditions import Conditions
from scripts.fleet.line import Traffic
from scripts.fleet.mqtt import Connection
from scripts.fleet.packets import Message
from scripts.fleet.telemetry import Told
from scripts.fleet.updates import Updates

log = logging.getLogger(__name__)

AGENT_VERSION = "simulated"
LOOK_S = 1.0  # between steps of an update that only waits: the agent looks four times as often
WORKER_LOST = "inference.worker_lost"  # as ``edge_agent.infer`` tells it
GAP_S = 0.2  # between two reports
TICK_S = 1.0


class SimulatedDevice:
    """``run`` until ``stop``. Everything but the steps of the engine happens on one loop; those take turns in ``pool``."""

    def __init__(self, folder: Path, identity: Identity, conditions: Conditions, clock: Clock, pool: Executor) -> None:
        self.id = identity.device_id
        self._identity, self._conditions, self._clock, self._pool = identity, conditions, clock, pool
        self._context: ssl.SSLContext | None = None
        self._dice = conditions.dice(self.id, "messages")
        self._backoff = Backoff(0.5, 15.0, conditions.dice(self.id, "reconnects").random)
        self._loop = asyncio.get_running_loop()
        self._wake, self._news, self._stopping = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._connection: Connection | None = None
        self._boot_id = ""
        self._hushed = False
        self._booted_at = clock.now()
        self.told = Told(np.random.default_rng(conditions.dice(self.id, "readings").getrandbits(64)))
        self.traffic = Traffic()
        self.asked: list[tuple[float, DesiredTwin]] = []  # every generation once, with the monotonic time it came
        self.ended: list[tuple[float, Happening]] = []  # of updates
        self.restarts = 0
        self.updates = Updates(
            folder,
            identity,
            conditions,
            clock,
            online=lambda: self.connected,
            changed=lambda: self._from_thread(self._news.set),
            tell=lambda happening: self._from_thread(partial(self._happened, happening)),
        )

    @property
    def connected(self) -> bool:
        return self._connection is not None and self._connection.open

    @property
    def version(self) -> int:
        """Of the model that runs; 0: none."""
        running = self.updates.standing.running
        return running.version if running is not None else 0

    @property
    def settled(self) -> bool:
        """Nothing is under way, and the hub has confirmed all that was told."""
        asked = self.asked[-1][1].generation if self.asked else 0
        return self.updates.standing.generation >= asked and not self.told.waiting

    async def run(self) -> None:
        while not self._stopping.is_set():
            await self._life()
            self.restarts += not self._stopping.is_set()

    def stop(self) -> None:
        self._stopping.set()

    def hush(self) -> None:
        """Produce no more readings; what there is is still sent until it is confirmed."""
        self._hushed = True

    # -- a life: from one start of the device to its crash or to the end ----------------------------------------------------

    async def _life(self) -> None:
        self._boot_id, self._booted_at = uuid.uuid4().hex, self._clock.now()
        await self._in_pool(self.updates.start)
        jobs = (self._keep_connected(), self._keep_updated(), self._report(), self._tell())
        parts = [asyncio.create_task(job) for job in jobs]
        try:
            await self._until_it_ends()
        finally:
            if self._stopping.is_set() and self._connection is not None and self._connection.open:
                await self._say_goodbye(self._connection)
            elif self._connection is not None:
                self._connection.abort()
            self.updates.cut()
            for part in parts:
                part.cancel()
            for failure in await asyncio.gather(*parts, return_exceptions=True):
                if isinstance(failure, Exception):
                    log.error("a part of a device failed", exc_info=failure, extra={"device": self.id})
            await self._in_pool(self.updates.end)

    async def _until_it_ends(self) -> None:
        mean = self._conditions.restart_every_s
        await _happens(self._stopping, self._dice.expovariate(1 / mean) if mean else None)

    async def _keep_updated(self) -> None:
        while True:
            self._wake.clear()
            try:
                pause_s = await self._in_pool(self.updates.step)
            except AgentError:
                log.exception("step of an update failed", extra={"device": self.id})
                pause_s = LOOK_S
            if pause_s > 0:
                await _happens(self._wake, max(pause_s, LOOK_S))

    async def _in_pool(self, call: "Callable[[], object]") -> float:
        """A step that was begun is waited for, also by who is cancelled: two at once would be two devices in one folder."""
        future = self._loop.run_in_executor(self._pool, call)
        try:
            done = await asyncio.shield(future)
        except asyncio.CancelledError:
            self.updates.cut()
            await asyncio.wait([future])
            raise
        return done if isinstance(done, float) else 0.0

    # -- the line -----------------------------------------------------------------------------------------------------------

    async def _keep_connected(self) -> None:
        while True:
            connection = Connection(self._received, self.traffic, delay_s=self._conditions.latency_s)
            try:
                await self._dial(connection)
            except (OSError, TimeoutError) as error:
                log.debug("no connection", extra={"device": self.id, "error": str(error)})
                await asyncio.sleep(self._backoff.next())
                continue
            self._backoff.reset()
            self._connection = connection
            self._news.set()
            await connection.lost
            await asyncio.sleep(self._backoff.after_loss())

    async def _dial(self, connection: Connection) -> None:
        if self._context is None:
            self._context = await self._loop.run_in_executor(self._pool, self._identity.tls)
        broker, at = self._identity.broker, self._clock.now()
        will = Message(topic=self._topic(topics.STATUS), payload=self._status(Presence.OFFLINE, at))
        await connection.dial(broker.host, broker.port, self._context, client=self.id, will=will)
        connection.publish(self._topic(topics.STATUS), self._status(Presence.ONLINE, at), retain=True)
        connection.subscribe(self._topic(topics.DESIRED), self._topic(topics.WATERMARK))
        for lane, payload in self.told.again(self._clock.monotonic()):
            connection.publish(self._telemetry(lane), payload)

    def _received(self, message: Message) -> None:
        try:
            if message.topic.endswith(topics.WATERMARK):
                self.told.forget(codec.decode_watermark(message.payload), self._clock.monotonic())
            elif message.payload:
                self._desired(codec.decode_desired(message.payload))
        except InvalidMessage:
            log.exception("the hub sent what is no message", extra={"device": self.id, "topic": message.topic})

    def _desired(self, twin: DesiredTwin) -> None:
        if not self.asked or twin.generation > self.asked[-1][1].generation:
            self.asked.append((time.monotonic(), twin))
        self.updates.offer(twin)
        self._wake.set()

    def _publish(self, topic: str, payload: bytes) -> None:
        """Or, by chance, the link breaks and nothing is sent."""
        if self._connection is None or not self._connection.open:
            return
        if self._dice.random() < self._conditions.loss:
            self._connection.abort()
        else:
            self._connection.publish(topic, payload)

    # -- what it says -------------------------------------------------------------------------------------------------------

    async def _report(self) -> None:
        while True:
            await _happens(self._news, self._conditions.report_s)
            self._news.clear()
            self._publish(self._topic(topics.REPORTED), codec.encode_reported(self._twin()))
            await asyncio.sleep(GAP_S)

    async def _tell(self) -> None:
        await asyncio.sleep(self._dice.random() * self._conditions.linger_s)  # a fleet does not speak in step
        owed, last = 0.0, self._clock.monotonic()
        while True:
            await asyncio.sleep(self._conditions.linger_s)
            now = self._clock.monotonic()
            owed, last, over_s = owed + (now - last) * self._conditions.readings_per_s, now, now - last
            running, manifest = self.updates.standing.running, self.updates.runner.manifest
            if running is None or manifest is None or self._hushed:
                owed = 0.0
            else:
                does = self._conditions.of(running.version)
                if owed >= 1:
                    labels, threshold = len(manifest.output.labels), manifest.output.min_confidence
                    digest, at = running.manifest_digest, self._clock.now()
                    self._send(*self.told.readings(int(owed), digest, labels, threshold, does, at, over_s))
                    owed -= int(owed)
                if self._dice.random() < does.crashes_per_hour * over_s / 3600:
                    self._send(*self.told.event(WORKER_LOST, "signal 11 (simulated)", self._clock.now()))
            if self.connected and self.told.stalled(now):
                for lane, payload in self.told.again(now):
                    self._send(lane, payload)

    def _happened(self, happening: Happening) -> None:
        self.ended.append((time.monotonic(), happening))
        self._send(*self.told.event(happening.kind, happening.detail[:MAX_TEXT], happening.at))

    def _send(self, lane: Lane, payload: bytes) -> None:
        self._publish(self._telemetry(lane), payload)

    def _twin(self) -> ReportedTwin:
        standing, does = self.updates.standing, self._conditions.of(self.version)
        return ReportedTwin(
            generation=standing.generation,
            boot_id=self._boot_id,
            agent_version=AGENT_VERSION,
            board=self._identity.board,
            at=self._clock.now(),
            health=Health(
                started_at=self._booted_at,
                inferences=self.told.produced,
                inference_errors=self.told.errors,
                latency_p50_ms=does.latency_ms,
                latency_p95_ms=does.latency_ms * 1.5,
            ),
            runtimes=("onnx", "tflite"),
            model=standing.running,
            update=standing.update,
        )

    async def _say_goodbye(self, connection: Connection) -> None:
        connection.publish(self._topic(topics.STATUS), self._status(Presence.STOPPED, self._clock.now()), retain=True)
        with contextlib.suppress(TimeoutError):
            await connection.settled()
        connection.close()

    def _status(self, presence: Presence, at: object) -> bytes:
        return codec.encode_status(Status(presence=presence, boot_id=self._boot_id, agent_version=AGENT_VERSION, at=at))  # type: ignore[arg-type]

    def _topic(self, kind: str) -> str:
        return topics.of(self._identity.tenant, self._identity.device_id, kind)

    def _telemetry(self, lane: Lane) -> str:
        return topics.telemetry(self._identity.tenant, self._identity.device_id, lane)

    def _from_thread(self, call: Callable[[], None]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call)


async def _happens(event: asyncio.Event, within_s: float | None) -> None:
    """Or the time is over. Not ``asyncio.wait_for``: where both happen at once, that forgets that it was cancelled."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await event.wait()
