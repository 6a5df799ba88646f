from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Dataset(_message.Message):
    __slots__ = ("name", "labels", "samples", "labelled", "created_at_ms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    LABELLED_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    name: str
    labels: _containers.RepeatedScalarFieldContainer[str]
    samples: int
    labelled: int
    created_at_ms: int
    def __init__(self, name: _Optional[str] = ..., labels: _Optional[_Iterable[str]] = ..., samples: _Optional[int] = ..., labelled: _Optional[int] = ..., created_at_ms: _Optional[int] = ...) -> None: ...

class CreateDatasetRequest(_message.Message):
    __slots__ = ("name", "labels")
    NAME_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    name: str
    labels: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., labels: _Optional[_Iterable[str]] = ...) -> None: ...

class ListDatasetsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListDatasetsReply(_message.Message):
    __slots__ = ("datasets",)
    DATASETS_FIELD_NUMBER: _ClassVar[int]
    datasets: _containers.RepeatedCompositeFieldContainer[Dataset]
    def __init__(self, datasets: _Optional[_Iterable[_Union[Dataset, _Mapping]]] = ...) -> None: ...

class ImportSample(_message.Message):
    __slots__ = ("dataset", "image", "label", "source", "split", "name")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SPLIT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    image: bytes
    label: str
    source: str
    split: str
    name: str
    def __init__(self, dataset: _Optional[str] = ..., image: _Optional[bytes] = ..., label: _Optional[str] = ..., source: _Optional[str] = ..., split: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class ImportReply(_message.Message):
    __slots__ = ("added", "duplicates", "refused")
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
    added: int
    duplicates: int
    refused: _containers.RepeatedCompositeFieldContainer[ImportReply.Refused]
    def __init__(self, added: _Optional[int] = ..., duplicates: _Optional[int] = ..., refused: _Optional[_Iterable[_Union[ImportReply.Refused, _Mapping]]] = ...) -> None: ...

class UploadSampleRequest(_message.Message):
    __slots__ = ("digest", "image", "captured_at_ms", "source", "name", "reason", "model_manifest", "predicted", "confidence")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MODEL_MANIFEST_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    digest: str
    image: bytes
    captured_at_ms: int
    source: str
    name: str
    reason: str
    model_manifest: str
    predicted: str
    confidence: float
    def __init__(self, digest: _Optional[str] = ..., image: _Optional[bytes] = ..., captured_at_ms: _Optional[int] = ..., source: _Optional[str] = ..., name: _Optional[str] = ..., reason: _Optional[str] = ..., model_manifest: _Optional[str] = ..., predicted: _Optional[str] = ..., confidence: _Optional[float] = ...) -> None: ...

class UploadSampleReply(_message.Message):
    __slots__ = ("sample_id", "duplicate")
    SAMPLE_ID_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    sample_id: str
    duplicate: bool
    def __init__(self, sample_id: _Optional[str] = ..., duplicate: _Optional[bool] = ...) -> None: ...

class Sample(_message.Message):
    __slots__ = ("id", "dataset", "digest", "label", "source", "split", "name", "device_id", "reason", "predicted", "confidence", "captured_at_ms", "created_at_ms")
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
    def __init__(self, id: _Optional[str] = ..., dataset: _Optional[str] = ..., digest: _Optional[str] = ..., label: _Optional[str] = ..., source: _Optional[str] = ..., split: _Optional[str] = ..., name: _Optional[str] = ..., device_id: _Optional[str] = ..., reason: _Optional[str] = ..., predicted: _Optional[str] = ..., confidence: _Optional[float] = ..., captured_at_ms: _Optional[int] = ..., created_at_ms: _Optional[int] = ...) -> None: ...

class ListSamplesRequest(_message.Message):
    __slots__ = ("dataset", "labelled", "device_id", "page_size", "page_token")
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
    dataset: str
    labelled: ListSamplesRequest.Labelled
    device_id: str
    page_size: int
    page_token: str
    def __init__(self, dataset: _Optional[str] = ..., labelled: _Optional[_Union[ListSamplesRequest.Labelled, str]] = ..., device_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

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
    __slots__ = ("sample", "image")
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    sample: Sample
    image: bytes
    def __init__(self, sample: _Optional[_Union[Sample, _Mapping]] = ..., image: _Optional[bytes] = ...) -> None: ...

class LabelSamplesRequest(_message.Message):
    __slots__ = ("labels",)
    class Label(_message.Message):
        __slots__ = ("sample_id", "label")
        SAMPLE_ID_FIELD_NUMBER: _ClassVar[int]
        LABEL_FIELD_NUMBER: _ClassVar[int]
        sample_id: str
        label: str
        def __init__(self, sample_id: _Optional[str] = ..., label: _Optional[str] = ...) -> None: ...
    LABELS_FIELD_NUMBER: _ClassVar[int]
    labels: _containers.RepeatedCompositeFieldContainer[LabelSamplesRequest.Label]
    def __init__(self, labels: _Optional[_Iterable[_Union[LabelSamplesRequest.Label, _Mapping]]] = ...) -> None: ...

class LabelSamplesReply(_message.Message):
    __slots__ = ("labelled",)
    LABELLED_FIELD_NUMBER: _ClassVar[int]
    labelled: int
    def __init__(self, labelled: _Optional[int] = ...) -> None: ...
