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

class DesiredTwin(_message.Message):
    __slots__ = ("generation", "model", "rollout_id", "renew_before_ms")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ROLLOUT_ID_FIELD_NUMBER: _ClassVar[int]
    RENEW_BEFORE_MS_FIELD_NUMBER: _ClassVar[int]
    generation: int
    model: ModelAssignment
    rollout_id: str
    renew_before_ms: int
    def __init__(self, generation: _Optional[int] = ..., model: _Optional[_Union[ModelAssignment, _Mapping]] = ..., rollout_id: _Optional[str] = ..., renew_before_ms: _Optional[int] = ...) -> None: ...

class UpdateStatus(_message.Message):
    __slots__ = ("generation", "state", "model", "rollout_id", "attempts", "reason", "at_ms")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ROLLOUT_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    generation: int
    state: UpdateState
    model: ModelAssignment
    rollout_id: str
    attempts: int
    reason: str
    at_ms: int
    def __init__(self, generation: _Optional[int] = ..., state: _Optional[_Union[UpdateState, str]] = ..., model: _Optional[_Union[ModelAssignment, _Mapping]] = ..., rollout_id: _Optional[str] = ..., attempts: _Optional[int] = ..., reason: _Optional[str] = ..., at_ms: _Optional[int] = ...) -> None: ...

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
    __slots__ = ("generation", "boot_id", "agent_version", "board", "runtimes", "model", "update", "health", "at_ms", "held")
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
    def __init__(self, generation: _Optional[int] = ..., boot_id: _Optional[str] = ..., agent_version: _Optional[str] = ..., board: _Optional[str] = ..., runtimes: _Optional[_Iterable[str]] = ..., model: _Optional[_Union[ModelAssignment, _Mapping]] = ..., update: _Optional[_Union[UpdateStatus, _Mapping]] = ..., health: _Optional[_Union[Health, _Mapping]] = ..., at_ms: _Optional[int] = ..., held: _Optional[_Iterable[_Union[Held, _Mapping]]] = ...) -> None: ...
