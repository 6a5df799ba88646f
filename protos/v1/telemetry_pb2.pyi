from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Lane(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LANE_UNSPECIFIED: _ClassVar[Lane]
    LANE_CRITICAL: _ClassVar[Lane]
    LANE_NORMAL: _ClassVar[Lane]
    LANE_BULK: _ClassVar[Lane]
LANE_UNSPECIFIED: Lane
LANE_CRITICAL: Lane
LANE_NORMAL: Lane
LANE_BULK: Lane

class TelemetryBatch(_message.Message):
    __slots__ = ("epoch", "lane", "first_sequence", "last_sequence", "inferences", "events", "gaps", "windows")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    LANE_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    INFERENCES_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    GAPS_FIELD_NUMBER: _ClassVar[int]
    WINDOWS_FIELD_NUMBER: _ClassVar[int]
    epoch: str
    lane: Lane
    first_sequence: int
    last_sequence: int
    inferences: InferenceColumns
    events: _containers.RepeatedCompositeFieldContainer[Event]
    gaps: _containers.RepeatedCompositeFieldContainer[Gap]
    windows: _containers.RepeatedCompositeFieldContainer[Window]
    def __init__(self, epoch: _Optional[str] = ..., lane: _Optional[_Union[Lane, str]] = ..., first_sequence: _Optional[int] = ..., last_sequence: _Optional[int] = ..., inferences: _Optional[_Union[InferenceColumns, _Mapping]] = ..., events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ..., gaps: _Optional[_Iterable[_Union[Gap, _Mapping]]] = ..., windows: _Optional[_Iterable[_Union[Window, _Mapping]]] = ...) -> None: ...

class InferenceColumns(_message.Message):
    __slots__ = ("rows", "offset", "captured_at", "label", "confidence", "latency", "flags", "frame_key", "model", "models", "value")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_AT_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    LATENCY_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    FRAME_KEY_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    rows: int
    offset: bytes
    captured_at: bytes
    label: bytes
    confidence: bytes
    latency: bytes
    flags: bytes
    frame_key: bytes
    model: bytes
    models: _containers.RepeatedScalarFieldContainer[str]
    value: bytes
    def __init__(self, rows: _Optional[int] = ..., offset: _Optional[bytes] = ..., captured_at: _Optional[bytes] = ..., label: _Optional[bytes] = ..., confidence: _Optional[bytes] = ..., latency: _Optional[bytes] = ..., flags: _Optional[bytes] = ..., frame_key: _Optional[bytes] = ..., model: _Optional[bytes] = ..., models: _Optional[_Iterable[str]] = ..., value: _Optional[bytes] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("sequence", "at_ms", "kind", "detail")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    at_ms: int
    kind: str
    detail: str
    def __init__(self, sequence: _Optional[int] = ..., at_ms: _Optional[int] = ..., kind: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class Window(_message.Message):
    __slots__ = ("sequence", "stream", "key", "start_ms", "end_ms", "readings", "complete", "values")
    class Value(_message.Message):
        __slots__ = ("name", "value")
        NAME_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        name: str
        value: float
        def __init__(self, name: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    START_MS_FIELD_NUMBER: _ClassVar[int]
    END_MS_FIELD_NUMBER: _ClassVar[int]
    READINGS_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    stream: str
    key: str
    start_ms: int
    end_ms: int
    readings: int
    complete: bool
    values: _containers.RepeatedCompositeFieldContainer[Window.Value]
    def __init__(self, sequence: _Optional[int] = ..., stream: _Optional[str] = ..., key: _Optional[str] = ..., start_ms: _Optional[int] = ..., end_ms: _Optional[int] = ..., readings: _Optional[int] = ..., complete: _Optional[bool] = ..., values: _Optional[_Iterable[_Union[Window.Value, _Mapping]]] = ...) -> None: ...

class Gap(_message.Message):
    __slots__ = ("first_sequence", "last_sequence", "reason", "at_ms")
    FIRST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    first_sequence: int
    last_sequence: int
    reason: str
    at_ms: int
    def __init__(self, first_sequence: _Optional[int] = ..., last_sequence: _Optional[int] = ..., reason: _Optional[str] = ..., at_ms: _Optional[int] = ...) -> None: ...

class Watermark(_message.Message):
    __slots__ = ("marks",)
    class Mark(_message.Message):
        __slots__ = ("epoch", "lane", "committed_through")
        EPOCH_FIELD_NUMBER: _ClassVar[int]
        LANE_FIELD_NUMBER: _ClassVar[int]
        COMMITTED_THROUGH_FIELD_NUMBER: _ClassVar[int]
        epoch: str
        lane: Lane
        committed_through: int
        def __init__(self, epoch: _Optional[str] = ..., lane: _Optional[_Union[Lane, str]] = ..., committed_through: _Optional[int] = ...) -> None: ...
    MARKS_FIELD_NUMBER: _ClassVar[int]
    marks: _containers.RepeatedCompositeFieldContainer[Watermark.Mark]
    def __init__(self, marks: _Optional[_Iterable[_Union[Watermark.Mark, _Mapping]]] = ...) -> None: ...
