"""Takes messages from one connection into the store: group, decode, land, commit, acknowledge, send watermarks.

One thread receives and decodes the next group while another waits for the disk to take this one.
"""

import contextlib
import gc
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from queue import Empty, Full, Queue
from typing import NamedTuple

from sqlalchemy.exc import InterfaceError, OperationalError

from cloud_hub.core.config import IngestConfig
from cloud_hub.core.errors import Unavailable
from cloud_hub.core.metrics import HubMetrics
from cloud_hub.ingest.lander import Decoded, Landed, Lander, decode, parsed
from cloud_hub.ingest.link import Incoming, Link
from cloud_hub.ingest.quota import Quota
from cloud_hub.ingest.watermarks import Watermarks
from edge_agent.core.clock import Clock
from edge_agent.core.seldom import Seldom
from protos.contract import topics
from protos.contract.errors import InvalidTopic

log = logging.getLogger(__name__)

_WAIT_S = 0.5
_PAUSE_MIN_S = 0.1
_PAUSE_MAX_S = 5.0
_JOIN_S = 15.0
_BUG_EVERY_S = 10.0  # a hub that cannot land anything must not fill the disk with saying so

# The database cannot take anything now: no message's fault.
_UNAVAILABLE = (Unavailable, OperationalError, InterfaceError, OSError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """Since the start."""

    messages: int = 0
    batches: int = 0  # new ones
    records: int = 0  # in new batches
    duplicates: int = 0  # batches that were there already
    twins: int = 0
    quarantined: int = 0
    throttled: int = 0  # messages above their device's quota: not stored, the device sends them again
    deferred: int = 0  # batches behind too many holes: likewise

    def __add__(self, other: "Counters") -> "Counters":
        return Counters(**{one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(Counters)})


def tune_process() -> None:
    """For the process that ingests, once: a group makes thousands of tuples that live as long as it does, and looking through
    them for cycles every 700 costs a fifth of the time."""
    gc.set_threshold(20_000, 20, 20)


class _Group(NamedTuple):
    messages: Sequence[Incoming]
    decoded: Decoded | None  # None: that failed


class Intake:
    """One connection, one writer. What it has not committed it has not acknowledged, so the broker or the device repeats it."""

    def __init__(
        self,
        config: IngestConfig,
        link: Link,
        lander: Lander,
        watermarks: Watermarks,
        *,
        clock: Clock,
        metrics: HubMetrics,
        on_twins: Callable[[], None] = lambda: None,
    ) -> None:
        """``on_twins`` is called after a commit that held a twin."""
        self._config = config
        self._link = link
        self._lander = lander
        self._watermarks = watermarks
        self._metrics = metrics
        self._on_twins = on_twins
        self._quota = Quota(config.device_bytes_per_s, config.device_burst_bytes, clock)
        self._counters = Counters()
        self._throttled = 0  # counted by another thread than the rest
        self._bugs = Seldom(_BUG_EVERY_S, clock)
        self._stopping = threading.Event()
        self._next: Queue[_Group] = Queue(maxsize=1)
        self._threads: list[threading.Thread] = []

    @property
    def counters(self) -> Counters:
        throttled = self._throttled
        return self._counters + Counters(messages=throttled, throttled=throttled)

    @property
    def ready(self) -> bool:
        """Connected to the broker and subscribed."""
        return self._link.ready

    def start(self) -> None:
        """Returns at once; the broker may come later."""
        for name, run in (("ingest", self._land_groups), ("ingest-decode", self._decode_groups)):
            self._threads.append(threading.Thread(target=run, name=name, daemon=True))
            self._threads[-1].start()
        self._link.start()

    def stop(self) -> None:
        """Finish the group in hand, acknowledge it and disconnect."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(_JOIN_S)
        self._link.close()

    def alive(self) -> bool:
        return bool(self._threads) and all(thread.is_alive() for thread in self._threads) and self._link.alive()

    def _decode_groups(self) -> None:
        while not self._stopping.is_set():
            messages = self._link.receive(self._config.group_messages, wait_s=_WAIT_S, linger_s=self._config.group_wait_s)
            admitted = self._admitted(messages)
            if not admitted:
                continue
            group = _Group(admitted, None)
            with contextlib.suppress(Exception):  # a bug that a message brings out: whoever lands them finds it
                group = _Group(admitted, decode(admitted))
            while not self._stopping.is_set():
                with contextlib.suppress(Full):
                    self._next.put(group, timeout=_WAIT_S)
                    break

    def _land_groups(self) -> None:
        pause_s = _PAUSE_MIN_S
        group: _Group | None = None
        while not self._stopping.is_set():
            try:
                group = group or self._receive()
                if group is not None:
                    self._take(group)
                    group = None
                self._say_throttled()
                if self._watermarks.due_in_s() == 0:
                    self._watermarks.send()
                pause_s = _PAUSE_MIN_S
            except _UNAVAILABLE as error:
                log.error(
                    "database is not available", extra={"reason": str(error), "waiting": len(group.messages) if group else 0}
                )
                self._stopping.wait(pause_s)
                pause_s = min(2 * pause_s, _PAUSE_MAX_S)
            except Exception:  # outermost edge of the thread: ingest goes on, whatever one group did
                log.exception("group failed")
                self._stopping.wait(pause_s)
                pause_s = min(2 * pause_s, _PAUSE_MAX_S)

    def _receive(self) -> _Group | None:
        due_s = self._watermarks.due_in_s()
        try:
            return self._next.get(timeout=_WAIT_S if due_s is None else max(due_s, 0.001))
        except Empty:
            return None

    def _admitted(self, messages: Sequence[Incoming]) -> Sequence[Incoming]:
        admitted: list[Incoming] = []
        throttled: list[Incoming] = []
        for message in messages:
            (admitted if self._admits(message) else throttled).append(message)
        if throttled:
            self._link.ack(throttled)
            self._throttled += len(throttled)
        return admitted

    def _admits(self, message: Incoming) -> bool:
        """Twins are few, and come once."""
        try:
            topic = parsed(message.topic)
        except InvalidTopic:
            return True
        return topic.kind != topics.TELEMETRY or self._quota.admits(topic.device, len(message.payload))

    def _say_throttled(self) -> None:
        if begun := self._quota.episodes():
            log.warning("devices are above their quota", extra={"devices": begun[:20], "count": len(begun)})
            self._lander.throttled(begun, self._config.device_bytes_per_s)

    def _take(self, group: _Group) -> None:
        """Land, acknowledge, count. Raises, with nothing acknowledged, only while the database is not available."""
        started = time.perf_counter()
        landed = self._land(group.messages, group.decoded)
        self._metrics.ingest_commit_seconds.observe(time.perf_counter() - started)
        self._metrics.ingest_group_messages.observe(len(group.messages))
        self._link.ack(group.messages)
        self._counters += Counters(
            messages=len(group.messages),
            batches=landed.batches,
            records=landed.records,
            duplicates=landed.duplicates,
            twins=landed.twins,
            quarantined=landed.quarantined,
            deferred=landed.deferred,
        )
        self._watermarks.add(landed.streams)
        if landed.twins:
            self._on_twins()

    def _land(self, messages: Sequence[Incoming], decoded: Decoded | None) -> Landed:
        try:
            return self._lander.land(decoded or decode(messages))
        except _UNAVAILABLE:
            raise
        except Exception as error:  # a bug that a message brings out: find the message and go on without it
            if len(messages) == 1:
                log.debug("message failed", exc_info=True)
                return self._refuse(messages[0], error)
        landed = Landed()
        for half in (messages[: len(messages) // 2], messages[len(messages) // 2 :]):
            landed.add(self._land(half, None))
        return landed

    def _refuse(self, message: Incoming, error: Exception) -> Landed:
        self._lander.refuse(message, f"internal error: {type(error).__name__}")
        if (before := self._bugs.turn()) is not None:
            extra = {"topic": message.topic, "bytes": len(message.payload), "not_logged": before}
            log.error("a good message may be lost to quarantine: report this bug", exc_info=error, extra=extra)
        return Landed(quarantined=1)
