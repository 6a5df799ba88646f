from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SampleKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SAMPLE_KIND_UNSPECIFIED: _ClassVar[SampleKind]
    SAMPLE_KIND_IMAGE: _ClassVar[SampleKind]
    SAMPLE_KIND_WINDOW: _ClassVar[SampleKind]
    SAMPLE_KIND_ROW: _ClassVar[SampleKind]
    SAMPLE_KIND_TEXT: _ClassVar[SampleKind]

class Annotation(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ANNOTATION_UNSPECIFIED: _ClassVar[Annotation]
    ANNOTATION_CLASS: _ClassVar[Annotation]
    ANNOTATION_BOXES: _ClassVar[Annotation]
    ANNOTATION_VALUES: _ClassVar[Annotation]
    ANNOTATION_NONE: _ClassVar[Annotation]

class LabelOrigin(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LABEL_ORIGIN_UNSPECIFIED: _ClassVar[LabelOrigin]
    LABEL_ORIGIN_HUMAN: _ClassVar[LabelOrigin]
    LABEL_ORIGIN_IMPORT: _ClassVar[LabelOrigin]
    LABEL_ORIGIN_TRUTH: _ClassVar[LabelOrigin]
    LABEL_ORIGIN_TEACHER: _ClassVar[LabelOrigin]
SAMPLE_KIND_UNSPECIFIED: SampleKind
SAMPLE_KIND_IMAGE: SampleKind
SAMPLE_KIND_WINDOW: SampleKind
SAMPLE_KIND_ROW: SampleKind
SAMPLE_KIND_TEXT: SampleKind
ANNOTATION_UNSPECIFIED: Annotation
ANNOTATION_CLASS: Annotation
ANNOTATION_BOXES: Annotation
ANNOTATION_VALUES: Annotation
ANNOTATION_NONE: Annotation
LABEL_ORIGIN_UNSPECIFIED: LabelOrigin
LABEL_ORIGIN_HUMAN: LabelOrigin
LABEL_ORIGIN_IMPORT: LabelOrigin
LABEL_ORIGIN_TRUTH: LabelOrigin
LABEL_ORIGIN_TEACHER: LabelOrigin

class Dataset(_message.Message):
    __slots__ = ("name", "labels", "samples", "labelled", "created_at_ms", "kind", "annotation", "columns")
    NAME_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    LABELLED_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ANNOTATION_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    name: str
    labels: _containers.RepeatedScalarFieldContainer[str]
    samples: int
    labelled: int
    created_at_ms: int
    kind: SampleKind
    annotation: Annotation
    columns: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., labels: _Optional[_Iterable[str]] = ..., samples: _Optional[int] = ..., labelled: _Optional[int] = ..., created_at_ms: _Optional[int] = ..., kind: _Optional[_Union[SampleKind, str]] = ..., annotation: _Optional[_Union[Annotation, str]] = ..., columns: _Optional[_Iterable[str]] = ...) -> None: ...

class CreateDatasetRequest(_message.Message):
    __slots__ = ("name", "labels", "kind", "annotation")
    NAME_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ANNOTATION_FIELD_NUMBER: _ClassVar[int]
    name: str
    labels: _containers.RepeatedScalarFieldContainer[str]
    kind: SampleKind
    annotation: Annotation
    def __init__(self, name: _Optional[str] = ..., labels: _Optional[_Iterable[str]] = ..., kind: _Optional[_Union[SampleKind, str]] = ..., annotation: _Optional[_Union[Annotation, str]] = ...) -> None: ...

class ListDatasetsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListDatasetsReply(_message.Message):
    __slots__ = ("datasets",)
    DATASETS_FIELD_NUMBER: _ClassVar[int]
    datasets: _containers.RepeatedCompositeFieldContainer[Dataset]
    def __init__(self, datasets: _Optional[_Iterable[_Union[Dataset, _Mapping]]] = ...) -> None: ...

class ImportSample(_message.Message):
    __slots__ = ("dataset", "content", "label", "source", "split", "name", "captured_at_ms")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SPLIT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    content: bytes
    label: str
    source: str
    split: str
    name: str
    captured_at_ms: int
    def __init__(self, dataset: _Optional[str] = ..., content: _Optional[bytes] = ..., label: _Optional[str] = ..., source: _Optional[str] = ..., split: _Optional[str] = ..., name: _Optional[str] = ..., captured_at_ms: _Optional[int] = ...) -> None: ...

class ImportReply(_message.Message):
    __slots__ = ("added", "duplicates", "refused", "refused_count")
    class Refused(_message.Message):
        __slots__ = ("name", "reason")
        NAME_FIELD_NUMBER: _ClassVar[int]
        REASON_FIELD_NUMBER: _ClassVar[int]
        name: str
        reason: str
        def __init__(self, name: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...
    ADDED_FIELD_NUMBER: _ClassVar[int]
    DUPLICATES_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_COUNT_FIELD_NUMBER: _ClassVar[int]
    added: int
    duplicates: int
    refused: _containers.RepeatedCompositeFieldContainer[ImportReply.Refused]
    refused_count: int
    def __init__(self, added: _Optional[int] = ..., duplicates: _Optional[int] = ..., refused: _Optional[_Iterable[_Union[ImportReply.Refused, _Mapping]]] = ..., refused_count: _Optional[int] = ...) -> None: ...

class UploadSampleRequest(_message.Message):
    __slots__ = ("digest", "content", "captured_at_ms", "source", "name", "reason", "model_manifest", "predicted", "confidence", "kind")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MODEL_MANIFEST_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    digest: str
    content: bytes
    captured_at_ms: int
    source: str
    name: str
    reason: str
    model_manifest: str
    predicted: str
    confidence: float
    kind: SampleKind
    def __init__(self, digest: _Optional[str] = ..., content: _Optional[bytes] = ..., captured_at_ms: _Optional[int] = ..., source: _Optional[str] = ..., name: _Optional[str] = ..., reason: _Optional[str] = ..., model_manifest: _Optional[str] = ..., predicted: _Optional[str] = ..., confidence: _Optional[float] = ..., kind: _Optional[_Union[SampleKind, str]] = ...) -> None: ...

class UploadSampleReply(_message.Message):
    __slots__ = ("sample_id", "duplicate")
    SAMPLE_ID_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    sample_id: str
    duplicate: bool
    def __init__(self, sample_id: _Optional[str] = ..., duplicate: _Optional[bool] = ...) -> None: ...

class Sample(_message.Message):
    __slots__ = ("id", "dataset", "digest", "label", "source", "split", "name", "device_id", "reason", "predicted", "confidence", "captured_at_ms", "created_at_ms", "origin", "labelled_by", "label_confidence", "labelled_at_ms")
    ID_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SPLIT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    LABELLED_BY_FIELD_NUMBER: _ClassVar[int]
    LABEL_CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    LABELLED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    id: str
    dataset: str
    digest: str
    label: str
    source: str
    split: str
    name: str
    device_id: str
    reason: str
    predicted: str
    confidence: float
    captured_at_ms: int
    created_at_ms: int
    origin: LabelOrigin
    labelled_by: str
    label_confidence: float
    labelled_at_ms: int
    def __init__(self, id: _Optional[str] = ..., dataset: _Optional[str] = ..., digest: _Optional[str] = ..., label: _Optional[str] = ..., source: _Optional[str] = ..., split: _Optional[str] = ..., name: _Optional[str] = ..., device_id: _Optional[str] = ..., reason: _Optional[str] = ..., predicted: _Optional[str] = ..., confidence: _Optional[float] = ..., captured_at_ms: _Optional[int] = ..., created_at_ms: _Optional[int] = ..., origin: _Optional[_Union[LabelOrigin, str]] = ..., labelled_by: _Optional[str] = ..., label_confidence: _Optional[float] = ..., labelled_at_ms: _Optional[int] = ...) -> None: ...

class LabelEvent(_message.Message):
    __slots__ = ("label", "origin", "labelled_by", "confidence", "at_ms")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    LABELLED_BY_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    label: str
    origin: LabelOrigin
    labelled_by: str
    confidence: float
    at_ms: int
    def __init__(self, label: _Optional[str] = ..., origin: _Optional[_Union[LabelOrigin, str]] = ..., labelled_by: _Optional[str] = ..., confidence: _Optional[float] = ..., at_ms: _Optional[int] = ...) -> None: ...

class ListSamplesRequest(_message.Message):
    __slots__ = ("dataset", "labelled", "device_id", "page_size", "page_token", "origin", "label")
    class Labelled(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        LABELLED_UNSPECIFIED: _ClassVar[ListSamplesRequest.Labelled]
        LABELLED_YES: _ClassVar[ListSamplesRequest.Labelled]
        LABELLED_NO: _ClassVar[ListSamplesRequest.Labelled]
    LABELLED_UNSPECIFIED: ListSamplesRequest.Labelled
    LABELLED_YES: ListSamplesRequest.Labelled
    LABELLED_NO: ListSamplesRequest.Labelled
    DATASET_FIELD_NUMBER: _ClassVar[int]
    LABELLED_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    labelled: ListSamplesRequest.Labelled
    device_id: str
    page_size: int
    page_token: str
    origin: LabelOrigin
    label: str
    def __init__(self, dataset: _Optional[str] = ..., labelled: _Optional[_Union[ListSamplesRequest.Labelled, str]] = ..., device_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., origin: _Optional[_Union[LabelOrigin, str]] = ..., label: _Optional[str] = ...) -> None: ...

class ListSamplesReply(_message.Message):
    __slots__ = ("samples", "next_page_token")
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    samples: _containers.RepeatedCompositeFieldContainer[Sample]
    next_page_token: str
    def __init__(self, samples: _Optional[_Iterable[_Union[Sample, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetSampleRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class SampleContent(_message.Message):
    __slots__ = ("sample", "content", "history")
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    sample: Sample
    content: bytes
    history: _containers.RepeatedCompositeFieldContainer[LabelEvent]
    def __init__(self, sample: _Optional[_Union[Sample, _Mapping]] = ..., content: _Optional[bytes] = ..., history: _Optional[_Iterable[_Union[LabelEvent, _Mapping]]] = ...) -> None: ...

class LabelSamplesRequest(_message.Message):
    __slots__ = ("labels", "origin", "teacher", "confidence_floor")
    class Label(_message.Message):
        __slots__ = ("sample_id", "label", "confidence")
        SAMPLE_ID_FIELD_NUMBER: _ClassVar[int]
        LABEL_FIELD_NUMBER: _ClassVar[int]
        CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
        sample_id: str
        label: str
        confidence: float
        def __init__(self, sample_id: _Optional[str] = ..., label: _Optional[str] = ..., confidence: _Optional[float] = ...) -> None: ...
    LABELS_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    TEACHER_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FLOOR_FIELD_NUMBER: _ClassVar[int]
    labels: _containers.RepeatedCompositeFieldContainer[LabelSamplesRequest.Label]
    origin: LabelOrigin
    teacher: str
    confidence_floor: float
    def __init__(self, labels: _Optional[_Iterable[_Union[LabelSamplesRequest.Label, _Mapping]]] = ..., origin: _Optional[_Union[LabelOrigin, str]] = ..., teacher: _Optional[str] = ..., confidence_floor: _Optional[float] = ...) -> None: ...

class LabelSamplesReply(_message.Message):
    __slots__ = ("labelled", "below_floor", "kept")
    LABELLED_FIELD_NUMBER: _ClassVar[int]
    BELOW_FLOOR_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    labelled: int
    below_floor: int
    kept: int
    def __init__(self, labelled: _Optional[int] = ..., below_floor: _Optional[int] = ..., kept: _Optional[int] = ...) -> None: ...

class JoinLabelsRequest(_message.Message):
    __slots__ = ("dataset", "truths", "tolerance_ms", "origin")
    class Truth(_message.Message):
        __slots__ = ("sample_id", "digest", "name", "device_id", "at_ms", "label")
        SAMPLE_ID_FIELD_NUMBER: _ClassVar[int]
        DIGEST_FIELD_NUMBER: _ClassVar[int]
        NAME_FIELD_NUMBER: _ClassVar[int]
        DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
        AT_MS_FIELD_NUMBER: _ClassVar[int]
        LABEL_FIELD_NUMBER: _ClassVar[int]
        sample_id: str
        digest: str
        name: str
        device_id: str
        at_ms: int
        label: str
        def __init__(self, sample_id: _Optional[str] = ..., digest: _Optional[str] = ..., name: _Optional[str] = ..., device_id: _Optional[str] = ..., at_ms: _Optional[int] = ..., label: _Optional[str] = ...) -> None: ...
    DATASET_FIELD_NUMBER: _ClassVar[int]
    TRUTHS_FIELD_NUMBER: _ClassVar[int]
    TOLERANCE_MS_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    truths: _containers.RepeatedCompositeFieldContainer[JoinLabelsRequest.Truth]
    tolerance_ms: int
    origin: LabelOrigin
    def __init__(self, dataset: _Optional[str] = ..., truths: _Optional[_Iterable[_Union[JoinLabelsRequest.Truth, _Mapping]]] = ..., tolerance_ms: _Optional[int] = ..., origin: _Optional[_Union[LabelOrigin, str]] = ...) -> None: ...

class JoinLabelsReply(_message.Message):
    __slots__ = ("labelled", "unchanged", "unmatched_count", "unmatched")
    LABELLED_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    UNMATCHED_COUNT_FIELD_NUMBER: _ClassVar[int]
    UNMATCHED_FIELD_NUMBER: _ClassVar[int]
    labelled: int
    unchanged: int
    unmatched_count: int
    unmatched: _containers.RepeatedCompositeFieldContainer[ImportReply.Refused]
    def __init__(self, labelled: _Optional[int] = ..., unchanged: _Optional[int] = ..., unmatched_count: _Optional[int] = ..., unmatched: _Optional[_Iterable[_Union[ImportReply.Refused, _Mapping]]] = ...) -> None: ...

class SnapshotDatasetRequest(_message.Message):
    __slots__ = ("dataset", "reason")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    reason: str
    def __init__(self, dataset: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class DatasetVersion(_message.Message):
    __slots__ = ("dataset", "number", "digest", "parent", "samples", "added", "removed", "relabelled", "moved", "created_by", "reason", "created_at_ms")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    ADDED_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    RELABELLED_FIELD_NUMBER: _ClassVar[int]
    MOVED_FIELD_NUMBER: _ClassVar[int]
    CREATED_BY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    number: int
    digest: str
    parent: int
    samples: int
    added: int
    removed: int
    relabelled: int
    moved: int
    created_by: str
    reason: str
    created_at_ms: int
    def __init__(self, dataset: _Optional[str] = ..., number: _Optional[int] = ..., digest: _Optional[str] = ..., parent: _Optional[int] = ..., samples: _Optional[int] = ..., added: _Optional[int] = ..., removed: _Optional[int] = ..., relabelled: _Optional[int] = ..., moved: _Optional[int] = ..., created_by: _Optional[str] = ..., reason: _Optional[str] = ..., created_at_ms: _Optional[int] = ...) -> None: ...

class ListDatasetVersionsRequest(_message.Message):
    __slots__ = ("dataset", "page_size", "page_token")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    page_size: int
    page_token: str
    def __init__(self, dataset: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListDatasetVersionsReply(_message.Message):
    __slots__ = ("versions", "next_page_token")
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.RepeatedCompositeFieldContainer[DatasetVersion]
    next_page_token: str
    def __init__(self, versions: _Optional[_Iterable[_Union[DatasetVersion, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetDatasetChangesRequest(_message.Message):
    __slots__ = ("dataset", "to")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    to: int
    def __init__(self, dataset: _Optional[str] = ..., to: _Optional[int] = ..., **kwargs) -> None: ...

class DatasetChanges(_message.Message):
    __slots__ = ("added", "removed", "relabelled", "moved", "examples")
    class Change(_message.Message):
        __slots__ = ("what", "sample_id", "name", "before", "after")
        WHAT_FIELD_NUMBER: _ClassVar[int]
        SAMPLE_ID_FIELD_NUMBER: _ClassVar[int]
        NAME_FIELD_NUMBER: _ClassVar[int]
        BEFORE_FIELD_NUMBER: _ClassVar[int]
        AFTER_FIELD_NUMBER: _ClassVar[int]
        what: str
        sample_id: str
        name: str
        before: str
        after: str
        def __init__(self, what: _Optional[str] = ..., sample_id: _Optional[str] = ..., name: _Optional[str] = ..., before: _Optional[str] = ..., after: _Optional[str] = ...) -> None: ...
    ADDED_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    RELABELLED_FIELD_NUMBER: _ClassVar[int]
    MOVED_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    added: int
    removed: int
    relabelled: int
    moved: int
    examples: _containers.RepeatedCompositeFieldContainer[DatasetChanges.Change]
    def __init__(self, added: _Optional[int] = ..., removed: _Optional[int] = ..., relabelled: _Optional[int] = ..., moved: _Optional[int] = ..., examples: _Optional[_Iterable[_Union[DatasetChanges.Change, _Mapping]]] = ...) -> None: ...

class GetDatasheetRequest(_message.Message):
    __slots__ = ("dataset", "version", "json")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    version: int
    json: bool
    def __init__(self, dataset: _Optional[str] = ..., version: _Optional[int] = ..., json: _Optional[bool] = ...) -> None: ...

class DatasheetPiece(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...
