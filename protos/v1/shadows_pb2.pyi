from protos.v1 import fleet_pb2 as _fleet_pb2
from protos.v1 import twin_pb2 as _twin_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StartShadowRequest(_message.Message):
    __slots__ = ("model", "version", "selector", "target", "share", "max_share_of_time", "limit")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    MAX_SHARE_OF_TIME_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: int
    selector: _fleet_pb2.Selector
    target: str
    share: float
    max_share_of_time: float
    limit: int
    def __init__(self, model: _Optional[str] = ..., version: _Optional[int] = ..., selector: _Optional[_Union[_fleet_pb2.Selector, _Mapping]] = ..., target: _Optional[str] = ..., share: _Optional[float] = ..., max_share_of_time: _Optional[float] = ..., limit: _Optional[int] = ...) -> None: ...

class StartShadowReply(_message.Message):
    __slots__ = ("devices", "passed_over")
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    PASSED_OVER_FIELD_NUMBER: _ClassVar[int]
    devices: int
    passed_over: _containers.RepeatedCompositeFieldContainer[PassedOver]
    def __init__(self, devices: _Optional[int] = ..., passed_over: _Optional[_Iterable[_Union[PassedOver, _Mapping]]] = ...) -> None: ...

class PassedOver(_message.Message):
    __slots__ = ("device_id", "reason")
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    reason: str
    def __init__(self, device_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class StopShadowRequest(_message.Message):
    __slots__ = ("model", "version", "selector")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: int
    selector: _fleet_pb2.Selector
    def __init__(self, model: _Optional[str] = ..., version: _Optional[int] = ..., selector: _Optional[_Union[_fleet_pb2.Selector, _Mapping]] = ...) -> None: ...

class StopShadowReply(_message.Message):
    __slots__ = ("devices",)
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    devices: int
    def __init__(self, devices: _Optional[int] = ...) -> None: ...

class ListShadowsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListShadowsReply(_message.Message):
    __slots__ = ("shadows",)
    SHADOWS_FIELD_NUMBER: _ClassVar[int]
    shadows: _containers.RepeatedCompositeFieldContainer[Shadow]
    def __init__(self, shadows: _Optional[_Iterable[_Union[Shadow, _Mapping]]] = ...) -> None: ...

class Shadow(_message.Message):
    __slots__ = ("model", "version", "devices", "active", "reporting", "troubled", "frames", "agreed", "skipped", "errors", "captured", "champion_confidence", "challenger_confidence", "champion_p95_ms", "challenger_p95_ms", "started_at_ms")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    REPORTING_FIELD_NUMBER: _ClassVar[int]
    TROUBLED_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    AGREED_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_FIELD_NUMBER: _ClassVar[int]
    CHAMPION_CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    CHALLENGER_CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    CHAMPION_P95_MS_FIELD_NUMBER: _ClassVar[int]
    CHALLENGER_P95_MS_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: int
    devices: int
    active: int
    reporting: int
    troubled: int
    frames: int
    agreed: int
    skipped: int
    errors: int
    captured: int
    champion_confidence: float
    challenger_confidence: float
    champion_p95_ms: float
    challenger_p95_ms: float
    started_at_ms: int
    def __init__(self, model: _Optional[str] = ..., version: _Optional[int] = ..., devices: _Optional[int] = ..., active: _Optional[int] = ..., reporting: _Optional[int] = ..., troubled: _Optional[int] = ..., frames: _Optional[int] = ..., agreed: _Optional[int] = ..., skipped: _Optional[int] = ..., errors: _Optional[int] = ..., captured: _Optional[int] = ..., champion_confidence: _Optional[float] = ..., challenger_confidence: _Optional[float] = ..., champion_p95_ms: _Optional[float] = ..., challenger_p95_ms: _Optional[float] = ..., started_at_ms: _Optional[int] = ...) -> None: ...

class GetShadowRequest(_message.Message):
    __slots__ = ("model", "version", "page_size", "page_token")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: int
    page_size: int
    page_token: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[int] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class GetShadowReply(_message.Message):
    __slots__ = ("total", "devices", "next_page_token")
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    total: Shadow
    devices: _containers.RepeatedCompositeFieldContainer[ShadowDevice]
    next_page_token: str
    def __init__(self, total: _Optional[_Union[Shadow, _Mapping]] = ..., devices: _Optional[_Iterable[_Union[ShadowDevice, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ShadowDevice(_message.Message):
    __slots__ = ("device_id", "target", "share", "max_share_of_time", "started_by", "started_at_ms", "stopped_at_ms", "reported_at_ms", "report")
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    MAX_SHARE_OF_TIME_FIELD_NUMBER: _ClassVar[int]
    STARTED_BY_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    STOPPED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    REPORTED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    target: str
    share: float
    max_share_of_time: float
    started_by: str
    started_at_ms: int
    stopped_at_ms: int
    reported_at_ms: int
    report: _twin_pb2.ShadowReport
    def __init__(self, device_id: _Optional[str] = ..., target: _Optional[str] = ..., share: _Optional[float] = ..., max_share_of_time: _Optional[float] = ..., started_by: _Optional[str] = ..., started_at_ms: _Optional[int] = ..., stopped_at_ms: _Optional[int] = ..., reported_at_ms: _Optional[int] = ..., report: _Optional[_Union[_twin_pb2.ShadowReport, _Mapping]] = ...) -> None: ...
