from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Encoding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENCODING_UNSPECIFIED: _ClassVar[Encoding]
    ENCODING_ZSTD_PATCH: _ClassVar[Encoding]
    ENCODING_TENSOR: _ClassVar[Encoding]
ENCODING_UNSPECIFIED: Encoding
ENCODING_ZSTD_PATCH: Encoding
ENCODING_TENSOR: Encoding

class DownloadRequest(_message.Message):
    __slots__ = ("digest", "offset")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    digest: str
    offset: int
    def __init__(self, digest: _Optional[str] = ..., offset: _Optional[int] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("data", "total_bytes")
    DATA_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    total_bytes: int
    def __init__(self, data: _Optional[bytes] = ..., total_bytes: _Optional[int] = ...) -> None: ...

class LocateRequest(_message.Message):
    __slots__ = ("digest", "have", "max_decode_bytes")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    HAVE_FIELD_NUMBER: _ClassVar[int]
    MAX_DECODE_BYTES_FIELD_NUMBER: _ClassVar[int]
    digest: str
    have: _containers.RepeatedScalarFieldContainer[str]
    max_decode_bytes: int
    def __init__(self, digest: _Optional[str] = ..., have: _Optional[_Iterable[str]] = ..., max_decode_bytes: _Optional[int] = ...) -> None: ...

class LocateReply(_message.Message):
    __slots__ = ("sources",)
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    sources: _containers.RepeatedCompositeFieldContainer[Source]
    def __init__(self, sources: _Optional[_Iterable[_Union[Source, _Mapping]]] = ...) -> None: ...

class Source(_message.Message):
    __slots__ = ("encoding", "digest", "size_bytes", "base_digest", "decode_bytes", "url")
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    BASE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    DECODE_BYTES_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    encoding: Encoding
    digest: str
    size_bytes: int
    base_digest: str
    decode_bytes: int
    url: str
    def __init__(self, encoding: _Optional[_Union[Encoding, str]] = ..., digest: _Optional[str] = ..., size_bytes: _Optional[int] = ..., base_digest: _Optional[str] = ..., decode_bytes: _Optional[int] = ..., url: _Optional[str] = ...) -> None: ...
