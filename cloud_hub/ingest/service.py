"""Takes messages from the broker into the store: group, land, commit, acknowledge, send watermarks."""

import gc
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from cloud_hub.core.config import IngestConfig
from cloud_hub.core.errors import Exhausted
from cloud_hub.core.ports import BrokerAddress, TlsFiles
from cloud_hub.core.seldom import Seldom
from cloud_hub.ingest.lander import Landed, Lander
from cloud_hub.ingest.link import Incoming, Link
from cloud_hub.ingest.publisher import Publisher
from cloud_hub.ingest.watermarks import Watermarks
from cloud_hub.services.fleet import FleetService
from cloud_hub.services.rollouts import RolloutService
from cloud_hub.services.telemetry import TelemetryService
from cloud_hub.store.database import Database
from edge_agent.core.clock import Clock

log = logging.getLogger(__name__)

_WAIT_S = 0.5
_PAUSE_MIN_S = 0.1
_PAUSE_MAX_S = 5.0
_JOIN_S = 15.0
_BUG_EVERY_S = 10.0  # a hub that cannot land anything must not fill the disk with saying so

# The database cannot take anything now: no message's fault.
_UNAVAILABLE = (OperationalError, InterfaceError, PoolTimeout, Exhausted, OSError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """Since the start."""

    messages: int = 0
    batches: int = 0  # new ones
    records: int = 0  # in new batches
    duplicates: int = 0  # batches that were there already
    twins: int = 0
    quarantined: int = 0


def tune_process() -> None:
    """For the process that ingests, once: a group makes thousands of tuples that live as long as it does, and looking through
    them for cycles every 700 costs a fifth of the time."""
    gc.set_threshold(20_000, 20, 20)


class IngestService:
    """One subscriber, one writer. What it has not committed it has not acknowledged, so the broker or the device repeats it."""

    def __init__(
        self,
        config: IngestConfig,
        db: Database,
        *,
        fleet: FleetService,
        rollouts: RolloutService,
        telemetry: TelemetryService,
        address: BrokerAddress,
        tls: TlsFiles,
        clock: Clock,
    ) -> None:
        """``address`` and ``tls`` are the broker's ``local`` and ``hub_tls``."""
        self._config = config
        self._lander = Lander(db, fleet=fleet, rollouts=rollouts, telemetry=telemetry, clock=clock)
        self._link = Link(address, tls, queue_messages=config.queue_messages, on_session=self._session_started)
        self._publisher = Publisher(self._link, fleet)
        self._watermarks = Watermarks(db, self._link, telemetry)
        self._counters = Counters()
        self._bugs = Seldom(_BUG_EVERY_S, clock)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def counters(self) -> Counters:
        return self._counters

    @property
    def ready(self) -> bool:
        """Connected to the broker and subscribed."""
        return self._link.ready

    def start(self) -> None:
        """Returns at once; the broker may come later."""
        self._thread = threading.Thread(target=self._run, name="ingest", daemon=True)
        self._thread.start()
        self._publisher.start()
        self._link.start()

    def stop(self) -> None:
        """Finish the group in hand, acknowledge it and disconnect."""
        self._stopping.set()
        self._publisher.stop()
        if self._thread is not None:
            self._thread.join(_JOIN_S)
        self._link.close()

    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive() and self._publisher.alive() and self._link.alive()

    def wake(self) -> None:
        """A desired twin has been committed: publish it now, not at the next look."""
        self._publisher.wake()

    def _session_started(self) -> None:
        self._publisher.session_started()

    def _run(self) -> None:
        pause_s = _PAUSE_MIN_S
        group: Sequence[Incoming] = ()
        while not self._stopping.is_set():
            try:
                group = group or self._receive()
                if group:
                    self._take(group)
                    group = ()
                if self._watermarks.due_in_s() == 0:
                    self._watermarks.send()
                pause_s = _PAUSE_MIN_S
            except _UNAVAILABLE as error:
                log.error("database is not available", extra={"reason": str(error), "waiting": len(group)})
                self._stopping.wait(pause_s)
                pause_s = min(2 * pause_s, _PAUSE_MAX_S)
            except Exception:  # outermost edge of the thread: ingest goes on, whatever one group did
                log.exception("group failed", extra={"messages": len(group)})
                self._stopping.wait(pause_s)
                pause_s = min(2 * pause_s, _PAUSE_MAX_S)

    def _receive(self) -> Sequence[Incoming]:
        due_s = self._watermarks.due_in_s()
        wait_s = _WAIT_S if due_s is None else due_s
        return self._link.receive(self._config.group_messages, wait_s=wait_s, linger_s=self._config.group_wait_s)

    def _take(self, group: Sequence[Incoming]) -> None:
        """Land, acknowledge, count. Raises, with nothing acknowledged, only while the database is not available."""
        landed = self._land(group)
        self._link.ack(group)
        self._count(group, landed)
        self._watermarks.add(landed.streams)

    def _land(self, group: Sequence[Incoming]) -> Landed:
        try:
            return self._lander.land(group)
        except _UNAVAILABLE:
            raise
        except Exception as error:  # a bug that a message brings out: find the message and go on without it
            if len(group) == 1:
                self._lander.refuse(group[0], f"internal error: {type(error).__name__}")
                if (before := self._bugs.turn()) is not None:
                    fields = {"topic": group[0].topic, "bytes": len(group[0].payload), "not_logged": before}
                    log.exception("a good message may be lost to quarantine: report this bug", extra=fields)
                return Landed(quarantined=1)
        landed = Landed()
        for half in (group[: len(group) // 2], group[len(group) // 2 :]):
            landed.add(self._land(half))
        return landed

    def _count(self, group: Sequence[Incoming], landed: Landed) -> None:
        so_far = self._counters
        self._counters = replace(
            so_far,
            messages=so_far.messages + len(group),
            batches=so_far.batches + landed.batches,
            records=so_far.records + landed.records,
            duplicates=so_far.duplicates + landed.duplicates,
            twins=so_far.twins + landed.twins,
            quarantined=so_far.quarantined + landed.quarantined,
        )
        if landed.twins:
            self._publisher.wake()  # a reported twin may have moved a rollout on
