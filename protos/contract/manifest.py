"""One model file and everything a device needs to run it as it was trained."""

import hashlib
from dataclasses import dataclass
from enum import IntEnum

from protos.contract.errors import InvalidValue
from protos.contract.ids import Digest, ModelName

SCHEMA = 1
MAX_ARTIFACT_BYTES = 512 << 20
MAX_GOLDEN_BYTES = 16 << 20
MIN_CHUNK_BYTES = 128 << 10  # 4,096 digests of the largest artifact fit into a manifest with its labels
_SHA256_BYTES = 32
MAX_SIDE = 4096
MAX_LABELS = 65_536
MAX_VERSION = (1 << 31) - 1  # a database's integer


class Format(IntEnum):
    ONNX = 1
    TFLITE = 2


class Precision(IntEnum):
    FP32 = 1
    INT8 = 2


class Layout(IntEnum):
    NCHW = 1
    NHWC = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    digest: Digest
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PreprocessSpec:
    """Frame -> tensor: convert to ``channels``, resize bilinear, scale to 0..1, subtract ``mean``, divide by ``std``."""

    width: int
    height: int
    channels: int  # 1 grey, 3 RGB
    layout: Layout
    mean: tuple[float, ...]  # per channel, 0..1 units
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if not (1 <= self.width <= MAX_SIDE and 1 <= self.height <= MAX_SIDE):
            raise InvalidValue(f"model input must be 1..{MAX_SIDE} pixels a side, got {self.width} x {self.height}")
        if self.channels not in (1, 3):
            raise InvalidValue(f"channels must be 1 or 3, got {self.channels}")
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise InvalidValue(f"mean and std need one value for each of {self.channels} channels")
        if not all(-1e3 < m < 1e3 for m in self.mean) or not all(1e-6 < s < 1e3 for s in self.std):
            raise InvalidValue("mean must be finite and std positive")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of the tensor, batch 1."""
        if self.layout is Layout.NCHW:
            return (1, self.channels, self.height, self.width)
        return (1, self.height, self.width, self.channels)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassificationSpec:
    """Logits -> label: divide by ``temperature``, softmax, take the largest."""

    labels: tuple[str, ...]
    min_confidence: float = 0.0  # below it a prediction is flagged uncertain
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 2 <= len(self.labels) <= MAX_LABELS or len(set(self.labels)) != len(self.labels):
            raise InvalidValue(f"labels must be 2..{MAX_LABELS} different names, got {len(self.labels)}")
        if not 0.0 <= self.min_confidence <= 1.0:
            raise InvalidValue(f"min_confidence must be in 0..1, got {self.min_confidence}")
        if not 1e-3 <= self.temperature <= 1e3:
            raise InvalidValue(f"temperature must be in 0.001..1000, got {self.temperature}")


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenRef:
    blob: Blob
    tolerance: float  # max |output - expected|, in the model's own output units

    def __post_init__(self) -> None:
        if not 0.0 < self.tolerance < 1e6:
            raise InvalidValue(f"golden tolerance must be positive and finite, got {self.tolerance}")


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenSet:
    """Raw frames and the outputs the device's runtime gave for them when the model was verified."""

    count: int
    height: int
    width: int
    classes: int
    frames: bytes  # u8, (count, height, width, 3) RGB
    outputs: bytes  # f32 little-endian, (count, classes) logits

    def __post_init__(self) -> None:
        if not (1 <= self.count <= 256 and 1 <= self.height <= MAX_SIDE and 1 <= self.width <= MAX_SIDE and self.classes >= 2):
            raise InvalidValue("golden set needs 1..256 frames, a side of at most 4096 and 2 classes or more")
        if len(self.frames) != self.count * self.height * self.width * 3 or len(self.outputs) != self.count * self.classes * 4:
            raise InvalidValue("golden set's bytes do not match its shape")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunks:
    """An artifact in pieces that can be verified one by one, as they arrive."""

    size_bytes: int  # of each; the last may be shorter
    digests: tuple[bytes, ...]  # SHA-256 of each, 32 bytes

    def __post_init__(self) -> None:
        if not MIN_CHUNK_BYTES <= self.size_bytes <= MAX_ARTIFACT_BYTES:
            raise InvalidValue(f"chunks must have {MIN_CHUNK_BYTES} bytes at least, got {self.size_bytes}")
        if any(len(digest) != _SHA256_BYTES for digest in self.digests):
            raise InvalidValue("the digest of a chunk is a SHA-256")

    @classmethod
    def of(cls, data: bytes, size_bytes: int) -> "Chunks":
        parts = (data[start : start + size_bytes] for start in range(0, len(data), size_bytes))
        return cls(size_bytes=size_bytes, digests=tuple(hashlib.sha256(part).digest() for part in parts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    name: ModelName
    version: int
    task: str
    artifact: Blob
    format: Format
    precision: Precision
    preprocess: PreprocessSpec
    classification: ClassificationSpec
    golden: GoldenRef
    boards: tuple[str, ...] = ()  # names from firmware_images/boards
    chunks: Chunks | None = None  # None: only the whole artifact can be verified

    def __post_init__(self) -> None:
        check_version(self.version)
        if self.chunks is not None and len(self.chunks.digests) != -(-self.artifact.size_bytes // self.chunks.size_bytes):
            raise InvalidValue(f"{len(self.chunks.digests)} chunks do not make {self.artifact.size_bytes} bytes")
        if not 1 <= self.artifact.size_bytes <= MAX_ARTIFACT_BYTES:
            raise InvalidValue(f"artifact must be 1..{MAX_ARTIFACT_BYTES} bytes, got {self.artifact.size_bytes}")
        if not 1 <= self.golden.blob.size_bytes <= MAX_GOLDEN_BYTES:
            raise InvalidValue(f"golden set must be 1..{MAX_GOLDEN_BYTES} bytes, got {self.golden.blob.size_bytes}")


def check_version(version: int) -> None:
    if not 1 <= version <= MAX_VERSION:
        raise InvalidValue(f"model version must be in 1..{MAX_VERSION}, got {version}")
