"""Desired and reported state of a device."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum

from protos.contract.errors import InvalidValue
from protos.contract.ids import Digest, ModelName
from protos.contract.update import UpdateState

MAX_MANIFEST_BYTES = 256 * 1024


class Presence(IntEnum):
    """Numbers are the wire's (``twin.proto``)."""

    ONLINE = 1
    STOPPED = 2  # said goodbye
    OFFLINE = 3  # the broker noticed


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    presence: Presence
    boot_id: str
    agent_version: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAssignment:
    """Which manifest to run; the manifest says the rest."""

    name: ModelName
    version: int
    manifest_digest: Digest
    manifest_size_bytes: int

    def __post_init__(self) -> None:
        if self.version < 1:
            raise InvalidValue(f"model version starts at 1, got {self.version}")
        if not 1 <= self.manifest_size_bytes <= MAX_MANIFEST_BYTES:
            raise InvalidValue(f"manifest size must be in 1..{MAX_MANIFEST_BYTES} bytes, got {self.manifest_size_bytes}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredTwin:
    generation: int  # grows with every change for this device; the newest wins
    model: ModelAssignment | None = None  # None: keep what runs
    rollout_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateStatus:
    generation: int
    state: UpdateState
    model: ModelAssignment
    at: datetime
    rollout_id: str = ""
    attempts: int = 0
    reason: str = ""  # why it failed or rolled back


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Counters since the process started, except sizes, which are now."""

    started_at: datetime
    rss_bytes: int = 0
    disk_free_bytes: int = 0
    spool_records: int = 0
    spool_bytes: int = 0
    dropped_records: int = 0
    inferences: int = 0
    inference_errors: int = 0
    captures_pending: int = 0
    latency_p50_ms: float = 0.0
    latency_p95_ms: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedTwin:
    generation: int  # last desired generation acted on; 0: none
    boot_id: str
    agent_version: str
    board: str
    at: datetime
    health: Health
    runtimes: tuple[str, ...] = field(default=())
    model: ModelAssignment | None = None
    update: UpdateStatus | None = None
