from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Repository(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REPOSITORY_UNSPECIFIED: _ClassVar[Repository]
    REPOSITORY_IMAGE: _ClassVar[Repository]
    REPOSITORY_DIRECTOR: _ClassVar[Repository]
REPOSITORY_UNSPECIFIED: Repository
REPOSITORY_IMAGE: Repository
REPOSITORY_DIRECTOR: Repository

class GetMetadataRequest(_message.Message):
    __slots__ = ("repository", "name")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    repository: Repository
    name: str
    def __init__(self, repository: _Optional[_Union[Repository, str]] = ..., name: _Optional[str] = ...) -> None: ...

class MetadataChunk(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class GetDirectorRequest(_message.Message):
    __slots__ = ("nonce",)
    NONCE_FIELD_NUMBER: _ClassVar[int]
    nonce: bytes
    def __init__(self, nonce: _Optional[bytes] = ...) -> None: ...

class GetDirectorReply(_message.Message):
    __slots__ = ("metadata",)
    METADATA_FIELD_NUMBER: _ClassVar[int]
    metadata: bytes
    def __init__(self, metadata: _Optional[bytes] = ...) -> None: ...

class GetTrustRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class OnlineKey(_message.Message):
    __slots__ = ("repository", "role", "key_id", "public_key")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    repository: Repository
    role: str
    key_id: str
    public_key: bytes
    def __init__(self, repository: _Optional[_Union[Repository, str]] = ..., role: _Optional[str] = ..., key_id: _Optional[str] = ..., public_key: _Optional[bytes] = ...) -> None: ...

class RoleStatus(_message.Message):
    __slots__ = ("repository", "role", "version", "expires_at_ms", "threshold", "key_ids")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_MS_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    KEY_IDS_FIELD_NUMBER: _ClassVar[int]
    repository: Repository
    role: str
    version: int
    expires_at_ms: int
    threshold: int
    key_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, repository: _Optional[_Union[Repository, str]] = ..., role: _Optional[str] = ..., version: _Optional[int] = ..., expires_at_ms: _Optional[int] = ..., threshold: _Optional[int] = ..., key_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class TrustStatus(_message.Message):
    __slots__ = ("roles", "targets", "waiting", "problem")
    ROLES_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    roles: _containers.RepeatedCompositeFieldContainer[RoleStatus]
    targets: int
    waiting: int
    problem: str
    def __init__(self, roles: _Optional[_Iterable[_Union[RoleStatus, _Mapping]]] = ..., targets: _Optional[int] = ..., waiting: _Optional[int] = ..., problem: _Optional[str] = ...) -> None: ...

class PrepareKeysRequest(_message.Message):
    __slots__ = ("roles",)
    ROLES_FIELD_NUMBER: _ClassVar[int]
    roles: _containers.RepeatedCompositeFieldContainer[OnlineKey]
    def __init__(self, roles: _Optional[_Iterable[_Union[OnlineKey, _Mapping]]] = ...) -> None: ...

class PrepareKeysReply(_message.Message):
    __slots__ = ("keys", "image_root", "director_root")
    KEYS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_ROOT_FIELD_NUMBER: _ClassVar[int]
    DIRECTOR_ROOT_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedCompositeFieldContainer[OnlineKey]
    image_root: bytes
    director_root: bytes
    def __init__(self, keys: _Optional[_Iterable[_Union[OnlineKey, _Mapping]]] = ..., image_root: _Optional[bytes] = ..., director_root: _Optional[bytes] = ...) -> None: ...

class PutRootRequest(_message.Message):
    __slots__ = ("image_root", "director_root")
    IMAGE_ROOT_FIELD_NUMBER: _ClassVar[int]
    DIRECTOR_ROOT_FIELD_NUMBER: _ClassVar[int]
    image_root: bytes
    director_root: bytes
    def __init__(self, image_root: _Optional[bytes] = ..., director_root: _Optional[bytes] = ...) -> None: ...
