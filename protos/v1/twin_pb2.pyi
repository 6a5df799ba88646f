from protos.v1 import telemetry_pb2 as _telemetry_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Presence(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRESENCE_UNSPECIFIED: _ClassVar[Presence]
    PRESENCE_ONLINE: _ClassVar[Presence]
    PRESENCE_STOPPED: _ClassVar[Presence]
    PRESENCE_OFFLINE: _ClassVar[Presence]

class PackageKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PACKAGE_KIND_UNSPECIFIED: _ClassVar[PackageKind]
    PACKAGE_KIND_CONFIG: _ClassVar[PackageKind]
    PACKAGE_KIND_AGENT: _ClassVar[PackageKind]
    PACKAGE_KIND_FIRMWARE: _ClassVar[PackageKind]

class UpdateState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UPDATE_STATE_UNSPECIFIED: _ClassVar[UpdateState]
    UPDATE_STATE_OFFERED: _ClassVar[UpdateState]
    UPDATE_STATE_FETCHING: _ClassVar[UpdateState]
    UPDATE_STATE_STAGED: _ClassVar[UpdateState]
    UPDATE_STATE_TRIAL: _ClassVar[UpdateState]
    UPDATE_STATE_COMMITTED: _ClassVar[UpdateState]
    UPDATE_STATE_ROLLED_BACK: _ClassVar[UpdateState]
    UPDATE_STATE_FAILED: _ClassVar[UpdateState]
    UPDATE_STATE_SUPERSEDED: _ClassVar[UpdateState]
PRESENCE_UNSPECIFIED: Presence
PRESENCE_ONLINE: Presence
PRESENCE_STOPPED: Presence
PRESENCE_OFFLINE: Presence
PACKAGE_KIND_UNSPECIFIED: PackageKind
PACKAGE_KIND_CONFIG: PackageKind
PACKAGE_KIND_AGENT: PackageKind
PACKAGE_KIND_FIRMWARE: PackageKind
UPDATE_STATE_UNSPECIFIED: UpdateState
UPDATE_STATE_OFFERED: UpdateState
UPDATE_STATE_FETCHING: UpdateState
UPDATE_STATE_STAGED: UpdateState
UPDATE_STATE_TRIAL: UpdateState
UPDATE_STATE_COMMITTED: UpdateState
UPDATE_STATE_ROLLED_BACK: UpdateState
UPDATE_STATE_FAILED: UpdateState
UPDATE_STATE_SUPERSEDED: UpdateState

class Status(_message.Message):
    __slots__ = ("presence", "boot_id", "agent_version", "at_ms")
    PRESENCE_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    presence: Presence
    boot_id: str
    agent_version: str
    at_ms: int
    def __init__(self, presence: _Optional[_Union[Presence, str]] = ..., boot_id: _Optional[str] = ..., agent_version: _Optional[str] = ..., at_ms: _Optional[int] = ...) -> None: ...

class ModelAssignment(_message.Message):
    __slots__ = ("name", "version", "manifest_digest", "manifest_size_bytes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_DIGEST_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    manifest_digest: str
    manifest_size_bytes: int
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., manifest_digest: _Optional[str] = ..., manifest_size_bytes: _Optional[int] = ...) -> None: ...

class PackageAssignment(_message.Message):
    __slots__ = ("kind", "name", "version", "digest", "size_bytes", "rollout_id")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    ROLLOUT_ID_FIELD_NUMBER: _ClassVar[int]
    kind: PackageKind
    name: str
    version: str
    digest: str
    size_bytes: int
    rollout_id: str
    def __init__(self, kind: _Optional[_Union[PackageKind, str]] = ..., name: _Optional[str] = ..., version: _Optional[str] = ..., digest: _Optional[str] = ..., size_bytes: _Optional[int] = ..., rollout_id: _Optional[str] = ...) -> None: ...

class MaintenanceWindow(_message.Message):
    __slots__ = ("start_minute", "end_minute", "days", "local")
    START_MINUTE_FIELD_NUMBER: _ClassVar[int]
    END_MINUTE_FIELD_NUMBER: _ClassVar[int]
    DAYS_FIELD_NUMBER: _ClassVar[int]
    LOCAL_FIELD_NUMBER: _ClassVar[int]
    start_minute: int
    end_minute: int
    days: int
    local: bool
    def __init__(self, start_minute: _Optional[int] = ..., end_minute: _Optional[int] = ..., days: _Optional[int] = ..., local: _Optional[bool] = ...) -> None: ...

class Challenger(_message.Message):
    __slots__ = ("model", "share", "max_share_of_time")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    MAX_SHARE_OF_TIME_FIELD_NUMBER: _ClassVar[int]
    model: ModelAssignment
    share: float
    max_share_of_time: float
    def __init__(self, model: _Optional[_Union[ModelAssignment, _Mapping]] = ..., share: _Optional[float] = ..., max_share_of_time: _Optional[float] = ...) -> None: ...

class DesiredTwin(_message.Message):
    __slots__ = ("generation", "model", "rollout_id", "renew_before_ms", "packages", "challenger", "windows", "not_before_ms")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ROLLOUT_ID_FIELD_NUMBER: _ClassVar[int]
    RENEW_BEFORE_MS_FIELD_NUMBER: _ClassVar[int]
    PACKAGES_FIELD_NUMBER: _ClassVar[int]
    CHALLENGER_FIELD_NUMBER: _ClassVar[int]
    WINDOWS_FIELD_NUMBER: _ClassVar[int]
    NOT_BEFORE_MS_FIELD_NUMBER: _ClassVar[int]
    generation: int
    model: ModelAssignment
    rollout_id: str
    renew_before_ms: int
    packages: _containers.RepeatedCompositeFieldContainer[PackageAssignment]
    challenger: Challenger
    windows: _containers.RepeatedCompositeFieldContainer[MaintenanceWindow]
    not_before_ms: int
    def __init__(self, generation: _Optional[int] = ..., model: _Optional[_Union[ModelAssignment, _Mapping]] = ..., rollout_id: _Optional[str] = ..., renew_before_ms: _Optional[int] = ..., packages: _Optional[_Iterable[_Union[PackageAssignment, _Mapping]]] = ..., challenger: _Optional[_Union[Challenger, _Mapping]] = ..., windows: _Optional[_Iterable[_Union[MaintenanceWindow, _Mapping]]] = ..., not_before_ms: _Optional[int] = ...) -> None: ...

class UpdateStatus(_message.Message):
    __slots__ = ("generation", "state", "model", "rollout_id", "attempts", "reason", "at_ms", "fit")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ROLLOUT_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    FIT_FIELD_NUMBER: _ClassVar[int]
    generation: int
    state: UpdateState
    model: ModelAssignment
    rollout_id: str
    attempts: int
    reason: str
    at_ms: int
    fit: Fit
    def __init__(self, generation: _Optional[int] = ..., state: _Optional[_Union[UpdateState, str]] = ..., model: _Optional[_Union[ModelAssignment, _Mapping]] = ..., rollout_id: _Optional[str] = ..., attempts: _Optional[int] = ..., reason: _Optional[str] = ..., at_ms: _Optional[int] = ..., fit: _Optional[_Union[Fit, _Mapping]] = ...) -> None: ...

class Fit(_message.Message):
    __slots__ = ("p50_ms", "p95_ms", "peak_bytes", "error", "agreement")
    P50_MS_FIELD_NUMBER: _ClassVar[int]
    P95_MS_FIELD_NUMBER: _ClassVar[int]
    PEAK_BYTES_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    p50_ms: float
    p95_ms: float
    peak_bytes: int
    error: float
    agreement: float
    def __init__(self, p50_ms: _Optional[float] = ..., p95_ms: _Optional[float] = ..., peak_bytes: _Optional[int] = ..., error: _Optional[float] = ..., agreement: _Optional[float] = ...) -> None: ...

class PackageStatus(_message.Message):
    __slots__ = ("generation", "state", "package", "attempts", "reason", "at_ms")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PACKAGE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    generation: int
    state: UpdateState
    package: PackageAssignment
    attempts: int
    reason: str
    at_ms: int
    def __init__(self, generation: _Optional[int] = ..., state: _Optional[_Union[UpdateState, str]] = ..., package: _Optional[_Union[PackageAssignment, _Mapping]] = ..., attempts: _Optional[int] = ..., reason: _Optional[str] = ..., at_ms: _Optional[int] = ...) -> None: ...

class ShadowReport(_message.Message):
    __slots__ = ("model", "since_ms", "frames", "agreed", "skipped", "errors", "champion_confidence", "challenger_confidence", "champion_p95_ms", "challenger_p50_ms", "challenger_p95_ms", "captured", "problem", "fit")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    AGREED_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    CHAMPION_CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    CHALLENGER_CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    CHAMPION_P95_MS_FIELD_NUMBER: _ClassVar[int]
    CHALLENGER_P50_MS_FIELD_NUMBER: _ClassVar[int]
    CHALLENGER_P95_MS_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    FIT_FIELD_NUMBER: _ClassVar[int]
    model: ModelAssignment
    since_ms: int
    frames: int
    agreed: int
    skipped: int
    errors: int
    champion_confidence: float
    challenger_confidence: float
    champion_p95_ms: float
    challenger_p50_ms: float
    challenger_p95_ms: float
    captured: int
    problem: str
    fit: Fit
    def __init__(self, model: _Optional[_Union[ModelAssignment, _Mapping]] = ..., since_ms: _Optional[int] = ..., frames: _Optional[int] = ..., agreed: _Optional[int] = ..., skipped: _Optional[int] = ..., errors: _Optional[int] = ..., champion_confidence: _Optional[float] = ..., challenger_confidence: _Optional[float] = ..., champion_p95_ms: _Optional[float] = ..., challenger_p50_ms: _Optional[float] = ..., challenger_p95_ms: _Optional[float] = ..., captured: _Optional[int] = ..., problem: _Optional[str] = ..., fit: _Optional[_Union[Fit, _Mapping]] = ...) -> None: ...

class Health(_message.Message):
    __slots__ = ("rss_bytes", "disk_free_bytes", "spool_records", "spool_bytes", "dropped_records", "inferences", "inference_errors", "captures_pending", "latency_p50_ms", "latency_p95_ms", "started_at_ms", "temperature_c", "disk_total_bytes", "spool_limit_bytes")
    RSS_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISK_FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SPOOL_RECORDS_FIELD_NUMBER: _ClassVar[int]
    SPOOL_BYTES_FIELD_NUMBER: _ClassVar[int]
    DROPPED_RECORDS_FIELD_NUMBER: _ClassVar[int]
    INFERENCES_FIELD_NUMBER: _ClassVar[int]
    INFERENCE_ERRORS_FIELD_NUMBER: _ClassVar[int]
    CAPTURES_PENDING_FIELD_NUMBER: _ClassVar[int]
    LATENCY_P50_MS_FIELD_NUMBER: _ClassVar[int]
    LATENCY_P95_MS_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_C_FIELD_NUMBER: _ClassVar[int]
    DISK_TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    SPOOL_LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    rss_bytes: int
    disk_free_bytes: int
    spool_records: int
    spool_bytes: int
    dropped_records: int
    inferences: int
    inference_errors: int
    captures_pending: int
    latency_p50_ms: float
    latency_p95_ms: float
    started_at_ms: int
    temperature_c: float
    disk_total_bytes: int
    spool_limit_bytes: int
    def __init__(self, rss_bytes: _Optional[int] = ..., disk_free_bytes: _Optional[int] = ..., spool_records: _Optional[int] = ..., spool_bytes: _Optional[int] = ..., dropped_records: _Optional[int] = ..., inferences: _Optional[int] = ..., inference_errors: _Optional[int] = ..., captures_pending: _Optional[int] = ..., latency_p50_ms: _Optional[float] = ..., latency_p95_ms: _Optional[float] = ..., started_at_ms: _Optional[int] = ..., temperature_c: _Optional[float] = ..., disk_total_bytes: _Optional[int] = ..., spool_limit_bytes: _Optional[int] = ...) -> None: ...

class Held(_message.Message):
    __slots__ = ("epoch", "lane", "oldest", "next")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    LANE_FIELD_NUMBER: _ClassVar[int]
    OLDEST_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    epoch: str
    lane: _telemetry_pb2.Lane
    oldest: int
    next: int
    def __init__(self, epoch: _Optional[str] = ..., lane: _Optional[_Union[_telemetry_pb2.Lane, str]] = ..., oldest: _Optional[int] = ..., next: _Optional[int] = ...) -> None: ...

class ReportedTwin(_message.Message):
    __slots__ = ("generation", "boot_id", "agent_version", "board", "runtimes", "model", "update", "health", "at_ms", "held", "packages", "package_updates", "shadow")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    BOARD_FIELD_NUMBER: _ClassVar[int]
    RUNTIMES_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    UPDATE_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    PACKAGES_FIELD_NUMBER: _ClassVar[int]
    PACKAGE_UPDATES_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    generation: int
    boot_id: str
    agent_version: str
    board: str
    runtimes: _containers.RepeatedScalarFieldContainer[str]
    model: ModelAssignment
    update: UpdateStatus
    health: Health
    at_ms: int
    held: _containers.RepeatedCompositeFieldContainer[Held]
    packages: _containers.RepeatedCompositeFieldContainer[PackageAssignment]
    package_updates: _containers.RepeatedCompositeFieldContainer[PackageStatus]
    shadow: ShadowReport
    def __init__(self, generation: _Optional[int] = ..., boot_id: _Optional[str] = ..., agent_version: _Optional[str] = ..., board: _Optional[str] = ..., runtimes: _Optional[_Iterable[str]] = ..., model: _Optional[_Union[ModelAssignment, _Mapping]] = ..., update: _Optional[_Union[UpdateStatus, _Mapping]] = ..., health: _Optional[_Union[Health, _Mapping]] = ..., at_ms: _Optional[int] = ..., held: _Optional[_Iterable[_Union[Held, _Mapping]]] = ..., packages: _Optional[_Iterable[_Union[PackageAssignment, _Mapping]]] = ..., package_updates: _Optional[_Iterable[_Union[PackageStatus, _Mapping]]] = ..., shadow: _Optional[_Union[ShadowReport, _Mapping]] = ...) -> None: ...
