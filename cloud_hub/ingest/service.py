"""What ingests: the hub, with its share of the telemetry, all twins and the way back; or a replica, with a share only."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from cloud_hub.core.config import IngestConfig
from cloud_hub.core.metrics import HubMetrics
from cloud_hub.core.ports import BrokerAddress, TlsFiles
from cloud_hub.ingest.intake import Counters, Intake
from cloud_hub.ingest.lander import Lander
from cloud_hub.ingest.link import HUB_CLIENT_ID, Link
from cloud_hub.ingest.publisher import Publisher
from cloud_hub.ingest.watermarks import Watermarks
from cloud_hub.services.fleet import FleetService
from cloud_hub.services.rollouts import RolloutService
from cloud_hub.services.telemetry import TelemetryService
from cloud_hub.store.database import Database
from cloud_hub.trust.authority import ingest_name
from edge_agent.core.clock import Clock
from protos.contract import topics


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestServices:
    """The use cases that messages go to."""

    fleet: FleetService
    rollouts: RolloutService
    telemetry: TelemetryService


class IngestService:
    """Twins need their order and are few: only the hub takes them, over a session that outlives it. Telemetry is shared out
    among the hub and its replicas, where the broker can do that."""

    def __init__(
        self,
        config: IngestConfig,
        db: Database,
        services: IngestServices,
        *,
        address: BrokerAddress,
        tls: TlsFiles,
        share_tls: TlsFiles | None,
        clock: Clock,
        metrics: HubMetrics | None = None,
    ) -> None:
        """``address``, ``tls`` and ``share_tls`` are the broker's ``local``, ``hub_tls`` and ``ingest_tls``."""
        metrics = metrics or HubMetrics()
        self._own = own = Link(
            address,
            tls,
            HUB_CLIENT_ID,
            (topics.HUB_SUBSCRIPTION if share_tls is None else topics.TWIN_SUBSCRIPTION,),
            limits=config,
            persistent=True,
            on_session=lambda: self._publisher.session_started(),
        )
        self._publisher = Publisher(own, services.fleet)
        self._intakes = [_intake(config, db, services, own, clock=clock, metrics=metrics, on_twins=self.wake)]
        if share_tls is not None:
            self._intakes.append(share_intake(config, db, services, address, share_tls, number=1, clock=clock, metrics=metrics))

    @property
    def counters(self) -> Counters:
        return sum((intake.counters for intake in self._intakes), Counters())

    @property
    def ready(self) -> bool:
        """Connected to the broker and subscribed."""
        return all(intake.ready for intake in self._intakes)

    def start(self) -> None:
        """Returns at once; the broker may come later."""
        self._publisher.start()
        for intake in self._intakes:
            intake.start()

    def stop(self) -> None:
        """Finish the groups in hand, acknowledge them and disconnect."""
        self._publisher.stop()
        for intake in self._intakes:
            intake.stop()

    def alive(self) -> bool:
        return self._publisher.alive() and all(intake.alive() for intake in self._intakes)

    def publish(self, topic: str, payload: bytes, *, retain: bool, timeout_s: float) -> bool:
        """Over the hub's own session, at least once: True when the broker has acknowledged it within ``timeout_s``."""
        info = self._own.publish(topic, payload, retain=retain)
        if info is None:
            return False
        with contextlib.suppress(RuntimeError, ValueError):  # the connection is lost, or its queue is full
            info.wait_for_publish(timeout_s)
            return info.is_published()
        return False

    def wake(self) -> None:
        """A desired twin has been committed, or a reported one has moved a rollout on: publish it now, not at the next look."""
        self._publisher.wake()


def share_intake(
    config: IngestConfig,
    db: Database,
    services: IngestServices,
    address: BrokerAddress,
    tls: TlsFiles,
    *,
    number: int,
    clock: Clock,
    metrics: HubMetrics,
) -> Intake:
    """The ``number``-th share of the telemetry.

    The first, the hub's, waits in the broker while the hub is started again. That of a replica does not: whether it comes back
    nobody knows, and what it had the devices send again.
    """
    subscription = (topics.TELEMETRY_SUBSCRIPTION,)
    link = Link(address, tls, ingest_name(number), subscription, limits=config, persistent=number == 1)
    return _intake(config, db, services, link, clock=clock, metrics=metrics)


def _intake(
    config: IngestConfig,
    db: Database,
    services: IngestServices,
    link: Link,
    *,
    clock: Clock,
    metrics: HubMetrics,
    on_twins: Callable[[], None] = lambda: None,
) -> Intake:
    lander = Lander(db, fleet=services.fleet, rollouts=services.rollouts, telemetry=services.telemetry, clock=clock)
    watermarks = Watermarks(db, link, services.telemetry)
    return Intake(config, link, lander, watermarks, clock=clock, metrics=metrics, on_twins=on_twins)
