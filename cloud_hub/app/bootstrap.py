"""Composition root: the one place that knows every part of the hub."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cloud_hub.alerting.dispatcher import Dispatcher
from cloud_hub.alerting.sinks import open_sinks
from cloud_hub.app import setup
from cloud_hub.app.alerts import HubItself
from cloud_hub.app.datasheets import DatasheetProcess
from cloud_hub.app.monitor import Monitor
from cloud_hub.app.runner import JobRunner
from cloud_hub.app.scheduler import Tick
from cloud_hub.archive.engine import Engine
from cloud_hub.archive.files import open_files
from cloud_hub.archive.upkeep import Upkeep
from cloud_hub.broker.supervisor import open_broker
from cloud_hub.core import tasks
from cloud_hub.core.config import HubConfig
from cloud_hub.core.metrics import HubMetrics
from cloud_hub.core.model import DriftEpisode
from cloud_hub.core.notices import Sink
from cloud_hub.core.ports import Broker
from cloud_hub.core.steady import SteadyClock
from cloud_hub.ingest.service import IngestService, IngestServices
from cloud_hub.rpc.services import Services
from cloud_hub.services.access import AccessService
from cloud_hub.services.alerts import AlertService
from cloud_hub.services.audit import AuditService
from cloud_hub.services.datasets import DatasetService
from cloud_hub.services.datasheets import DatasheetService
from cloud_hub.services.deltas import DeltaService
from cloud_hub.services.drift import DriftService
from cloud_hub.services.enrollment import EnrollmentService
from cloud_hub.services.fleet import FleetService
from cloud_hub.services.folding import Fold
from cloud_hub.services.gate_judge import GateJudge
from cloud_hub.services.notices import Outbox
from cloud_hub.services.packages import PackageService
from cloud_hub.services.readings import ReadingsService
from cloud_hub.services.registry import RegistryService
from cloud_hub.services.reports import ReportService
from cloud_hub.services.revocation import Revocation
from cloud_hub.services.rollouts import RolloutService
from cloud_hub.services.shadow import ShadowService
from cloud_hub.services.sources import DELTAS, SourceService
from cloud_hub.services.streams import StreamService
from cloud_hub.services.telemetry import TelemetryService
from cloud_hub.services.training import TrainingService
from cloud_hub.services.trust import TrustService
from cloud_hub.services.users import UserService
from cloud_hub.store import events, quarantine, stream_windows
from cloud_hub.store.artifacts import ArtifactStore
from cloud_hub.store.database import Database, Tx
from cloud_hub.store.web import open_web
from cloud_hub.trust.authority import Authority
from edge_agent.core.beats import Beats
from edge_agent.core.clock import Clock, SystemClock

_SPILL = "query-spill"
_ALERT_TICK_S = 10.0  # a look at ten thousand devices takes most of a second of one core
_COPIES_TICK_S = 1.0
_DELTAS_TICK_S = 1.0
_DRIFT_TICK_S = 1.0
_FOLD_TICK_S = 0.5
_GATES_TICK_S = 2.0
_REVOCATION_TICK_S = 1.0  # a revoked device is off the broker within five
_RENEWAL_TICK_S = 60.0
_ROLLOUT_TICK_S = 1.0  # soak times are given in seconds
_TRAINING_TICK_S = 2.0
_SIGNING_TICK_S = 0.5  # a version that was published can be rolled out within a second
_AUDIT_TICK_S = 60.0
_TIDY_TICK_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    """Everything a hub is made of, nothing started."""

    config: HubConfig
    clock: Clock
    steady: Clock  # of everything that is signed or expires
    database: Database
    authority: Authority
    services: Services
    broker: Broker
    ingest: IngestService
    runner: JobRunner
    revocation: Revocation
    ticks: Mapping[str, tuple[float, Tick]]
    metrics: HubMetrics
    beats: Beats
    monitor: Monitor
    dispatcher: Dispatcher


def assemble(config: HubConfig, config_path: Path | None, *, epoch: int | None = None) -> Hub:
    """``config_path`` is what job processes read their configuration from. ``epoch``: of the term in which all of it writes.

    Raises HubError.
    """
    tasks.register(config.training.task_files)
    clock = SystemClock()
    steady = SteadyClock(clock)
    database, authority = setup.open_database(config, epoch=epoch), setup.open_authority(config, steady)
    itself = HubItself(_certificates(config.data_dir), clock)
    sinks = open_sinks(config.alerts, itself.publish)
    services = make_services(config, database, authority, clock, sinks, itself.figures, steady)
    broker = open_broker(config.broker, config.data_dir, authority, config.grpc.names)
    revocation = Revocation(database, authority, broker, steady.now())
    metrics = HubMetrics()
    ingest = IngestService(
        config.ingest,
        database,
        IngestServices(fleet=services.fleet, rollouts=services.rollouts, telemetry=services.telemetry),
        address=broker.local,
        tls=broker.hub_tls,
        share_tls=broker.ingest_tls,
        clock=clock,
        metrics=metrics,
    )
    itself.ingest = ingest
    itself.parts = (lambda: revocation.figures(steady.now()), services.trust.figures, services.audit.figures)
    beats = Beats(clock)
    outbox = Outbox(database, clock, group_s=config.alerts.group_s, give_up_s=config.alerts.give_up_s)
    dispatcher = Dispatcher(outbox, sinks)
    runner = JobRunner(services.training, config.training, config_path=config_path, data_dir=config.data_dir, epoch=epoch)
    return Hub(
        config=config,
        clock=clock,
        steady=steady,
        database=database,
        authority=authority,
        services=services,
        broker=broker,
        ingest=ingest,
        runner=runner,
        revocation=revocation,
        ticks={
            "alerts": (_ALERT_TICK_S, services.alerts.tick),
            "audit": (_AUDIT_TICK_S, services.audit.tick),
            "archive": (config.telemetry.compact_every_s, _upkeep(config, database, clock).tick),
            "copies": (_COPIES_TICK_S, services.sources.tick),
            "deltas": (_DELTAS_TICK_S, services.deltas.tick),
            "drift": (_DRIFT_TICK_S, services.drift.tick),
            "fold": (_FOLD_TICK_S, Fold(database, config.drift, clock, listeners=(services.alerts,), metrics=metrics).tick),
            "gates": (_GATES_TICK_S, GateJudge(database, _engine(config), clock).tick),
            "renewal": (_RENEWAL_TICK_S, lambda _: revocation.renew(steady.now())),
            "revocation": (_REVOCATION_TICK_S, lambda _: revocation.tick(steady.now())),
            "rollouts": (_ROLLOUT_TICK_S, services.rollouts.tick),
            "signing": (_SIGNING_TICK_S, lambda _: services.trust.tick(steady.now())),
            "training": (_TRAINING_TICK_S, services.training.tick),
            "tidy": (_TIDY_TICK_S, lambda _: services.enrollment.tidy()),
        },
        metrics=metrics,
        beats=beats,
        monitor=Monitor(
            metrics,
            database=database,
            broker=broker,
            ingest=ingest,
            beats=beats,
            certificates=_certificates(config.data_dir),
            clock=clock,
            alive={"alert sinks": dispatcher.alive, "training": runner.alive},
        ),
        dispatcher=dispatcher,
    )


def _forget_quarantined(tx: Tx, before_ms: int, limit: int) -> int:
    """All at once: they are bounded."""
    quarantine.forget(tx, before_ms)
    return 0


def _upkeep(config: HubConfig, database: Database, clock: Clock) -> Upkeep:
    shutil.rmtree(config.data_dir / _SPILL, ignore_errors=True)  # of queries that a killed hub left
    files = open_files(config.telemetry, config.data_dir)
    return Upkeep(database, files, config.telemetry, clock, forget=(events.forget, stream_windows.forget, _forget_quarantined))


def _engine(config: HubConfig) -> Engine:
    return Engine(open_files(config.telemetry, config.data_dir), config.telemetry, config.data_dir / _SPILL)


def _certificates(folder: Path) -> dict[str, Path]:
    """Those that are renewed by starting the hub again, or never."""
    tls = folder / "broker" / "tls"
    return {"authority": tls / "ca.pem", "broker": tls / "server.pem", "broker client": tls / "hub.pem"}


def make_services(
    config: HubConfig,
    database: Database,
    authority: Authority,
    clock: Clock,
    sinks: Sequence[Sink] = (),
    figures: Callable[[], Mapping[str, float]] = dict,
    steady: Clock | None = None,
) -> Services:
    """``steady``: the time of what is signed or expires; default: ``clock``."""
    steady = steady or clock
    folder = config.data_dir / "artifacts"
    artifacts = ArtifactStore(folder)
    deltas = DeltaService(database, artifacts, ArtifactStore(folder / DELTAS), config.artifacts, clock)
    access = AccessService(database, steady)
    fleet = FleetService(database, clock, on_revoked=access.changed)
    registry = RegistryService(database, artifacts, clock)
    packages = PackageService(database, artifacts, clock)
    training = TrainingService(database, clock, config.training)
    datasets = DatasetService(database, artifacts, clock)

    def retrain(episode: DriftEpisode) -> str:
        return training.request(episode.model, "drift", f"{episode.device}: {episode.reason}", episode.tenant)

    return Services(
        access=access,
        users=UserService(database, authority, access, steady),
        audit=AuditService(database, clock),
        trust=TrustService(database, config.data_dir / "trust" / "keys", steady),
        enrollment=EnrollmentService(database, authority, steady, config, on_revoked=access.changed),
        fleet=fleet,
        registry=registry,
        packages=packages,
        artifacts=artifacts,
        deltas=deltas,
        sources=SourceService(database, registry, artifacts, deltas, open_web(config.artifacts, folder), clock),
        rollouts=RolloutService(database, registry, fleet, clock, packages),
        shadows=ShadowService(database, registry, fleet, clock),
        training=training,
        reports=ReportService(database, artifacts),
        datasets=datasets,
        datasheets=DatasheetService(datasets.versions, DatasheetProcess(folder)),
        telemetry=TelemetryService(database, clock),
        readings=ReadingsService(database, _engine(config), clock),
        drift=DriftService(database, config.drift, retrain, clock),
        streams=StreamService(database, clock),
        alerts=AlertService(database, config.alerts, clock, sinks, figures),
    )


def make_ingest_services(config: HubConfig, database: Database, clock: Clock) -> IngestServices:
    """For a process that only ingests."""
    fleet = FleetService(database, clock)
    artifacts = ArtifactStore(config.data_dir / "artifacts")
    registry, packages = RegistryService(database, artifacts, clock), PackageService(database, artifacts, clock)
    return IngestServices(
        fleet=fleet,
        rollouts=RolloutService(database, registry, fleet, clock, packages),
        telemetry=TelemetryService(database, clock),
    )
