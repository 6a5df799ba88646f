from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class QueryReadingsRequest(_message.Message):
    __slots__ = ("device_id", "since_ms", "until_ms", "limit", "selector", "model", "uncertain", "captured")
    class SelectorEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    UNCERTAIN_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    since_ms: int
    until_ms: int
    limit: int
    selector: _containers.ScalarMap[str, str]
    model: str
    uncertain: bool
    captured: bool
    def __init__(self, device_id: _Optional[str] = ..., since_ms: _Optional[int] = ..., until_ms: _Optional[int] = ..., limit: _Optional[int] = ..., selector: _Optional[_Mapping[str, str]] = ..., model: _Optional[str] = ..., uncertain: _Optional[bool] = ..., captured: _Optional[bool] = ...) -> None: ...

class TailReadingsRequest(_message.Message):
    __slots__ = ("device_id", "selector", "last")
    class SelectorEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    selector: _containers.ScalarMap[str, str]
    last: int
    def __init__(self, device_id: _Optional[str] = ..., selector: _Optional[_Mapping[str, str]] = ..., last: _Optional[int] = ...) -> None: ...

class AggregateRequest(_message.Message):
    __slots__ = ("device_id", "selector", "since_ms", "until_ms", "window_ms", "fields", "by", "limit", "model")
    class SelectorEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_MS_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    selector: _containers.ScalarMap[str, str]
    since_ms: int
    until_ms: int
    window_ms: int
    fields: _containers.RepeatedScalarFieldContainer[str]
    by: _containers.RepeatedScalarFieldContainer[str]
    limit: int
    model: str
    def __init__(self, device_id: _Optional[str] = ..., selector: _Optional[_Mapping[str, str]] = ..., since_ms: _Optional[int] = ..., until_ms: _Optional[int] = ..., window_ms: _Optional[int] = ..., fields: _Optional[_Iterable[str]] = ..., by: _Optional[_Iterable[str]] = ..., limit: _Optional[int] = ..., model: _Optional[str] = ...) -> None: ...

class Aggregates(_message.Message):
    __slots__ = ("rows",)
    class Aggregate(_message.Message):
        __slots__ = ("start_ms", "end_ms", "device_id", "model", "label", "readings", "uncertain", "fields", "captured")
        START_MS_FIELD_NUMBER: _ClassVar[int]
        END_MS_FIELD_NUMBER: _ClassVar[int]
        DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
        MODEL_FIELD_NUMBER: _ClassVar[int]
        LABEL_FIELD_NUMBER: _ClassVar[int]
        READINGS_FIELD_NUMBER: _ClassVar[int]
        UNCERTAIN_FIELD_NUMBER: _ClassVar[int]
        FIELDS_FIELD_NUMBER: _ClassVar[int]
        CAPTURED_FIELD_NUMBER: _ClassVar[int]
        start_ms: int
        end_ms: int
        device_id: str
        model: str
        label: str
        readings: int
        uncertain: int
        fields: _containers.RepeatedCompositeFieldContainer[Aggregates.Field]
        captured: int
        def __init__(self, start_ms: _Optional[int] = ..., end_ms: _Optional[int] = ..., device_id: _Optional[str] = ..., model: _Optional[str] = ..., label: _Optional[str] = ..., readings: _Optional[int] = ..., uncertain: _Optional[int] = ..., fields: _Optional[_Iterable[_Union[Aggregates.Field, _Mapping]]] = ..., captured: _Optional[int] = ...) -> None: ...
    class Field(_message.Message):
        __slots__ = ("name", "mean", "min", "max", "p50", "p95", "approximate")
        NAME_FIELD_NUMBER: _ClassVar[int]
        MEAN_FIELD_NUMBER: _ClassVar[int]
        MIN_FIELD_NUMBER: _ClassVar[int]
        MAX_FIELD_NUMBER: _ClassVar[int]
        P50_FIELD_NUMBER: _ClassVar[int]
        P95_FIELD_NUMBER: _ClassVar[int]
        APPROXIMATE_FIELD_NUMBER: _ClassVar[int]
        name: str
        mean: float
        min: float
        max: float
        p50: float
        p95: float
        approximate: bool
        def __init__(self, name: _Optional[str] = ..., mean: _Optional[float] = ..., min: _Optional[float] = ..., max: _Optional[float] = ..., p50: _Optional[float] = ..., p95: _Optional[float] = ..., approximate: _Optional[bool] = ...) -> None: ...
    ROWS_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedCompositeFieldContainer[Aggregates.Aggregate]
    def __init__(self, rows: _Optional[_Iterable[_Union[Aggregates.Aggregate, _Mapping]]] = ...) -> None: ...

class Reading(_message.Message):
    __slots__ = ("device_id", "captured_at_ms", "lane", "epoch", "sequence", "label", "label_name", "confidence", "latency_ms", "captured", "uncertain", "frame_key", "model_manifest", "value")
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    LANE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    LABEL_NAME_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    LATENCY_MS_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_FIELD_NUMBER: _ClassVar[int]
    UNCERTAIN_FIELD_NUMBER: _ClassVar[int]
    FRAME_KEY_FIELD_NUMBER: _ClassVar[int]
    MODEL_MANIFEST_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    captured_at_ms: int
    lane: str
    epoch: str
    sequence: int
    label: int
    label_name: str
    confidence: float
    latency_ms: float
    captured: bool
    uncertain: bool
    frame_key: int
    model_manifest: str
    value: float
    def __init__(self, device_id: _Optional[str] = ..., captured_at_ms: _Optional[int] = ..., lane: _Optional[str] = ..., epoch: _Optional[str] = ..., sequence: _Optional[int] = ..., label: _Optional[int] = ..., label_name: _Optional[str] = ..., confidence: _Optional[float] = ..., latency_ms: _Optional[float] = ..., captured: _Optional[bool] = ..., uncertain: _Optional[bool] = ..., frame_key: _Optional[int] = ..., model_manifest: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...

class Readings(_message.Message):
    __slots__ = ("readings",)
    READINGS_FIELD_NUMBER: _ClassVar[int]
    readings: _containers.RepeatedCompositeFieldContainer[Reading]
    def __init__(self, readings: _Optional[_Iterable[_Union[Reading, _Mapping]]] = ...) -> None: ...

class GetStatsRequest(_message.Message):
    __slots__ = ("device_id",)
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    def __init__(self, device_id: _Optional[str] = ...) -> None: ...

class TelemetryStats(_message.Message):
    __slots__ = ("devices", "quarantined")
    class DeviceStats(_message.Message):
        __slots__ = ("device_id", "batches", "records", "duplicate_batches", "gap_records", "payload_bytes", "last_captured_at_ms")
        DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
        BATCHES_FIELD_NUMBER: _ClassVar[int]
        RECORDS_FIELD_NUMBER: _ClassVar[int]
        DUPLICATE_BATCHES_FIELD_NUMBER: _ClassVar[int]
        GAP_RECORDS_FIELD_NUMBER: _ClassVar[int]
        PAYLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
        LAST_CAPTURED_AT_MS_FIELD_NUMBER: _ClassVar[int]
        device_id: str
        batches: int
        records: int
        duplicate_batches: int
        gap_records: int
        payload_bytes: int
        last_captured_at_ms: int
        def __init__(self, device_id: _Optional[str] = ..., batches: _Optional[int] = ..., records: _Optional[int] = ..., duplicate_batches: _Optional[int] = ..., gap_records: _Optional[int] = ..., payload_bytes: _Optional[int] = ..., last_captured_at_ms: _Optional[int] = ...) -> None: ...
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_FIELD_NUMBER: _ClassVar[int]
    devices: _containers.RepeatedCompositeFieldContainer[TelemetryStats.DeviceStats]
    quarantined: int
    def __init__(self, devices: _Optional[_Iterable[_Union[TelemetryStats.DeviceStats, _Mapping]]] = ..., quarantined: _Optional[int] = ...) -> None: ...

class ListQuarantineRequest(_message.Message):
    __slots__ = ("limit",)
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    limit: int
    def __init__(self, limit: _Optional[int] = ...) -> None: ...

class GetQuarantinedRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: int
    def __init__(self, id: _Optional[int] = ...) -> None: ...

class ReplayQuarantinedRequest(_message.Message):
    __slots__ = ("ids",)
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, ids: _Optional[_Iterable[int]] = ...) -> None: ...

class ReplayQuarantinedReply(_message.Message):
    __slots__ = ("replayed", "refused")
    class Refused(_message.Message):
        __slots__ = ("id", "reason")
        ID_FIELD_NUMBER: _ClassVar[int]
        REASON_FIELD_NUMBER: _ClassVar[int]
        id: int
        reason: str
        def __init__(self, id: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    replayed: int
    refused: _containers.RepeatedCompositeFieldContainer[ReplayQuarantinedReply.Refused]
    def __init__(self, replayed: _Optional[int] = ..., refused: _Optional[_Iterable[_Union[ReplayQuarantinedReply.Refused, _Mapping]]] = ...) -> None: ...

class QuarantinedMessage(_message.Message):
    __slots__ = ("id", "topic", "reason", "payload", "count", "first_at_ms", "last_at_ms")
    ID_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    FIRST_AT_MS_FIELD_NUMBER: _ClassVar[int]
    LAST_AT_MS_FIELD_NUMBER: _ClassVar[int]
    id: int
    topic: str
    reason: str
    payload: bytes
    count: int
    first_at_ms: int
    last_at_ms: int
    def __init__(self, id: _Optional[int] = ..., topic: _Optional[str] = ..., reason: _Optional[str] = ..., payload: _Optional[bytes] = ..., count: _Optional[int] = ..., first_at_ms: _Optional[int] = ..., last_at_ms: _Optional[int] = ...) -> None: ...

class ListQuarantineReply(_message.Message):
    __slots__ = ("messages",)
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[QuarantinedMessage]
    def __init__(self, messages: _Optional[_Iterable[_Union[QuarantinedMessage, _Mapping]]] = ...) -> None: ...

class ListEventsRequest(_message.Message):
    __slots__ = ("device_id", "limit")
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    limit: int
    def __init__(self, device_id: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class DeviceEvent(_message.Message):
    __slots__ = ("device_id", "at_ms", "kind", "detail")
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    at_ms: int
    kind: str
    detail: str
    def __init__(self, device_id: _Optional[str] = ..., at_ms: _Optional[int] = ..., kind: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class ListEventsReply(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[DeviceEvent]
    def __init__(self, events: _Optional[_Iterable[_Union[DeviceEvent, _Mapping]]] = ...) -> None: ...
