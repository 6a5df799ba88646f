"""One frozen configuration of the hub: defaults < hub.yaml < environment (``CLOUD_HUB__GRPC__PORT``)."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edge_agent.core import config as layers
from edge_agent.core.errors import ConfigError

ENV_PREFIX = "CLOUD_HUB__"


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcConfig:
    host: str = "127.0.0.1"  # address to listen on
    port: int = 7443  # mTLS
    enroll_port: int = 7444  # TLS without client certificates: enrolment only
    names: tuple[str, ...] = ("localhost", "127.0.0.1")  # in the server certificate; the first is told to devices
    max_message_bytes: int = 8 << 20
    max_concurrent: int = 256
    threads: int = 16  # for use cases

    def __post_init__(self) -> None:
        _check_port("grpc.port", self.port)
        _check_port("grpc.enroll_port", self.enroll_port)
        if not self.names:
            raise ConfigError("'grpc.names' must hold at least one name: the first is told to devices")


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerConfig:
    kind: str = "auto"  # "mosquitto", "embedded" (development only), or "auto": mosquitto where its binary is
    host: str = "127.0.0.1"
    port: int = 8883
    binary: str = "mosquitto"

    def __post_init__(self) -> None:
        _check_port("broker.port", self.port)


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestConfig:
    group_messages: int = 1000  # messages per transaction at most
    group_wait_s: float = 0.02  # how long a group waits to fill
    queue_messages: int = 2000  # back-pressure above it: the broker holds the rest


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftConfig:
    window_s: float = 60.0  # event time
    lateness_s: float = 5.0
    min_readings: int = 30  # in a window, to judge it
    psi: float = 0.25  # above it a distribution has moved (the field's usual bound)
    confidence_drop: float = 0.1  # mean now below the mean at validation by more than this
    open_after: int = 2  # drifted windows in a row that open an episode
    close_after: int = 3  # quiet windows in a row that close it
    keep_days: int = 90  # windows; episodes stay


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    threads: int = 0  # torch threads of a job; 0: all cores
    max_attempts: int = 3
    timeout_s: float = 6 * 3600.0
    poll_s: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HubConfig:
    data_dir: Path = Path("/var/lib/cloud-hub")
    database_url: str = ""  # SQLAlchemy URL; default: sqlite in data_dir
    grpc: GrpcConfig = field(default_factory=GrpcConfig)
    broker: BrokerConfig = field(default_factory=BrokerConfig)
    ingest: IngestConfig = field(default_factory=IngestConfig)
    drift: DriftConfig = field(default_factory=DriftConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    certificate_days: int = 3650  # of devices: they cannot renew theirs yet, and an expired one locks its device out
    token_ttl_s: int = 3600
    log_level: str = "INFO"


def load(path: Path | None, env: Mapping[str, str] = os.environ) -> HubConfig:
    """Raises ConfigError naming the file and the key."""
    return layers.build(HubConfig, layers.layered(path, env, prefix=ENV_PREFIX))


def _check_port(key: str, port: int) -> None:
    if not 0 <= port <= 65535:
        raise ConfigError(f"'{key}' must be in 0..65535, got {port}; 0 takes a free one")
