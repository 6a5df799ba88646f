"""Data sets and their samples."""

from dataclasses import dataclass
from datetime import datetime

from cloud_hub.core.datasets import LabelOrigin
from cloud_hub.core.tasks import Annotation
from protos.contract.ids import DeviceId, Digest
from protos.contract.inputs import SampleKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    name: str
    labels: tuple[str, ...]  # class names in index order, where its annotation has any
    samples: int
    labelled: int
    created_at: datetime
    kind: SampleKind = SampleKind.IMAGE
    annotation: Annotation = Annotation.CLASS
    columns: tuple[str, ...] = ()  # channels or columns that its samples have, as far as they were noted


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    id: str
    dataset: str
    digest: Digest  # of the content
    label: str | None  # as its data set's annotation says; "" where there is none to give
    source: str  # samples that share it never part across splits
    split: str  # "", "train", "val", "test": pinned there
    name: str
    device: DeviceId | None  # None: imported
    reason: str
    predicted: str
    confidence: float
    captured_at: datetime | None
    created_at: datetime
    labelled_at: datetime | None
    origin: LabelOrigin | None = None  # of the label
    labelled_by: str = ""  # a user; of a teacher MODEL:VERSION
    label_confidence: float = 1.0  # 0..1; of a teacher
    manifest: Digest | None = None  # of the model that said ``predicted``; None: imported, or of an older hub
