"""What devices said, and what was seen in it."""

from dataclasses import dataclass
from datetime import datetime

from cloud_hub.core.model.principals import DEFAULT_TENANT
from protos.contract.ids import DeviceId, Digest, ModelName, TenantId


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredReading:
    device: DeviceId
    epoch: str
    lane: str
    sequence: int
    captured_at: datetime
    model: Digest
    label: int
    label_name: str
    confidence: float
    latency_ms: float
    captured: bool
    uncertain: bool
    frame_key: int
    value: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceStats:
    device: DeviceId
    batches: int
    records: int
    duplicate_batches: int
    gap_records: int
    payload_bytes: int
    last_captured_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    id: int
    topic: str
    reason: str
    payload: bytes
    count: int
    first_at: datetime
    last_at: datetime
    cut: bool = False  # payload is only the beginning of what came


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceEvent:
    device: DeviceId
    at: datetime
    kind: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftWindow:
    """One event-time window of one device under one version; half-open, start inclusive."""

    device: DeviceId
    model: ModelName
    version: int
    start: datetime
    end: datetime
    readings: int
    label_counts: tuple[int, ...]
    confidence_counts: tuple[int, ...]
    confidence_sum: float
    label_psi: float = 0.0
    confidence_psi: float = 0.0
    confidence_shift: float = 0.0
    drifted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftEpisode:
    id: str
    device: DeviceId
    model: ModelName
    version: int
    opened_at: datetime
    reason: str
    tenant: TenantId = DEFAULT_TENANT
    closed_at: datetime | None = None
    job_id: str = ""
