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

class WindowInput(_message.Message):
    __slots__ = ("channels", "steps", "mean", "std")
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    STD_FIELD_NUMBER: _ClassVar[int]
    channels: _containers.RepeatedScalarFieldContainer[str]
    steps: int
    mean: _containers.RepeatedScalarFieldContainer[float]
    std: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, channels: _Optional[_Iterable[str]] = ..., steps: _Optional[int] = ..., mean: _Optional[_Iterable[float]] = ..., std: _Optional[_Iterable[float]] = ...) -> None: ...

class RowInput(_message.Message):
    __slots__ = ("columns",)
    class Column(_message.Message):
        __slots__ = ("name", "values", "mean", "std", "indicator")
        NAME_FIELD_NUMBER: _ClassVar[int]
        VALUES_FIELD_NUMBER: _ClassVar[int]
        MEAN_FIELD_NUMBER: _ClassVar[int]
        STD_FIELD_NUMBER: _ClassVar[int]
        INDICATOR_FIELD_NUMBER: _ClassVar[int]
        name: str
        values: _containers.RepeatedScalarFieldContainer[str]
        mean: float
        std: float
        indicator: bool
        def __init__(self, name: _Optional[str] = ..., values: _Optional[_Iterable[str]] = ..., mean: _Optional[float] = ..., std: _Optional[float] = ..., indicator: _Optional[bool] = ...) -> None: ...
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    columns: _containers.RepeatedCompositeFieldContainer[RowInput.Column]
    def __init__(self, columns: _Optional[_Iterable[_Union[RowInput.Column, _Mapping]]] = ...) -> None: ...

class TextInput(_message.Message):
    __slots__ = ("buckets", "words", "least_chars", "most_chars")
    BUCKETS_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    LEAST_CHARS_FIELD_NUMBER: _ClassVar[int]
    MOST_CHARS_FIELD_NUMBER: _ClassVar[int]
    buckets: int
    words: int
    least_chars: int
    most_chars: int
    def __init__(self, buckets: _Optional[int] = ..., words: _Optional[int] = ..., least_chars: _Optional[int] = ..., most_chars: _Optional[int] = ...) -> None: ...

class Ranking(_message.Message):
    __slots__ = ("items", "top", "min_confidence", "temperature")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    TOP_FIELD_NUMBER: _ClassVar[int]
    MIN_CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedScalarFieldContainer[str]
    top: int
    min_confidence: float
    temperature: float
    def __init__(self, items: _Optional[_Iterable[str]] = ..., top: _Optional[int] = ..., min_confidence: _Optional[float] = ..., temperature: _Optional[float] = ...) -> None: ...

class Values(_message.Message):
    __slots__ = ("names", "mean", "std", "edges", "headline")
    NAMES_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    STD_FIELD_NUMBER: _ClassVar[int]
    EDGES_FIELD_NUMBER: _ClassVar[int]
    HEADLINE_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    mean: _containers.RepeatedScalarFieldContainer[float]
    std: _containers.RepeatedScalarFieldContainer[float]
    edges: _containers.RepeatedScalarFieldContainer[float]
    headline: int
    def __init__(self, names: _Optional[_Iterable[str]] = ..., mean: _Optional[_Iterable[float]] = ..., std: _Optional[_Iterable[float]] = ..., edges: _Optional[_Iterable[float]] = ..., headline: _Optional[int] = ...) -> None: ...

class Reconstruction(_message.Message):
    __slots__ = ("values", "threshold", "min_confidence")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    MIN_CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    values: int
    threshold: float
    min_confidence: float
    def __init__(self, values: _Optional[int] = ..., threshold: _Optional[float] = ..., min_confidence: _Optional[float] = ...) -> None: ...

class Detection(_message.Message):
    __slots__ = ("classes", "rows", "columns", "stride", "min_score", "max_overlap", "max_boxes", "min_confidence", "temperature")
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    STRIDE_FIELD_NUMBER: _ClassVar[int]
    MIN_SCORE_FIELD_NUMBER: _ClassVar[int]
    MAX_OVERLAP_FIELD_NUMBER: _ClassVar[int]
    MAX_BOXES_FIELD_NUMBER: _ClassVar[int]
    MIN_CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    classes: _containers.RepeatedScalarFieldContainer[str]
    rows: int
    columns: int
    stride: int
    min_score: float
    max_overlap: float
    max_boxes: int
    min_confidence: float
    temperature: float
    def __init__(self, classes: _Optional[_Iterable[str]] = ..., rows: _Optional[int] = ..., columns: _Optional[int] = ..., stride: _Optional[int] = ..., min_score: _Optional[float] = ..., max_overlap: _Optional[float] = ..., max_boxes: _Optional[int] = ..., min_confidence: _Optional[float] = ..., temperature: _Optional[float] = ...) -> None: ...

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
    __slots__ = ("count", "height", "width", "size", "frames", "outputs", "samples")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    count: int
    height: int
    width: int
    size: int
    frames: bytes
    outputs: bytes
    samples: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, count: _Optional[int] = ..., height: _Optional[int] = ..., width: _Optional[int] = ..., size: _Optional[int] = ..., frames: _Optional[bytes] = ..., outputs: _Optional[bytes] = ..., samples: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ModelManifest(_message.Message):
    __slots__ = ("schema", "name", "version", "task", "artifact", "format", "precision", "preprocess", "window", "row", "text", "classification", "ranking", "values", "reconstruction", "detection", "golden", "boards", "chunk_bytes", "chunk_digests")
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    PREPROCESS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    ROW_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    CLASSIFICATION_FIELD_NUMBER: _ClassVar[int]
    RANKING_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    RECONSTRUCTION_FIELD_NUMBER: _ClassVar[int]
    DETECTION_FIELD_NUMBER: _ClassVar[int]
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
    window: WindowInput
    row: RowInput
    text: TextInput
    classification: Classification
    ranking: Ranking
    values: Values
    reconstruction: Reconstruction
    detection: Detection
    golden: Golden
    boards: _containers.RepeatedScalarFieldContainer[str]
    chunk_bytes: int
    chunk_digests: bytes
    def __init__(self, schema: _Optional[int] = ..., name: _Optional[str] = ..., version: _Optional[int] = ..., task: _Optional[str] = ..., artifact: _Optional[_Union[Blob, _Mapping]] = ..., format: _Optional[_Union[Format, str]] = ..., precision: _Optional[_Union[Precision, str]] = ..., preprocess: _Optional[_Union[ImagePreprocess, _Mapping]] = ..., window: _Optional[_Union[WindowInput, _Mapping]] = ..., row: _Optional[_Union[RowInput, _Mapping]] = ..., text: _Optional[_Union[TextInput, _Mapping]] = ..., classification: _Optional[_Union[Classification, _Mapping]] = ..., ranking: _Optional[_Union[Ranking, _Mapping]] = ..., values: _Optional[_Union[Values, _Mapping]] = ..., reconstruction: _Optional[_Union[Reconstruction, _Mapping]] = ..., detection: _Optional[_Union[Detection, _Mapping]] = ..., golden: _Optional[_Union[Golden, _Mapping]] = ..., boards: _Optional[_Iterable[str]] = ..., chunk_bytes: _Optional[int] = ..., chunk_digests: _Optional[bytes] = ...) -> None: ...
