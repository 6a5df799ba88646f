"""Three gRPC servers: for callers with a certificate, for users with a token, and for devices that want a certificate."""

import asyncio
import ipaddress
import logging
from dataclasses import dataclass

import grpc

from cloud_hub.core.config import GrpcConfig
from cloud_hub.core.errors import NotReady
from cloud_hub.core.metrics import HubMetrics
from cloud_hub.core.ports import BrokerAddress
from cloud_hub.rpc import enrollment, health
from cloud_hub.rpc.addresses import Addresses
from cloud_hub.rpc.admission import Admission
from cloud_hub.rpc.auth import Certificates, Door, bearer, nothing
from cloud_hub.rpc.credentials import ServerCertificate
from cloud_hub.rpc.guard import Guard
from cloud_hub.rpc.record import Record
from cloud_hub.rpc.services import Services
from cloud_hub.rpc.threads import Threads
from cloud_hub.rpc.wiring import hub_handlers
from cloud_hub.trust.authority import Authority
from edge_agent.core.clock import Clock

_log = logging.getLogger(__name__)

_MAX_METADATA_BYTES = 16 << 10
_MAX_STREAMS = 128  # concurrent calls of one connection
_ENROLL_MESSAGE_BYTES = 64 << 10  # strangers speak here
_ENROLL_CONCURRENT = 32
_KEEPALIVE_MS, _KEEPALIVE_TIMEOUT_MS = 30_000, 20_000  # a peer that vanished is noticed, and NATs keep the way open
_MIN_PING_MS = 10_000  # clients may ping this often
_HANDSHAKE_MS = 20_000
_STRANGER_CONNECTIONS = 1024  # of a port where anyone can connect
_STRANGER_IDLE_MS = 300_000


class HubServer:
    """All servers, bound to their ports."""

    def __init__(
        self,
        servers: tuple[grpc.aio.Server, ...],
        addresses: Addresses,
        probe: health.HealthServicer,
        threads: Threads,
        admission: Admission,
        record: Record,
    ) -> None:
        self.addresses = addresses
        self._servers = servers
        self._health = probe
        self._threads = threads
        self._admission = admission
        self._record = record

    async def start(self) -> None:
        self._admission.start()
        for server in self._servers:
            await server.start()
        told = self.addresses
        _log.info("serving gRPC", extra={"hub": told.hub, "enroll": told.enroll, "tokens": told.tokens})

    async def stop(self, grace_s: float = 5.0) -> None:
        """Take no new calls, let running ones end within ``grace_s``, cancel the rest."""
        self._health.stop()
        for server in self._servers:
            await server.stop(grace_s)
        await self._admission.stop()
        await self._record.settle()
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
    insecure_dev: bool = False,
) -> HubServer:
    """Bind the ports and wire every service. Call it on the event loop that will serve.

    Args:
        insecure_dev: tokens travel in plain text, so nothing but this machine may listen.
    Raises:
        RuntimeError: a port is in use.
        NotReady: ``insecure_dev`` on an address that others can reach.
    """
    if insecure_dev:
        _check_alone(config)
    certificate = ServerCertificate(authority, config.names, clock)
    hub = _bind(config, config.port, certificate.credentials(client_certificates=True))
    enroll = _bind(config, config.enroll_port, certificate.credentials(client_certificates=False), _enrolment(config))
    tls = None if insecure_dev else certificate.credentials(client_certificates=False)
    tokens = _bind(config, config.token_port, tls, _strangers())
    addresses = Addresses(
        hub=f"{config.names[0]}:{hub.number}",
        enroll=f"{config.names[0]}:{enroll.number}",
        tokens=f"{config.names[0]}:{tokens.number}",
        broker=broker,
    )
    threads, probe = Threads(config.threads), health.HealthServicer()
    admission, record = Admission(services.access, threads, clock), Record(services.audit, threads, clock)
    guard = Guard(
        admission=admission,
        record=record,
        clock=clock,
        metrics=(metrics or HubMetrics()).calls,
        user_calls=max(1, config.max_concurrent // 2),
    )
    certified = Door(Certificates().shown, "a client certificate", strangers=False)
    bearers = Door(bearer, "a bearer token", strangers=True)
    strangers = Door(nothing, "a client certificate", strangers=True)
    for door, port in ((certified, hub), (bearers, tokens)):
        port.server.add_generic_rpc_handlers(hub_handlers(guard, door, services, addresses, threads, clock, probe))
    enroll.server.add_generic_rpc_handlers(
        [
            guard.service(
                enrollment.SERVICE, enrollment.EnrollmentServicer(services.enrollment, addresses, threads), strangers
            ),
            guard.service(health.SERVICE, probe, strangers),
        ]
    )
    return HubServer((enroll.server, tokens.server, hub.server), addresses, probe, threads, admission, record)


def _bind(
    config: GrpcConfig, port: int, credentials: grpc.ServerCredentials | None, limits: dict[str, int] | None = None
) -> _Port:
    """``credentials`` None: plain text. ``limits`` of this port, where they differ."""
    chosen = {
        "concurrent": config.max_concurrent,
        "grpc.max_receive_message_length": config.max_message_bytes,  # of what a compressed message unfolds to as well
        "grpc.max_send_message_length": config.max_message_bytes,
        "grpc.max_metadata_size": _MAX_METADATA_BYTES,
        "grpc.absolute_max_metadata_size": _MAX_METADATA_BYTES,
        "grpc.max_concurrent_streams": _MAX_STREAMS,
        "grpc.keepalive_time_ms": _KEEPALIVE_MS,
        "grpc.keepalive_timeout_ms": _KEEPALIVE_TIMEOUT_MS,
        "grpc.http2.min_ping_interval_without_data_ms": _MIN_PING_MS,
        "grpc.keepalive_permit_without_calls": 1,
        "grpc.server_handshake_timeout_ms": _HANDSHAKE_MS,
        "grpc.so_reuseport": 0,  # a second hub on the port is an error, not a silent sharer
    } | (limits or {})
    server = grpc.aio.server(maximum_concurrent_rpcs=chosen.pop("concurrent"), options=list(chosen.items()))
    address = f"{config.host}:{port}"
    number = server.add_insecure_port(address) if credentials is None else server.add_secure_port(address, credentials)
    return _Port(server, number)


def _strangers() -> dict[str, int]:
    """Limits of a port where anyone can connect."""
    return {
        "grpc.max_allowed_incoming_connections": _STRANGER_CONNECTIONS,
        "grpc.max_connection_idle_ms": _STRANGER_IDLE_MS,
    }


def _enrolment(config: GrpcConfig) -> dict[str, int]:
    return _strangers() | {
        "concurrent": _ENROLL_CONCURRENT,
        "grpc.max_receive_message_length": min(_ENROLL_MESSAGE_BYTES, config.max_message_bytes),
    }


def _check_alone(config: GrpcConfig) -> None:
    """Raises NotReady."""
    try:
        loopback = config.host == "localhost" or ipaddress.ip_address(config.host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise NotReady(f"--insecure-dev sends tokens in plain text: set grpc.host to 127.0.0.1, it is {config.host}")
    _log.warning("INSECURE: the token port speaks plain text; this is for development on one machine only")
