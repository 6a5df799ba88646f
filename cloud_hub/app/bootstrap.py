"""Composition root: the one place that knows every part of the hub."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cloud_hub.app import setup
from cloud_hub.app.runner import JobRunner
from cloud_hub.app.scheduler import Tick
from cloud_hub.broker.supervisor import open_broker
from cloud_hub.core.config import HubConfig
from cloud_hub.core.model import DriftEpisode
from cloud_hub.core.ports import Broker
from cloud_hub.ingest.service import IngestService
from cloud_hub.rpc.services import Services
from cloud_hub.services.datasets import DatasetService
from cloud_hub.services.drift import DriftService
from cloud_hub.services.enrollment import EnrollmentService
from cloud_hub.services.fleet import FleetService
from cloud_hub.services.registry import RegistryService
from cloud_hub.services.rollouts import RolloutService
from cloud_hub.services.telemetry import TelemetryService
from cloud_hub.services.training import TrainingService
from cloud_hub.store.artifacts import ArtifactStore
from cloud_hub.store.database import Database
from cloud_hub.trust.authority import Authority
from edge_agent.core.clock import Clock, SystemClock

_DRIFT_TICK_S = 1.0
_ROLLOUT_TICK_S = 1.0  # soak times are given in seconds
_TRAINING_TICK_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    """Everything a hub is made of, nothing started."""

    config: HubConfig
    clock: Clock
    database: Database
    authority: Authority
    services: Services
    broker: Broker
    ingest: IngestService
    runner: JobRunner
    ticks: Mapping[str, tuple[float, Tick]]


def assemble(config: HubConfig, config_path: Path | None) -> Hub:
    """``config_path`` is what job processes read their configuration from. Raises HubError."""
    clock, database, authority = SystemClock(), setup.open_database(config), setup.open_authority(config)
    services = make_services(config, database, authority, clock)
    broker = open_broker(config.broker, config.data_dir, authority, config.grpc.names)
    return Hub(
        config=config,
        clock=clock,
        database=database,
        authority=authority,
        services=services,
        broker=broker,
        ingest=IngestService(
            config.ingest,
            database,
            fleet=services.fleet,
            rollouts=services.rollouts,
            telemetry=services.telemetry,
            address=broker.local,
            tls=broker.hub_tls,
            clock=clock,
        ),
        runner=JobRunner(services.training, config.training, config_path=config_path, data_dir=config.data_dir),
        ticks={
            "drift": (_DRIFT_TICK_S, services.drift.tick),
            "rollouts": (_ROLLOUT_TICK_S, services.rollouts.tick),
            "training": (_TRAINING_TICK_S, services.training.tick),
        },
    )


def make_services(config: HubConfig, database: Database, authority: Authority, clock: Clock) -> Services:
    artifacts = ArtifactStore(config.data_dir / "artifacts")
    fleet = FleetService(database, clock)
    registry = RegistryService(database, artifacts, clock)
    training = TrainingService(database, clock, config.training)

    def retrain(episode: DriftEpisode) -> str:
        return training.request(episode.model, "drift", f"{episode.device}: {episode.reason}", episode.tenant)

    return Services(
        enrollment=EnrollmentService(database, authority, clock, config),
        fleet=fleet,
        registry=registry,
        artifacts=artifacts,
        rollouts=RolloutService(database, registry, fleet, clock),
        training=training,
        datasets=DatasetService(database, artifacts, clock),
        telemetry=TelemetryService(database, clock),
        drift=DriftService(database, config.drift, retrain, clock),
    )
