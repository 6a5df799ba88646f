"""One frozen configuration of the hub: defaults < hub.yaml < environment (``CLOUD_HUB__GRPC__PORT``)."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edge_agent.core import layers
from edge_agent.core.errors import ConfigError

ENV_PREFIX = "CLOUD_HUB__"


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcConfig:
    host: str = "127.0.0.1"  # address to listen on
    port: int = 7443  # mTLS
    enroll_port: int = 7444  # TLS without client certificates: enrolment only
    token_port: int = 7445  # TLS without client certificates: users with a bearer token
    names: tuple[str, ...] = ("localhost", "127.0.0.1")  # in the server certificate; the first is told to devices
    max_message_bytes: int = 8 << 20
    max_concurrent: int = 256
    threads: int = 16  # for use cases

    def __post_init__(self) -> None:
        _check_port("grpc.port", self.port)
        _check_port("grpc.enroll_port", self.enroll_port)
        _check_port("grpc.token_port", self.token_port)
        chosen = [port for port in (self.port, self.enroll_port, self.token_port) if port]
        if len(set(chosen)) < len(chosen):
            raise ConfigError("'grpc.port', 'grpc.enroll_port' and 'grpc.token_port' must differ")
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
    group_messages: int = 2000  # messages per transaction at most
    group_wait_s: float = 0.02  # how long a group waits to fill
    queue_messages: int = 8000  # back-pressure above it: the broker holds the rest
    queue_bytes: int = 32 << 20  # and above this
    device_bytes_per_s: int = 1 << 20  # of one device, sustained; what is above it is not stored, and the device sends it again
    device_burst_bytes: int = 32 << 20

    def __post_init__(self) -> None:
        for key in ("group_messages", "queue_messages", "queue_bytes", "device_bytes_per_s", "device_burst_bytes"):
            if getattr(self, key) < 1:
                raise ConfigError(f"'ingest.{key}' must be at least 1, got {getattr(self, key)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryConfig:
    """Landed batches become Parquet files, then hourly roll-ups, then nothing."""

    archive_url: str = ""  # fsspec: a folder or s3://bucket/prefix; default: telemetry/ in data_dir
    storage_options: dict[str, str] = field(default_factory=dict)  # to fsspec, as endpoint_url and key for S3
    compact_after_s: float = 3600.0  # since a batch came; until then its bytes are at hand to tell a repeat from a clone
    compact_every_s: float = 60.0
    file_readings: int = 1_000_000  # in one Parquet file at most
    keep_raw_days: int = 90  # readings, windows and events
    keep_rollup_days: int = 730
    query_threads: int = 2
    query_memory_mb: int = 512  # of all queries together
    query_spill_mb: int = 4096  # on the disk of data_dir, of one query
    query_concurrent: int = 4
    query_timeout_s: float = 60.0

    def __post_init__(self) -> None:
        for key in ("file_readings", "keep_raw_days", "query_threads", "query_memory_mb", "query_spill_mb", "query_concurrent"):
            if getattr(self, key) < 1:
                raise ConfigError(f"'telemetry.{key}' must be at least 1, got {getattr(self, key)}")
        if self.keep_rollup_days < self.keep_raw_days:
            raise ConfigError("'telemetry.keep_rollup_days' must not be less than 'telemetry.keep_raw_days'")
        if self.compact_after_s < 0 or self.compact_every_s <= 0 or self.query_timeout_s <= 0:
            raise ConfigError("'telemetry.compact_after_s', 'compact_every_s' and 'query_timeout_s' must be positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactsConfig:
    """Where devices get the bytes of models and packages besides gRPC, and the deltas between them."""

    url: str = ""  # where a web server shows artifacts/ of data_dir, or ``copies``; empty: signed URLs of ``copies``
    copies: str = ""  # fsspec: a folder, or s3://bucket/prefix, that blobs are copied to
    storage_options: dict[str, str] = field(default_factory=dict)  # to fsspec, as endpoint_url and key for S3
    signed_s: int = 3600  # how long a signed URL is good: a download that takes longer goes on with another
    max_delta_bytes: int = 32 << 20  # blobs above it are sent whole; encoding takes some 25 times as much memory; 0: no deltas
    max_deltas_bytes: int = 2 << 30  # of all deltas kept: those that are asked for least make room

    def __post_init__(self) -> None:
        if not 60 <= self.signed_s <= 7 * 86400:
            raise ConfigError(f"'artifacts.signed_s' must be in 60..604800, got {self.signed_s}")
        if self.max_delta_bytes < 0 or self.max_deltas_bytes < 0:
            raise ConfigError("'artifacts.max_delta_bytes' and 'artifacts.max_deltas_bytes' must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkConfig:
    """Where alerts go besides the log. Each kind reads its own keys; secrets stand in files."""

    name: str
    kind: str  # "webhook", "smtp" or "mqtt"
    url: str = ""  # webhook
    secret_file: Path | None = None  # webhook: signs the body (HMAC-SHA256); smtp: the password
    host: str = ""  # smtp
    port: int = 587
    starttls: bool = True
    user: str = ""
    sender: str = ""
    recipients: tuple[str, ...] = ()
    topic: str = ""  # mqtt: a segment before the rule's, below tl/v1/<tenant>/hub/alerts/
    ca_file: Path | None = None  # webhook, smtp: who signs the other side's certificate; default: the system's authorities
    timeout_s: float = 10.0  # of one try
    min_severity: str = "warning"
    tenants: tuple[str, ...] = ()  # empty: all


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertsConfig:
    sinks: tuple[SinkConfig, ...] = ()  # besides the log
    defaults: bool = True  # the built-in rules: offline, gap, quarantine, clone, disk, temperature, drift
    repeat_s: float = 4 * 3600.0  # an alert that still fires and is not acknowledged is told again
    group_s: float = 3.0  # how long news wait for others, so that a storm is a few letters
    give_up_s: float = 86_400.0  # news that a sink did not take for so long are given up, which is itself an alert
    keep_days: int = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsConfig:
    """HTTP: /metrics, /livez, /readyz."""

    host: str = "127.0.0.1"
    port: int = 9464

    def __post_init__(self) -> None:
        _check_port("metrics.port", self.port)


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
    ray_address: str = ""  # of a Ray cluster for jobs that ask for one; empty: one is begun on this machine
    task_files: tuple[Path, ...] = ()  # Python files with tasks of our own: code that the hub runs (docs/train.md)


@dataclass(frozen=True, slots=True, kw_only=True)
class HubConfig:
    data_dir: Path = Path("/var/lib/cloud-hub")
    # sqlite:////path or postgresql://user@host/name; default: sqlite in data_dir
    database_url: str = field(default="", repr=False)  # it may hold a password
    grpc: GrpcConfig = field(default_factory=GrpcConfig)
    broker: BrokerConfig = field(default_factory=BrokerConfig)
    ingest: IngestConfig = field(default_factory=IngestConfig)
    telemetry: TelemetryConfig = field(default_factory=TelemetryConfig)
    artifacts: ArtifactsConfig = field(default_factory=ArtifactsConfig)
    drift: DriftConfig = field(default_factory=DriftConfig)
    alerts: AlertsConfig = field(default_factory=AlertsConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    certificate_days: int = 90  # of devices, which renew theirs at two thirds of it
    renew_grace_days: int = 730  # a certificate that expired this long ago still gets its device a new one
    token_ttl_s: int = 3600
    log_level: str = "INFO"


def load(path: Path | None, env: Mapping[str, str] = os.environ) -> HubConfig:
    """Raises ConfigError naming the key, and the file or the variable it stands in."""
    return layers.configured(HubConfig, layers.found(path, env, prefix=ENV_PREFIX))


def _check_port(key: str, port: int) -> None:
    if not 0 <= port <= 65535:
        raise ConfigError(f"'{key}' must be in 0..65535, got {port}; 0 takes a free one")
