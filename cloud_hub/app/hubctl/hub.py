"""The hub's services over one channel: mTLS, or TLS with a token in each call."""

from types import TracebackType
from typing import Any

import grpc

from cloud_hub.app.hubctl.settings import Credentials
from protos.v1 import (
    admin_pb2_grpc,
    alerts_pb2_grpc,
    datasets_pb2_grpc,
    drift_pb2_grpc,
    fleet_pb2_grpc,
    packages_pb2_grpc,
    registry_pb2_grpc,
    rollouts_pb2_grpc,
    shadows_pb2_grpc,
    streams_pb2_grpc,
    telemetry_service_pb2_grpc,
    training_pb2_grpc,
    trust_pb2_grpc,
)

TIMEOUT_S = 30.0  # for calls that answer at once; streams have none of their own
_MAX_MESSAGE_BYTES = 64 << 20  # the hub's own limit is tighter
_KEEPALIVE_MS, _KEEPALIVE_TIMEOUT_MS = 30_000, 20_000  # a watch notices that the hub is gone


class Hub:
    """Stubs are untyped by the generator; requests and replies are not."""

    def __init__(self, address: str, credentials: Credentials) -> None:
        self._channel = grpc.secure_channel(
            address,
            _channel_credentials(credentials),
            options=[
                ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
                ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
                ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
                ("grpc.enable_retries", 1),
            ],
        )
        stub: Any = self._channel
        self.fleet: Any = fleet_pb2_grpc.FleetStub(stub)  # type: ignore[no-untyped-call]
        self.registry: Any = registry_pb2_grpc.RegistryStub(stub)  # type: ignore[no-untyped-call]
        self.packages: Any = packages_pb2_grpc.PackagesStub(stub)  # type: ignore[no-untyped-call]
        self.rollouts: Any = rollouts_pb2_grpc.RolloutsStub(stub)  # type: ignore[no-untyped-call]
        self.shadows: Any = shadows_pb2_grpc.ShadowsStub(stub)  # type: ignore[no-untyped-call]
        self.training: Any = training_pb2_grpc.TrainingStub(stub)  # type: ignore[no-untyped-call]
        self.datasets: Any = datasets_pb2_grpc.DatasetsStub(stub)  # type: ignore[no-untyped-call]
        self.telemetry: Any = telemetry_service_pb2_grpc.TelemetryStub(stub)  # type: ignore[no-untyped-call]
        self.streams: Any = streams_pb2_grpc.StreamsStub(stub)  # type: ignore[no-untyped-call]
        self.alerts: Any = alerts_pb2_grpc.AlertsStub(stub)  # type: ignore[no-untyped-call]
        self.drift: Any = drift_pb2_grpc.DriftStub(stub)  # type: ignore[no-untyped-call]
        self.admin: Any = admin_pb2_grpc.AdminStub(stub)  # type: ignore[no-untyped-call]
        self.trust: Any = trust_pb2_grpc.TrustStub(stub)  # type: ignore[no-untyped-call]

    def __enter__(self) -> "Hub":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._channel.close()


def _channel_credentials(credentials: Credentials) -> grpc.ChannelCredentials:
    if not credentials.token:
        return grpc.ssl_channel_credentials(credentials.ca, credentials.key, credentials.cert)
    # gRPC sends it over TLS only
    return grpc.composite_channel_credentials(
        grpc.ssl_channel_credentials(credentials.ca), grpc.access_token_call_credentials(credentials.token)
    )
