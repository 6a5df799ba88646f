from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Format(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FORMAT_UNSPECIFIED: _ClassVar[Format]
    FORMAT_ONNX: _ClassVar[Format]
    FORMAT_TFLITE: _ClassVar[Format]

class Precision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRECISION_UNSPECIFIED: _ClassVar[Precision]
    PRECISION_FP32: _ClassVar[Precision]
    PRECISION_INT8: _ClassVar[Precision]

class Layout(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LAYOUT_UNSPECIFIED: _ClassVar[Layout]
    LAYOUT_NCHW: _ClassVar[Layout]
    LAYOUT_NHWC: _ClassVar[Layout]
FORMAT_UNSPECIFIED: Format
FORMAT_ONNX: Format
FORMAT_TFLITE: Format
PRECISION_UNSPECIFIED: Precision
PRECISION_FP32: Precision
PRECISION_INT8: Precision
LAYOUT_UNSPECIFIED: Layout
LAYOUT_NCHW: Layout
LAYOUT_NHWC: Layout

class Blob(_message.Message):
    __slots__ = ("digest", "size_bytes")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    digest: str
    size_bytes: int
    def __init__(self, digest: _Optional[str] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class ImagePreprocess(_message.Message):
    __slots__ = ("width", "height", "channels", "layout", "mean", "std")
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    STD_FIELD_NUMBER: _ClassVar[int]
    width: int
    height: int
    channels: int
    layout: Layout
    mean: _containers.RepeatedScalarFieldContainer[float]
    std: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, width: _Optional[int] = ..., height: _Optional[int] = ..., channels: _Optional[int] = ..., layout: _Optional[_Union[Layout, str]] = ..., mean: _Optional[_Iterable[float]] = ..., std: _Optional[_Iterable[float]] = ...) -> None: ...

class Classification(_message.Message):
    __slots__ = ("labels", "min_confidence", "temperature")
    LABELS_FIELD_NUMBER: _ClassVar[int]
    MIN_CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    labels: _containers.RepeatedScalarFieldContainer[str]
    min_confidence: float
    temperature: float
    def __init__(self, labels: _Optional[_Iterable[str]] = ..., min_confidence: _Optional[float] = ..., temperature: _Optional[float] = ...) -> None: ...

class Golden(_message.Message):
    __slots__ = ("blob", "tolerance")
    BLOB_FIELD_NUMBER: _ClassVar[int]
    TOLERANCE_FIELD_NUMBER: _ClassVar[int]
    blob: Blob
    tolerance: float
    def __init__(self, blob: _Optional[_Union[Blob, _Mapping]] = ..., tolerance: _Optional[float] = ...) -> None: ...

class GoldenSet(_message.Message):
    __slots__ = ("count", "height", "width", "classes", "frames", "outputs")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    count: int
    height: int
    width: int
    classes: int
    frames: bytes
    outputs: bytes
    def __init__(self, count: _Optional[int] = ..., height: _Optional[int] = ..., width: _Optional[int] = ..., classes: _Optional[int] = ..., frames: _Optional[bytes] = ..., outputs: _Optional[bytes] = ...) -> None: ...

class ModelManifest(_message.Message):
    __slots__ = ("schema", "name", "version", "task", "artifact", "format", "precision", "preprocess", "classification", "golden", "boards", "chunk_bytes", "chunk_digests")
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    PREPROCESS_FIELD_NUMBER: _ClassVar[int]
    CLASSIFICATION_FIELD_NUMBER: _ClassVar[int]
    GOLDEN_FIELD_NUMBER: _ClassVar[int]
    BOARDS_FIELD_NUMBER: _ClassVar[int]
    CHUNK_BYTES_FIELD_NUMBER: _ClassVar[int]
    CHUNK_DIGESTS_FIELD_NUMBER: _ClassVar[int]
    schema: int
    name: str
    version: int
    task: str
    artifact: Blob
    format: Format
    precision: Precision
    preprocess: ImagePreprocess
    classification: Classification
    golden: Golden
    boards: _containers.RepeatedScalarFieldContainer[str]
    chunk_bytes: int
    chunk_digests: bytes
    def __init__(self, schema: _Optional[int] = ..., name: _Optional[str] = ..., version: _Optional[int] = ..., task: _Optional[str] = ..., artifact: _Optional[_Union[Blob, _Mapping]] = ..., format: _Optional[_Union[Format, str]] = ..., precision: _Optional[_Union[Precision, str]] = ..., preprocess: _Optional[_Union[ImagePreprocess, _Mapping]] = ..., classification: _Optional[_Union[Classification, _Mapping]] = ..., golden: _Optional[_Union[Golden, _Mapping]] = ..., boards: _Optional[_Iterable[str]] = ..., chunk_bytes: _Optional[int] = ..., chunk_digests: _Optional[bytes] = ...) -> None: ...
