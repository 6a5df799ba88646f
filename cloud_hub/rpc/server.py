"""Two gRPC servers: one for callers with a certificate, one for devices that want theirs."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

import grpc

from cloud_hub.core.config import GrpcConfig
from cloud_hub.core.metrics import HubMetrics
from cloud_hub.core.model import Role
from cloud_hub.core.ports import BrokerAddress
from cloud_hub.rpc import (
    alerts,
    artifacts,
    datasets,
    drift,
    enrollment,
    fleet,
    health,
    registry,
    rollouts,
    streams,
    telemetry,
    training,
)
from cloud_hub.rpc.addresses import Addresses
from cloud_hub.rpc.auth import Peer
from cloud_hub.rpc.credentials import ServerCertificate
from cloud_hub.rpc.errors import Unauthenticated
from cloud_hub.rpc.guard import Admit, Guard
from cloud_hub.rpc.services import Services
from cloud_hub.rpc.threads import Threads
from cloud_hub.services.fleet import FleetService
from cloud_hub.trust.authority import Authority
from edge_agent.core.clock import Clock
from protos.contract.ids import DeviceId

_log = logging.getLogger(__name__)

_MAX_METADATA_BYTES = 16 << 10
_MAX_STREAMS = 128  # concurrent calls of one connection
_ENROLL_MESSAGE_BYTES = 64 << 10  # strangers speak here
_ENROLL_CONCURRENT = 32
_KEEPALIVE_MS, _KEEPALIVE_TIMEOUT_MS = 30_000, 20_000  # a peer that vanished is noticed, and NATs keep the way open
_MIN_PING_MS = 10_000  # clients may ping this often


class HubServer:
    """Both servers, bound to their ports."""

    def __init__(
        self,
        servers: tuple[grpc.aio.Server, ...],
        addresses: Addresses,
        probe: health.HealthServicer,
        threads: Threads,
    ) -> None:
        self.addresses = addresses
        self._servers = servers
        self._health = probe
        self._threads = threads

    async def start(self) -> None:
        for server in self._servers:
            await server.start()
        _log.info("serving gRPC", extra={"hub": self.addresses.hub, "enroll": self.addresses.enroll})

    async def stop(self, grace_s: float = 5.0) -> None:
        """Take no new calls, let running ones end within ``grace_s``, cancel the rest."""
        self._health.stop()
        for server in self._servers:
            await server.stop(grace_s)
        await asyncio.to_thread(self._threads.close)  # use cases that run end; the loop goes on telling their callers


@dataclass(frozen=True, slots=True)
class _Port:
    server: grpc.aio.Server
    number: int


def build_server(
    services: Services,
    *,
    authority: Authority,
    broker: BrokerAddress,
    config: GrpcConfig,
    clock: Clock,
    metrics: HubMetrics | None = None,
) -> HubServer:
    """Bind both ports and wire every service. Call it on the event loop that will serve.

    Raises:
        RuntimeError: a port is in use.
    """
    certificate = ServerCertificate(authority, config.names, clock)
    hub = _bind(config, config.port, certificate, client_certificates=True)
    enroll = _bind(config, config.enroll_port, certificate, client_certificates=False)
    addresses = Addresses(
        hub=f"{config.names[0]}:{hub.number}",
        enroll=f"{config.names[0]}:{enroll.number}",
        broker=broker,
    )
    threads = Threads(config.threads)
    guard = Guard(admit=_device_gate(services.fleet, threads), clock=clock, metrics=metrics or HubMetrics())
    probe = health.HealthServicer()
    hub.server.add_generic_rpc_handlers(_hub_handlers(guard, services, addresses, threads, clock, probe))
    stranger = enrollment.EnrollmentServicer(services.enrollment, addresses, threads)
    enroll.server.add_generic_rpc_handlers([guard.service(enrollment.SERVICE, stranger), guard.service(health.SERVICE, probe)])
    return HubServer((enroll.server, hub.server), addresses, probe, threads)


def _hub_handlers(
    guard: Guard, services: Services, addresses: Addresses, threads: Threads, clock: Clock, probe: health.HealthServicer
) -> "list[grpc.GenericRpcHandler[Any, Any]]":
    """Everything but enrolment."""
    return [
        guard.service(health.SERVICE, probe),
        guard.service(fleet.SERVICE, fleet.FleetServicer(services.fleet, services.enrollment, addresses, threads)),
        guard.service(registry.SERVICE, registry.RegistryServicer(services.registry, threads)),
        guard.service(artifacts.SERVICE, artifacts.ArtifactsServicer(services.registry, services.artifacts, threads)),
        guard.service(rollouts.SERVICE, rollouts.RolloutsServicer(services.rollouts, threads)),
        guard.service(training.SERVICE, training.TrainingServicer(services.training, threads)),
        guard.service(datasets.SERVICE, datasets.DatasetsServicer(services.datasets, threads)),
        guard.service(telemetry.SERVICE, telemetry.TelemetryServicer(services.telemetry, services.readings, clock, threads)),
        guard.service(drift.SERVICE, drift.DriftServicer(services.drift, threads)),
        guard.service(streams.SERVICE, streams.StreamsServicer(services.streams, threads)),
        guard.service(alerts.SERVICE, alerts.AlertsServicer(services.alerts, threads)),
    ]


def _bind(config: GrpcConfig, port: int, certificate: ServerCertificate, *, client_certificates: bool) -> _Port:
    message_bytes = config.max_message_bytes if client_certificates else _ENROLL_MESSAGE_BYTES
    server = grpc.aio.server(
        maximum_concurrent_rpcs=config.max_concurrent if client_certificates else _ENROLL_CONCURRENT,
        options=[
            ("grpc.max_receive_message_length", message_bytes),
            ("grpc.max_send_message_length", config.max_message_bytes),
            ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
            ("grpc.absolute_max_metadata_size", _MAX_METADATA_BYTES),
            ("grpc.max_concurrent_streams", _MAX_STREAMS),
            ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
            ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
            ("grpc.http2.min_ping_interval_without_data_ms", _MIN_PING_MS),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.so_reuseport", 0),  # a second hub on the port is an error, not a silent sharer
        ],
    )
    credentials = certificate.credentials(client_certificates=client_certificates)
    return _Port(server, server.add_secure_port(f"{config.host}:{port}", credentials))


def _device_gate(fleet: FleetService, threads: Threads) -> Admit:
    async def admit(peer: Peer) -> None:
        """A deleted or re-enrolled device's old certificate stays valid for TLS: the fleet has the last word."""
        who = peer.principal
        if who.role is Role.DEVICE and not await threads.call(fleet.certified, DeviceId(who.name), peer.serial):
            raise Unauthenticated(f"this is not the current certificate of device {who.name}: enrol it again")

    return admit
