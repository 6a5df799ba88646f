from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WindowCondition(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WINDOW_CONDITION_UNSPECIFIED: _ClassVar[WindowCondition]
    WINDOW_CONDITION_HOLDS: _ClassVar[WindowCondition]
    WINDOW_CONDITION_FAILS: _ClassVar[WindowCondition]
WINDOW_CONDITION_UNSPECIFIED: WindowCondition
WINDOW_CONDITION_HOLDS: WindowCondition
WINDOW_CONDITION_FAILS: WindowCondition

class Stream(_message.Message):
    __slots__ = ("name", "yaml", "updated_at_ms", "across_fleet")
    NAME_FIELD_NUMBER: _ClassVar[int]
    YAML_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    ACROSS_FLEET_FIELD_NUMBER: _ClassVar[int]
    name: str
    yaml: str
    updated_at_ms: int
    across_fleet: bool
    def __init__(self, name: _Optional[str] = ..., yaml: _Optional[str] = ..., updated_at_ms: _Optional[int] = ..., across_fleet: _Optional[bool] = ...) -> None: ...

class PutStreamsRequest(_message.Message):
    __slots__ = ("yaml",)
    YAML_FIELD_NUMBER: _ClassVar[int]
    yaml: str
    def __init__(self, yaml: _Optional[str] = ...) -> None: ...

class PutStreamsReply(_message.Message):
    __slots__ = ("streams",)
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    streams: _containers.RepeatedCompositeFieldContainer[Stream]
    def __init__(self, streams: _Optional[_Iterable[_Union[Stream, _Mapping]]] = ...) -> None: ...

class ListStreamsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListStreamsReply(_message.Message):
    __slots__ = ("streams",)
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    streams: _containers.RepeatedCompositeFieldContainer[Stream]
    def __init__(self, streams: _Optional[_Iterable[_Union[Stream, _Mapping]]] = ...) -> None: ...

class GetStreamRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class WindowHistogram(_message.Message):
    __slots__ = ("name", "counts")
    NAME_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    counts: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., counts: _Optional[_Iterable[int]] = ...) -> None: ...

class StreamWindow(_message.Message):
    __slots__ = ("number", "stream", "device_id", "origin", "key", "start_ms", "end_ms", "readings", "values", "histograms", "condition", "complete")
    class ValuesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    START_MS_FIELD_NUMBER: _ClassVar[int]
    END_MS_FIELD_NUMBER: _ClassVar[int]
    READINGS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    HISTOGRAMS_FIELD_NUMBER: _ClassVar[int]
    CONDITION_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    number: int
    stream: str
    device_id: str
    origin: str
    key: str
    start_ms: int
    end_ms: int
    readings: int
    values: _containers.ScalarMap[str, float]
    histograms: _containers.RepeatedCompositeFieldContainer[WindowHistogram]
    condition: WindowCondition
    complete: bool
    def __init__(self, number: _Optional[int] = ..., stream: _Optional[str] = ..., device_id: _Optional[str] = ..., origin: _Optional[str] = ..., key: _Optional[str] = ..., start_ms: _Optional[int] = ..., end_ms: _Optional[int] = ..., readings: _Optional[int] = ..., values: _Optional[_Mapping[str, float]] = ..., histograms: _Optional[_Iterable[_Union[WindowHistogram, _Mapping]]] = ..., condition: _Optional[_Union[WindowCondition, str]] = ..., complete: _Optional[bool] = ...) -> None: ...

class ListStreamWindowsRequest(_message.Message):
    __slots__ = ("stream", "device_id", "since_ms", "until_ms", "page_size", "page_token")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    stream: str
    device_id: str
    since_ms: int
    until_ms: int
    page_size: int
    page_token: str
    def __init__(self, stream: _Optional[str] = ..., device_id: _Optional[str] = ..., since_ms: _Optional[int] = ..., until_ms: _Optional[int] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListStreamWindowsReply(_message.Message):
    __slots__ = ("windows", "next_page_token")
    WINDOWS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    windows: _containers.RepeatedCompositeFieldContainer[StreamWindow]
    next_page_token: str
    def __init__(self, windows: _Optional[_Iterable[_Union[StreamWindow, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WatchStreamWindowsRequest(_message.Message):
    __slots__ = ("stream", "device_id", "after_number")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_NUMBER_FIELD_NUMBER: _ClassVar[int]
    stream: str
    device_id: str
    after_number: int
    def __init__(self, stream: _Optional[str] = ..., device_id: _Optional[str] = ..., after_number: _Optional[int] = ...) -> None: ...

class WatchStreamWindowsReply(_message.Message):
    __slots__ = ("windows", "number")
    WINDOWS_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    windows: _containers.RepeatedCompositeFieldContainer[StreamWindow]
    number: int
    def __init__(self, windows: _Optional[_Iterable[_Union[StreamWindow, _Mapping]]] = ..., number: _Optional[int] = ...) -> None: ...
