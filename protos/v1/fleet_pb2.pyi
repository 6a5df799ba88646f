from protos.v1 import twin_pb2 as _twin_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Device(_message.Message):
    __slots__ = ("id", "tenant", "board", "labels", "enrolled", "presence", "last_seen_ms", "desired", "reported", "created_at_ms", "credential", "pending_fingerprint")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    BOARD_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    ENROLLED_FIELD_NUMBER: _ClassVar[int]
    PRESENCE_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_MS_FIELD_NUMBER: _ClassVar[int]
    DESIRED_FIELD_NUMBER: _ClassVar[int]
    REPORTED_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    CREDENTIAL_FIELD_NUMBER: _ClassVar[int]
    PENDING_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    id: str
    tenant: str
    board: str
    labels: _containers.ScalarMap[str, str]
    enrolled: bool
    presence: _twin_pb2.Presence
    last_seen_ms: int
    desired: _twin_pb2.DesiredTwin
    reported: _twin_pb2.ReportedTwin
    created_at_ms: int
    credential: Credential
    pending_fingerprint: str
    def __init__(self, id: _Optional[str] = ..., tenant: _Optional[str] = ..., board: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., enrolled: _Optional[bool] = ..., presence: _Optional[_Union[_twin_pb2.Presence, str]] = ..., last_seen_ms: _Optional[int] = ..., desired: _Optional[_Union[_twin_pb2.DesiredTwin, _Mapping]] = ..., reported: _Optional[_Union[_twin_pb2.ReportedTwin, _Mapping]] = ..., created_at_ms: _Optional[int] = ..., credential: _Optional[_Union[Credential, _Mapping]] = ..., pending_fingerprint: _Optional[str] = ...) -> None: ...

class Credential(_message.Message):
    __slots__ = ("serial", "issued_at_ms", "expires_at_ms", "revoked_at_ms", "reason")
    SERIAL_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_MS_FIELD_NUMBER: _ClassVar[int]
    REVOKED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    serial: str
    issued_at_ms: int
    expires_at_ms: int
    revoked_at_ms: int
    reason: str
    def __init__(self, serial: _Optional[str] = ..., issued_at_ms: _Optional[int] = ..., expires_at_ms: _Optional[int] = ..., revoked_at_ms: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class CreateDeviceRequest(_message.Message):
    __slots__ = ("id", "board", "labels", "token_ttl_s", "needs_approval")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    BOARD_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_TTL_S_FIELD_NUMBER: _ClassVar[int]
    NEEDS_APPROVAL_FIELD_NUMBER: _ClassVar[int]
    id: str
    board: str
    labels: _containers.ScalarMap[str, str]
    token_ttl_s: int
    needs_approval: bool
    def __init__(self, id: _Optional[str] = ..., board: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., token_ttl_s: _Optional[int] = ..., needs_approval: _Optional[bool] = ...) -> None: ...

class CreateDeviceReply(_message.Message):
    __slots__ = ("device", "token", "ca_pem", "enroll_address", "image_root", "director_root")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    CA_PEM_FIELD_NUMBER: _ClassVar[int]
    ENROLL_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_ROOT_FIELD_NUMBER: _ClassVar[int]
    DIRECTOR_ROOT_FIELD_NUMBER: _ClassVar[int]
    device: Device
    token: str
    ca_pem: str
    enroll_address: str
    image_root: bytes
    director_root: bytes
    def __init__(self, device: _Optional[_Union[Device, _Mapping]] = ..., token: _Optional[str] = ..., ca_pem: _Optional[str] = ..., enroll_address: _Optional[str] = ..., image_root: _Optional[bytes] = ..., director_root: _Optional[bytes] = ...) -> None: ...

class EnrollDeviceRequest(_message.Message):
    __slots__ = ("id", "token_ttl_s", "needs_approval")
    ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_TTL_S_FIELD_NUMBER: _ClassVar[int]
    NEEDS_APPROVAL_FIELD_NUMBER: _ClassVar[int]
    id: str
    token_ttl_s: int
    needs_approval: bool
    def __init__(self, id: _Optional[str] = ..., token_ttl_s: _Optional[int] = ..., needs_approval: _Optional[bool] = ...) -> None: ...

class ApproveDeviceRequest(_message.Message):
    __slots__ = ("id", "fingerprint")
    ID_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    id: str
    fingerprint: str
    def __init__(self, id: _Optional[str] = ..., fingerprint: _Optional[str] = ...) -> None: ...

class RevokeDeviceRequest(_message.Message):
    __slots__ = ("id", "reason")
    ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    id: str
    reason: str
    def __init__(self, id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class RotateDeviceRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class GetDeviceRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class Selector(_message.Message):
    __slots__ = ("match",)
    class MatchEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    MATCH_FIELD_NUMBER: _ClassVar[int]
    match: _containers.ScalarMap[str, str]
    def __init__(self, match: _Optional[_Mapping[str, str]] = ...) -> None: ...

class ListDevicesRequest(_message.Message):
    __slots__ = ("selector", "page_size", "page_token")
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    selector: Selector
    page_size: int
    page_token: str
    def __init__(self, selector: _Optional[_Union[Selector, _Mapping]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListDevicesReply(_message.Message):
    __slots__ = ("devices", "next_page_token")
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    devices: _containers.RepeatedCompositeFieldContainer[Device]
    next_page_token: str
    def __init__(self, devices: _Optional[_Iterable[_Union[Device, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class UpdateDeviceRequest(_message.Message):
    __slots__ = ("id", "labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    id: str
    labels: _containers.ScalarMap[str, str]
    def __init__(self, id: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ...) -> None: ...

class DeleteDeviceRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class DeleteDeviceReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
