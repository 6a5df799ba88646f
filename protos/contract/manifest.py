"""One model file and everything a device needs to run it as it was trained."""

import hashlib
import math
from dataclasses import dataclass
from enum import IntEnum

from protos.contract.errors import InvalidValue
from protos.contract.ids import Digest, ModelName
from protos.contract.inputs import MAX_SIDE, Input
from protos.contract.outputs import MAX_VALUES, Output, Reconstruction

SCHEMA = 1
MAX_ARTIFACT_BYTES = 512 << 20
MAX_GOLDEN_BYTES = 16 << 20
MIN_CHUNK_BYTES = 128 << 10  # 4,096 digests of the largest artifact fit into a manifest with its labels
_SHA256_BYTES = 32
MAX_VERSION = (1 << 31) - 1  # a database's integer


class Format(IntEnum):
    ONNX = 1
    TFLITE = 2


class Precision(IntEnum):
    FP32 = 1
    INT8 = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    digest: Digest
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenRef:
    blob: Blob
    tolerance: float  # max |output - expected|, in the model's own output units

    def __post_init__(self) -> None:
        if not 0.0 < self.tolerance < 1e6:
            raise InvalidValue(f"golden tolerance must be positive and finite, got {self.tolerance}")


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenSet:
    """Samples and the outputs the device's runtime gave for them when the model was verified.

    Pictures are raw frames of one size, so that no decoder stands between; other samples are as ``samples`` encodes them.
    """

    count: int
    size: int  # values of an output
    outputs: bytes  # f32 little-endian, (count, size)
    height: int = 0  # of frames; 0: there are none
    width: int = 0
    frames: bytes = b""  # u8, (count, height, width, 3) RGB
    samples: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if not (1 <= self.count <= 256 and 1 <= self.size <= MAX_VALUES):
            raise InvalidValue("golden set needs 1..256 samples and 1 value or more of each output")
        pictures = 1 <= self.height <= MAX_SIDE and 1 <= self.width <= MAX_SIDE and not self.samples
        others = self.height == self.width == 0 and len(self.samples) == self.count
        if not (pictures or others):
            raise InvalidValue(f"golden set needs frames with sides of 1..{MAX_SIDE}, or a sample for each output")
        if len(self.frames) != self.count * self.height * self.width * 3 or len(self.outputs) != self.count * self.size * 4:
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
    input: Input
    output: Output
    golden: GoldenRef
    boards: tuple[str, ...] = ()  # names from firmware_images/boards
    chunks: Chunks | None = None  # None: only the whole artifact can be verified

    def __post_init__(self) -> None:
        check_version(self.version)
        if isinstance(self.output, Reconstruction) and self.output.values != math.prod(self.input.shape):
            raise InvalidValue(f"a reconstruction of {self.output.values} values does not fit an input of {self.input.shape}")
        if self.chunks is not None and len(self.chunks.digests) != -(-self.artifact.size_bytes // self.chunks.size_bytes):
            raise InvalidValue(f"{len(self.chunks.digests)} chunks do not make {self.artifact.size_bytes} bytes")
        if not 1 <= self.artifact.size_bytes <= MAX_ARTIFACT_BYTES:
            raise InvalidValue(f"artifact must be 1..{MAX_ARTIFACT_BYTES} bytes, got {self.artifact.size_bytes}")
        if not 1 <= self.golden.blob.size_bytes <= MAX_GOLDEN_BYTES:
            raise InvalidValue(f"golden set must be 1..{MAX_GOLDEN_BYTES} bytes, got {self.golden.blob.size_bytes}")


def check_version(version: int) -> None:
    if not 1 <= version <= MAX_VERSION:
        raise InvalidValue(f"model version must be in 1..{MAX_VERSION}, got {version}")
