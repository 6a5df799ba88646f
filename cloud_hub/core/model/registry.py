"""Models and what devices have measured of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from protos.contract.ids import Digest, ModelName


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One file of a version, for one kind of runtime."""

    target: str  # "onnx-int8", "tflite-int8", "onnx-fp32", "tflite-fp32"
    manifest_digest: Digest
    manifest_size_bytes: int
    artifact_digest: Digest
    artifact_size_bytes: int
    golden_digest: Digest
    score: float  # of ``metric``, test split, device's runtime
    metric: str  # "accuracy", "rmse"; what it is and whether more of it is better, the task says
    latency_p50_ms: float
    output_error: float  # |variant - student| / |student|, over the test split
    boards: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredFit:
    """What golden runs on the devices of one board came to: the median over these devices of each figure."""

    target: str
    board: str
    devices: int
    p50_ms: float
    p95_ms: float
    peak_bytes: int  # of the process that ran it
    error: float  # in units of the tolerance: above 1 the device refused it
    agreement: float  # 0..1, of labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What a version did on its validation split: the yardstick of drift."""

    labels: tuple[str, ...]
    label_share: tuple[float, ...]  # (classes,) of predictions, sums to 1
    confidence_share: tuple[float, ...]  # (bins,) equal-width over 0..1, sums to 1
    confidence_mean: float
    samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """Immutable once published, but for its aliases and for what devices measure."""

    name: ModelName
    version: int
    task: str
    variants: tuple[Variant, ...]
    baseline: Baseline
    report: Mapping[str, object]  # metrics and lineage, JSON
    job_id: str
    created_at: datetime
    aliases: tuple[str, ...] = ()
    fits: tuple[MeasuredFit, ...] = ()  # of its variants, where they were asked for; they grow as devices try it


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    name: ModelName
    task: str
    latest_version: int
    aliases: Mapping[str, int]
