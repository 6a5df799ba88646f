from protos.v1 import fleet_pb2 as _fleet_pb2
from protos.v1 import twin_pb2 as _twin_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RolloutState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLLOUT_STATE_UNSPECIFIED: _ClassVar[RolloutState]
    ROLLOUT_STATE_RUNNING: _ClassVar[RolloutState]
    ROLLOUT_STATE_PAUSED: _ClassVar[RolloutState]
    ROLLOUT_STATE_SUCCEEDED: _ClassVar[RolloutState]
    ROLLOUT_STATE_ABORTED: _ClassVar[RolloutState]
    ROLLOUT_STATE_FAILED: _ClassVar[RolloutState]
    ROLLOUT_STATE_ROLLED_BACK: _ClassVar[RolloutState]
    ROLLOUT_STATE_SCHEDULED: _ClassVar[RolloutState]
    ROLLOUT_STATE_AWAITING_APPROVAL: _ClassVar[RolloutState]

class GateOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GATE_OUTCOME_UNSPECIFIED: _ClassVar[GateOutcome]
    GATE_OUTCOME_PASS: _ClassVar[GateOutcome]
    GATE_OUTCOME_WAIT: _ClassVar[GateOutcome]
    GATE_OUTCOME_BREACH: _ClassVar[GateOutcome]
ROLLOUT_STATE_UNSPECIFIED: RolloutState
ROLLOUT_STATE_RUNNING: RolloutState
ROLLOUT_STATE_PAUSED: RolloutState
ROLLOUT_STATE_SUCCEEDED: RolloutState
ROLLOUT_STATE_ABORTED: RolloutState
ROLLOUT_STATE_FAILED: RolloutState
ROLLOUT_STATE_ROLLED_BACK: RolloutState
ROLLOUT_STATE_SCHEDULED: RolloutState
ROLLOUT_STATE_AWAITING_APPROVAL: RolloutState
GATE_OUTCOME_UNSPECIFIED: GateOutcome
GATE_OUTCOME_PASS: GateOutcome
GATE_OUTCOME_WAIT: GateOutcome
GATE_OUTCOME_BREACH: GateOutcome

class RolloutDevice(_message.Message):
    __slots__ = ("device_id", "wave", "state", "reason", "target", "asked_at_ms", "ended_at_ms")
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    WAVE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    ASKED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    wave: int
    state: _twin_pb2.UpdateState
    reason: str
    target: str
    asked_at_ms: int
    ended_at_ms: int
    def __init__(self, device_id: _Optional[str] = ..., wave: _Optional[int] = ..., state: _Optional[_Union[_twin_pb2.UpdateState, str]] = ..., reason: _Optional[str] = ..., target: _Optional[str] = ..., asked_at_ms: _Optional[int] = ..., ended_at_ms: _Optional[int] = ...) -> None: ...

class RolloutWave(_message.Message):
    __slots__ = ("title", "waiting", "pending", "committed", "failed", "superseded", "started_at_ms", "asked_at_ms", "soaking_since_ms", "soak_s", "approval", "approved_by")
    TITLE_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    SUPERSEDED_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    ASKED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    SOAKING_SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    SOAK_S_FIELD_NUMBER: _ClassVar[int]
    APPROVAL_FIELD_NUMBER: _ClassVar[int]
    APPROVED_BY_FIELD_NUMBER: _ClassVar[int]
    title: str
    waiting: int
    pending: int
    committed: int
    failed: int
    superseded: int
    started_at_ms: int
    asked_at_ms: int
    soaking_since_ms: int
    soak_s: int
    approval: bool
    approved_by: str
    def __init__(self, title: _Optional[str] = ..., waiting: _Optional[int] = ..., pending: _Optional[int] = ..., committed: _Optional[int] = ..., failed: _Optional[int] = ..., superseded: _Optional[int] = ..., started_at_ms: _Optional[int] = ..., asked_at_ms: _Optional[int] = ..., soaking_since_ms: _Optional[int] = ..., soak_s: _Optional[int] = ..., approval: _Optional[bool] = ..., approved_by: _Optional[str] = ...) -> None: ...

class GateFigure(_message.Message):
    __slots__ = ("value", "low", "high", "samples", "devices")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    value: float
    low: float
    high: float
    samples: float
    devices: int
    def __init__(self, value: _Optional[float] = ..., low: _Optional[float] = ..., high: _Optional[float] = ..., samples: _Optional[float] = ..., devices: _Optional[int] = ...) -> None: ...

class GateReading(_message.Message):
    __slots__ = ("metric", "rule", "bound", "versus", "min_samples", "outcome", "reason", "treated", "compared")
    METRIC_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    BOUND_FIELD_NUMBER: _ClassVar[int]
    VERSUS_FIELD_NUMBER: _ClassVar[int]
    MIN_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    TREATED_FIELD_NUMBER: _ClassVar[int]
    COMPARED_FIELD_NUMBER: _ClassVar[int]
    metric: str
    rule: str
    bound: float
    versus: str
    min_samples: float
    outcome: GateOutcome
    reason: str
    treated: GateFigure
    compared: GateFigure
    def __init__(self, metric: _Optional[str] = ..., rule: _Optional[str] = ..., bound: _Optional[float] = ..., versus: _Optional[str] = ..., min_samples: _Optional[float] = ..., outcome: _Optional[_Union[GateOutcome, str]] = ..., reason: _Optional[str] = ..., treated: _Optional[_Union[GateFigure, _Mapping]] = ..., compared: _Optional[_Union[GateFigure, _Mapping]] = ...) -> None: ...

class Rollout(_message.Message):
    __slots__ = ("id", "model", "version", "selector", "soak_s", "state", "wave", "waves", "reason", "devices", "created_by", "created_at_ms", "ended_at_ms", "component", "package_version", "plan_json", "standings", "gates", "started_at_ms", "starts_at_ms")
    ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    SOAK_S_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    WAVE_FIELD_NUMBER: _ClassVar[int]
    WAVES_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    CREATED_BY_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    PACKAGE_VERSION_FIELD_NUMBER: _ClassVar[int]
    PLAN_JSON_FIELD_NUMBER: _ClassVar[int]
    STANDINGS_FIELD_NUMBER: _ClassVar[int]
    GATES_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    STARTS_AT_MS_FIELD_NUMBER: _ClassVar[int]
    id: str
    model: str
    version: int
    selector: _fleet_pb2.Selector
    soak_s: int
    state: RolloutState
    wave: int
    waves: int
    reason: str
    devices: _containers.RepeatedCompositeFieldContainer[RolloutDevice]
    created_by: str
    created_at_ms: int
    ended_at_ms: int
    component: str
    package_version: str
    plan_json: str
    standings: _containers.RepeatedCompositeFieldContainer[RolloutWave]
    gates: _containers.RepeatedCompositeFieldContainer[GateReading]
    started_at_ms: int
    starts_at_ms: int
    def __init__(self, id: _Optional[str] = ..., model: _Optional[str] = ..., version: _Optional[int] = ..., selector: _Optional[_Union[_fleet_pb2.Selector, _Mapping]] = ..., soak_s: _Optional[int] = ..., state: _Optional[_Union[RolloutState, str]] = ..., wave: _Optional[int] = ..., waves: _Optional[int] = ..., reason: _Optional[str] = ..., devices: _Optional[_Iterable[_Union[RolloutDevice, _Mapping]]] = ..., created_by: _Optional[str] = ..., created_at_ms: _Optional[int] = ..., ended_at_ms: _Optional[int] = ..., component: _Optional[str] = ..., package_version: _Optional[str] = ..., plan_json: _Optional[str] = ..., standings: _Optional[_Iterable[_Union[RolloutWave, _Mapping]]] = ..., gates: _Optional[_Iterable[_Union[GateReading, _Mapping]]] = ..., started_at_ms: _Optional[int] = ..., starts_at_ms: _Optional[int] = ...) -> None: ...

class CreateRolloutRequest(_message.Message):
    __slots__ = ("model", "version", "selector", "canary", "soak_s", "max_failures", "plan_yaml")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    CANARY_FIELD_NUMBER: _ClassVar[int]
    SOAK_S_FIELD_NUMBER: _ClassVar[int]
    MAX_FAILURES_FIELD_NUMBER: _ClassVar[int]
    PLAN_YAML_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: int
    selector: _fleet_pb2.Selector
    canary: int
    soak_s: int
    max_failures: int
    plan_yaml: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[int] = ..., selector: _Optional[_Union[_fleet_pb2.Selector, _Mapping]] = ..., canary: _Optional[int] = ..., soak_s: _Optional[int] = ..., max_failures: _Optional[int] = ..., plan_yaml: _Optional[str] = ...) -> None: ...

class GetRolloutRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class ListRolloutDevicesRequest(_message.Message):
    __slots__ = ("id", "state", "page_size", "page_token")
    ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    id: str
    state: _twin_pb2.UpdateState
    page_size: int
    page_token: str
    def __init__(self, id: _Optional[str] = ..., state: _Optional[_Union[_twin_pb2.UpdateState, str]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListRolloutDevicesReply(_message.Message):
    __slots__ = ("devices", "next_page_token")
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    devices: _containers.RepeatedCompositeFieldContainer[RolloutDevice]
    next_page_token: str
    def __init__(self, devices: _Optional[_Iterable[_Union[RolloutDevice, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class RolloutActionRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class ListRolloutsRequest(_message.Message):
    __slots__ = ("active_only", "page_size", "page_token")
    ACTIVE_ONLY_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    active_only: bool
    page_size: int
    page_token: str
    def __init__(self, active_only: _Optional[bool] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListRolloutsReply(_message.Message):
    __slots__ = ("rollouts", "next_page_token")
    ROLLOUTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    rollouts: _containers.RepeatedCompositeFieldContainer[Rollout]
    next_page_token: str
    def __init__(self, rollouts: _Optional[_Iterable[_Union[Rollout, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...
