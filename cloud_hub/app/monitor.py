"""What the hub tells monitoring: /metrics, /livez and /readyz."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from cryptography import x509
from prometheus_client import GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cloud_hub.core.config import MetricsConfig
from cloud_hub.core.errors import NotReady
from cloud_hub.core.metrics import NAMESPACE, HubMetrics
from cloud_hub.core.ports import Broker
from cloud_hub.ingest.intake import Counters, Intake
from cloud_hub.ingest.service import IngestService
from cloud_hub.store.database import Database
from cloud_hub.store.standing import Standing, standing
from edge_agent.core.beats import Beats
from edge_agent.core.clock import Clock
from edge_agent.core.http import HttpServer, Page, Reply, verdict
from edge_agent.core.lately import Lately

_FRESH_S = 5.0  # values are asked for every 15 s as a rule, by more than one scraper perhaps
_WAIT_S = 2.0  # a scrape waits for the database and for the broker so long each; Prometheus gives up after 10 s
_STALE_S = 30.0  # a database that has not answered for so long is away

_INGESTED = {
    "messages": "Messages taken from the broker",
    "batches": "New batches stored",
    "records": "Records in new batches",
    "duplicates": "Batches that were stored before",
    "twins": "Status messages and reported twins",
    "quarantined": "Messages put into quarantine",
    "throttled": "Messages above their device's quota: not stored, the device sends them again",
    "deferred": "Batches behind too many holes: not stored, the device sends them again",
}


class Monitor:
    """Everything that is told; for any thread. ``Lately`` keeps a slow database or broker from holding up a scrape."""

    def __init__(
        self,
        metrics: HubMetrics,
        *,
        database: Database,
        broker: Broker | None,
        ingest: IngestService | Intake,
        beats: Beats,
        certificates: Mapping[str, Path],
        clock: Clock,
        alive: Mapping[str, Callable[[], bool]] | None = None,
    ) -> None:
        """``broker``: None where another process runs it, which serves gRPC too. ``certificates``: PEM files by purpose.
        ``alive``: of other parts that have threads of their own, whether all of these run."""
        self._metrics, self._ingest, self._beats, self._clock = metrics, ingest, beats, clock
        self._alive = {"ingest": ingest.alive, **(alive or {})}
        self.running = False  # all of it: set once it has been started, and unset before it is stopped
        self._parts = ("database", "ingest") if broker is None else ("database", "ingest", "broker", "grpc")
        self._standing = Lately("database", lambda: _read(database), clock, fresh_s=_FRESH_S, wait_s=_WAIT_S)
        self._broker = (
            Lately("broker", broker.alive, clock, fresh_s=_FRESH_S, wait_s=_WAIT_S, share=1) if broker is not None else None
        )
        self._certificates = Lately("certificates", lambda: expiries(certificates), clock, fresh_s=60.0, wait_s=_WAIT_S)
        registry = metrics.registry
        registry.register(_Collector(self))
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)

    def pages(self) -> Mapping[str, Page]:
        return {
            "/metrics": self._expose,
            "/livez": lambda _: verdict(self.dead()),
            "/readyz": lambda _: verdict(self.unready()),
        }

    def dead(self) -> Mapping[str, str]:
        """Why this process should be started again; empty: no reason."""
        problems = dict(self._beats.late())
        if self.running:
            problems |= {name: "a thread has ended" for name, alive in self._alive.items() if not alive()}
        return problems

    def unready(self) -> Mapping[str, str]:
        """Why this hub cannot do its work now; empty: it can."""
        problems = dict(self.dead())
        self._standing.get()
        if self._standing.age_s > _STALE_S or self._standing.problem:
            problems["database"] = self._standing.problem or f"no answer for more than {_STALE_S:.0f} s"
        if self._broker is not None and not self._broker.get():
            problems["broker"] = "cannot be reached"
        if not self._ingest.ready:
            problems.setdefault("ingest", "not connected to the broker")
        if not self.running and "grpc" in self._parts:
            problems["grpc"] = "not serving"
        return problems

    def _expose(self, headers: Mapping[str, str]) -> Reply:
        encode, content_type = choose_encoder(headers.get("accept", ""))
        return Reply(body=encode(self._metrics.registry), content_type=content_type)

    def families(self) -> Iterator[Metric]:
        """What is not measured but looked up when it is asked for."""
        yield _gauges("build_info", "Always 1", "version", {version("tideline"): 1})
        yield from _ingested(self._ingest.counters)
        yield _gauge("ingest_connected", "Whether ingest is subscribed at the broker", float(self._ingest.ready))
        unready = self.unready()
        yield _gauges("ready", "Whether it can do its work", "part", {part: part not in unready for part in self._parts})
        if self._broker is not None:
            yield _gauge("broker_up", "Whether the broker takes connections", float(bool(self._broker.get())))
        now = self._clock.now()
        left = {name: (at - now).total_seconds() for name, at in (self._certificates.get() or {}).items()}
        yield _gauges("certificate_expiry_seconds", "Until a certificate of the hub expires", "certificate", left)
        yield from self._stored(now)

    def _stored(self, now: datetime) -> Iterator[Metric]:
        counts = self._standing.get()
        yield _counter("collect_errors", "Looks into the database that failed or took too long", self._standing.errors)
        if counts is None:
            return
        yield _gauge("collect_age_seconds", "How old the values from the database are", self._standing.age_s)
        for name, text, label, values in (
            ("devices", "Devices by presence", "presence", counts.devices),
            ("jobs", "Training jobs by state", "state", counts.jobs),
            ("rollouts", "Rollouts by state", "state", counts.rollouts),
            ("alerts_open", "Alerts that are not resolved", "severity", counts.open_alerts),
            ("alert_notices", "Notices of alerts that wait to be told, or were given up", "state", counts.notices),
            ("archive_files", "Files of the archive", "kind", {kind: one.files for kind, one in counts.archived.items()}),
            ("archive_rows", "Rows in these", "kind", {kind: one.rows for kind, one in counts.archived.items()}),
            ("archive_bytes", "Bytes of these", "kind", {kind: one.bytes for kind, one in counts.archived.items()}),
        ):
            yield _gauges(name, text, label, values)
        yield _gauge("drift_episodes_open", "Episodes of drift that are open", counts.open_episodes)
        yield _gauge("quarantine_messages", "Different messages kept in quarantine", counts.quarantined)
        yield _gauge("landing_batches", "Batches that wait for the archive", counts.landing_batches)
        yield _gauge("landing_bytes", "Payload of batches that wait for the archive", counts.landing_bytes)
        yield _gauge("fold_lag_records", "Records stored and not unfolded yet", counts.unfolded_records)
        since_ms = counts.unfolded_since_ms
        lag_s = 0.0 if since_ms is None else max(0.0, now.timestamp() - since_ms / 1000)
        yield _gauge("fold_lag_seconds", "How long the oldest batch that is not unfolded has been here", lag_s)


class _Collector(Collector):
    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor

    def collect(self) -> Iterable[Metric]:
        return self._monitor.families()


@contextlib.contextmanager
def serving(config: MetricsConfig, pages: Mapping[str, Page]) -> Iterator[int]:
    """Answers over HTTP on the port it gives. Raises NotReady where it cannot listen."""
    try:
        server = HttpServer(config.host, config.port, pages)
    except OSError as error:
        why = error.strerror or error
        raise NotReady(
            f"metrics cannot listen on {config.host}:{config.port}: {why}; end what does, or set metrics.port"
        ) from error
    server.start()
    try:
        yield server.port
    finally:
        server.stop()


def _read(database: Database) -> Standing:
    with database.read() as tx:
        return standing(tx)


def expiries(certificates: Mapping[str, Path]) -> dict[str, datetime]:
    """When each of them ends; one that is not there is left out."""
    return {
        name: x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
        for name, path in certificates.items()
        if path.exists()
    }


def _ingested(counters: Counters) -> Iterator[Metric]:
    """Whatever ingest counts."""
    for one in fields(counters):
        text = _INGESTED.get(one.name, one.name.replace("_", " "))
        yield _counter(f"ingest_{one.name}", text, getattr(counters, one.name))


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"{NAMESPACE}_{name}", text, value=value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{NAMESPACE}_{name}", text, value=value)


def _gauges(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    """``values`` by the value of the label."""
    family = GaugeMetricFamily(f"{NAMESPACE}_{name}", text, labels=[label])
    for combination, number in values.items():
        family.add_metric([combination], float(number))
    return family
