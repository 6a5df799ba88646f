from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DriftEpisode(_message.Message):
    __slots__ = ("id", "device_id", "model", "version", "opened_at_ms", "closed_at_ms", "reason", "job_id")
    ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    OPENED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    CLOSED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    device_id: str
    model: str
    version: int
    opened_at_ms: int
    closed_at_ms: int
    reason: str
    job_id: str
    def __init__(self, id: _Optional[str] = ..., device_id: _Optional[str] = ..., model: _Optional[str] = ..., version: _Optional[int] = ..., opened_at_ms: _Optional[int] = ..., closed_at_ms: _Optional[int] = ..., reason: _Optional[str] = ..., job_id: _Optional[str] = ...) -> None: ...

class DriftWindow(_message.Message):
    __slots__ = ("device_id", "model", "version", "start_ms", "end_ms", "readings", "label_psi", "confidence_psi", "confidence_shift", "drifted")
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    START_MS_FIELD_NUMBER: _ClassVar[int]
    END_MS_FIELD_NUMBER: _ClassVar[int]
    READINGS_FIELD_NUMBER: _ClassVar[int]
    LABEL_PSI_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_PSI_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_SHIFT_FIELD_NUMBER: _ClassVar[int]
    DRIFTED_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    model: str
    version: int
    start_ms: int
    end_ms: int
    readings: int
    label_psi: float
    confidence_psi: float
    confidence_shift: float
    drifted: bool
    def __init__(self, device_id: _Optional[str] = ..., model: _Optional[str] = ..., version: _Optional[int] = ..., start_ms: _Optional[int] = ..., end_ms: _Optional[int] = ..., readings: _Optional[int] = ..., label_psi: _Optional[float] = ..., confidence_psi: _Optional[float] = ..., confidence_shift: _Optional[float] = ..., drifted: _Optional[bool] = ...) -> None: ...

class ListEpisodesRequest(_message.Message):
    __slots__ = ("model", "open_only", "page_size", "page_token")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    OPEN_ONLY_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    model: str
    open_only: bool
    page_size: int
    page_token: str
    def __init__(self, model: _Optional[str] = ..., open_only: _Optional[bool] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListEpisodesReply(_message.Message):
    __slots__ = ("episodes", "next_page_token")
    EPISODES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    episodes: _containers.RepeatedCompositeFieldContainer[DriftEpisode]
    next_page_token: str
    def __init__(self, episodes: _Optional[_Iterable[_Union[DriftEpisode, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListWindowsRequest(_message.Message):
    __slots__ = ("model", "device_id", "limit")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    model: str
    device_id: str
    limit: int
    def __init__(self, model: _Optional[str] = ..., device_id: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class ListWindowsReply(_message.Message):
    __slots__ = ("windows",)
    WINDOWS_FIELD_NUMBER: _ClassVar[int]
    windows: _containers.RepeatedCompositeFieldContainer[DriftWindow]
    def __init__(self, windows: _Optional[_Iterable[_Union[DriftWindow, _Mapping]]] = ...) -> None: ...
