"""A hub that watches a fleet: alerts, their outbox, and a sink that keeps its letters."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cloud_hub.alerting.dispatcher import Dispatcher
from cloud_hub.core.alert_rules import Severity
from cloud_hub.core.alerts import Alert, AlertState
from cloud_hub.core.config import AlertsConfig
from cloud_hub.core.notices import Letter, Route, Sink
from cloud_hub.services.alerts import AlertService
from cloud_hub.services.notices import Outbox
from cloud_hub.store import events, schema, streams
from cloud_hub.store.alerts import Query
from protos.contract.ids import DeviceId, TenantId
from protos.contract.telemetry import Event, to_ms
from protos.contract.twin import Health, Presence, ReportedTwin
from tests.hub.fleet_parts import ADMIN, START, TENANT, Device, Hub

GROUP_S, GIVE_UP_S = 3.0, 3600.0


@dataclass
class KeptSink:
    """Keeps the promise of a sink, or breaks it as it is told: ``trouble`` is raised for the next letters."""

    route: Route = field(default_factory=lambda: Route(sink="kept"))
    letters: list[Letter] = field(default_factory=list)
    trouble: Callable[[Letter], Exception | None] = lambda letter: None
    tries: int = 0
    arrived: threading.Event = field(default_factory=threading.Event)

    def send(self, letter: Letter) -> None:
        self.tries += 1
        error = self.trouble(letter)
        if error is not None:
            raise error
        self.letters.append(letter)
        self.arrived.set()

    def news(self) -> list[tuple[str, str, str]]:
        """(rule, device, what) of all notices, in order."""
        return [(one.alert.rule, one.alert.device, one.news.value) for letter in self.letters for one in letter.notices]


@dataclass
class Watched:
    """``restart`` makes new services on the same database: what is not in it is lost."""

    folder: Path
    url: str = ""
    config: AlertsConfig = field(default_factory=lambda: AlertsConfig(repeat_s=4 * 3600.0))
    sinks: Sequence[Sink] = ()
    figures: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.hub = Hub(self.folder, database_url=self.url)
        self.sink = KeptSink()
        self.sinks = self.sinks or [self.sink]
        self._assemble()
        self.alerts.tick()  # what is there already is no news

    def _assemble(self) -> None:
        hub = self.hub
        self.alerts = AlertService(hub.db, self.config, hub.clock, self.sinks, lambda: self.figures)
        self.outbox = Outbox(hub.db, hub.clock, group_s=GROUP_S, give_up_s=GIVE_UP_S, jitter=lambda: 1.0)
        self.dispatcher = Dispatcher(self.outbox, self.sinks)

    def restart(self) -> None:
        self.hub = self.hub.restarted()
        self._assemble()

    def close(self) -> None:
        self.hub.db.close()

    def device(self, id: str, presence: Presence | None = Presence.ONLINE, **labels: str) -> Device:
        device = self.hub.device(id, **labels)
        if presence is not None:
            device.on(self.hub).online(presence)
        return device

    def tick(self, seconds: float = 0.0) -> None:
        self.hub.clock.advance(seconds)
        self.alerts.tick()

    def send(self, seconds: float = GROUP_S) -> None:
        """Everything that is due after ``seconds``."""
        self.hub.clock.advance(seconds)
        for sink in self.sinks:
            while self.dispatcher.send_next(sink):
                pass

    def report(self, device: Device, **health: Any) -> None:
        now = self.hub.clock.now()
        twin = ReportedTwin(
            generation=0, boot_id="b1", agent_version="1", board=device.board, at=now, health=Health(started_at=START, **health)
        )
        device.on(self.hub).say(twin)

    def event(self, device: str, kind: str, tenant: TenantId = TENANT) -> None:
        now = self.hub.clock.now()
        with self.hub.db.write() as tx:
            events.add(tx, [(tenant, DeviceId(device), Event(sequence=1, at=now, kind=kind), to_ms(now))])

    def dropped(self, device: str, records: int) -> None:
        """Gaps stand in for so many records of its only stream, in all."""
        zeros = ("passes", "pass_ms", "batches", "records", "duplicates", "payload_bytes", "updated_ms")
        row: dict[str, Any] = {"device": device, "epoch": "e1", "lane": 2, "tenant": TENANT, "dropped": records, "early": []}
        row |= {"committed_through": 9, "highest": 9, "folded_through": 9, **dict.fromkeys(zeros, 0)}
        with self.hub.db.write() as tx:
            tx.execute(schema.upsert(streams.streams, ("device", "epoch", "lane")), row)

    def open(self, rule: str = "") -> list[Alert]:
        return self.alerts.list(ADMIN, Query(open_only=True, rule=rule))[0]

    def all(self, rule: str = "") -> list[tuple[str, AlertState]]:
        """Oldest first."""
        return [(alert.device, alert.state) for alert in reversed(self.alerts.list(ADMIN, Query(rule=rule))[0])]


def routed(name: str, severity: Severity = Severity.INFO, *tenants: str) -> Route:
    return Route(sink=name, min_severity=severity, tenants=frozenset(tenants))
