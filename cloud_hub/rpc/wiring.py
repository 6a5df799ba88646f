"""Which servicer answers which service."""

from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from cloud_hub.rpc import (
    admin,
    alerts,
    artifacts,
    datasets,
    drift,
    fleet,
    health,
    packages,
    reflection,
    registry,
    rollouts,
    shadow,
    streams,
    telemetry,
    training,
    trust,
)
from cloud_hub.rpc.addresses import Addresses
from cloud_hub.rpc.audit import AuditServicer
from cloud_hub.rpc.auth import Door
from cloud_hub.rpc.guard import Guard
from cloud_hub.rpc.services import Services
from cloud_hub.rpc.threads import Threads
from edge_agent.core.clock import Clock


def hub_handlers(
    guard: Guard,
    door: Door,
    services: Services,
    addresses: Addresses,
    threads: Threads,
    clock: Clock,
    probe: health.HealthServicer,
) -> "list[grpc.GenericRpcHandler[Any, Any]]":
    """Everything but enrolment."""
    servicers: list[tuple[ServiceDescriptor, object]] = [
        (health.SERVICE, probe),
        (fleet.SERVICE, fleet.FleetServicer(services.fleet, services.enrollment, addresses, threads, services.trust.roots)),
        (registry.SERVICE, registry.RegistryServicer(services.registry, threads)),
        (packages.SERVICE, packages.PackagesServicer(services.packages, threads)),
        (artifacts.SERVICE, artifacts.ArtifactsServicer(services.sources, threads)),
        (rollouts.SERVICE, rollouts.RolloutsServicer(services.rollouts, threads)),
        (shadow.SERVICE, shadow.ShadowsServicer(services.shadows, threads)),
        (training.SERVICE, training.TrainingServicer(services.training, services.reports, threads)),
        (datasets.SERVICE, datasets.DatasetsServicer(services.datasets, services.datasheets, threads)),
        (telemetry.SERVICE, telemetry.TelemetryServicer(services.telemetry, services.readings, clock, threads)),
        (drift.SERVICE, drift.DriftServicer(services.drift, threads)),
        (streams.SERVICE, streams.StreamsServicer(services.streams, threads)),
        (alerts.SERVICE, alerts.AlertsServicer(services.alerts, threads)),
        (admin.SERVICE, admin.AdminServicer(services.users, AuditServicer(services.audit, threads), addresses, threads)),
        (trust.SERVICE, trust.TrustServicer(services.trust, threads)),
    ]
    servicers.append((reflection.SERVICE, reflection.servicer([service for service, _ in servicers])))
    return [guard.service(service, servicer, door) for service, servicer in servicers]
