"""What the image repository names: files by path, with their digest and for whom they are."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from cloud_hub.core.errors import Invalid
from cloud_hub.core.model import ModelVersion
from protos.contract.ids import Digest, TenantId
from protos.contract.twin import PackageKind

IMAGE, DIRECTOR = "image", "director"  # the two repositories
BIN_PREFIX = "bin"  # of delegated roles: "bin-00" .. "bin-ff"
BINS = 256

_MODEL_FILES = {"onnx": "model.onnx", "tflite": "model.tflite"}


class TargetKind(StrEnum):
    MANIFEST = "manifest"
    MODEL = "model"
    GOLDEN = "golden"
    CONFIG = "config"
    AGENT = "agent"
    FIRMWARE = "firmware"


class Subject(StrEnum):
    """What counts its releases."""

    MODEL = "model"
    CONFIG = "config"
    AGENT = "agent"
    FIRMWARE = "firmware"


PACKAGES = (Subject.CONFIG, Subject.AGENT, Subject.FIRMWARE)
ANY_BOARD = "any"  # the variant of a package that is for every board; no board is called so


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    path: str
    tenant: TenantId
    kind: TargetKind
    name: str  # of the model or of the package
    version: str
    variant: str  # of a model: "onnx-int8"; of a package: its board, or ANY_BOARD
    length: int  # bytes
    sha256: str  # hexadecimal
    boards: tuple[str, ...]  # empty: all
    release: int  # grows with every release of the name; a device never goes below the one it has committed

    @property
    def bin(self) -> str:
        return bin_of(self.path)

    @property
    def subject(self) -> Subject:
        return Subject(self.kind.value) if self.kind.value in PACKAGES else Subject.MODEL

    @property
    def digest(self) -> Digest:
        return Digest(f"sha256:{self.sha256}")

    @property
    def custom(self) -> dict[str, object]:
        """What is signed beside length and digest."""
        return {"kind": self.kind.value, "boards": list(self.boards), "release": self.release}


def bin_of(path: str) -> str:
    """The role that names it: the first eight bits of the path's SHA-256 (TAP 15)."""
    return f"{BIN_PREFIX}-{hashlib.sha256(path.encode()).digest()[0]:02x}"


def of_version(tenant: TenantId, version: ModelVersion, sizes: Mapping[Digest, int], release: int) -> list[Target]:
    """Manifest, model and golden set of every variant; ``sizes`` in bytes of the golden sets.

    Raises:
        Invalid: a variant is for no format that has a file name.
    """
    targets = []
    for variant in version.variants:
        file = _MODEL_FILES.get(variant.target.partition("-")[0])
        if file is None or "/" in variant.target:
            raise Invalid(f"{version.name}:{version.version}: {variant.target!r} is no variant of ONNX or TFLite")
        for name, kind, digest, length in (
            ("manifest.pb", TargetKind.MANIFEST, variant.manifest_digest, variant.manifest_size_bytes),
            (file, TargetKind.MODEL, variant.artifact_digest, variant.artifact_size_bytes),
            ("golden.pb", TargetKind.GOLDEN, variant.golden_digest, sizes[variant.golden_digest]),
        ):
            targets.append(
                Target(
                    path=f"models/{tenant}/{version.name}/{version.version}/{variant.target}/{name}",
                    tenant=tenant,
                    kind=kind,
                    name=version.name,
                    version=str(version.version),
                    variant=variant.target,
                    length=length,
                    sha256=digest.removeprefix("sha256:"),
                    boards=variant.boards,
                    release=release,
                )
            )
    return targets


def of_package(
    tenant: TenantId, *, kind: PackageKind, board: str, name: str, version: str, digest: Digest, length: int, release: int
) -> Target:
    """``board``: empty for all."""
    subject, variant = subject_of(kind), board or ANY_BOARD
    return Target(
        path=f"{subject.value}/{tenant}/{name}/{version}/{variant}",
        tenant=tenant,
        kind=TargetKind(subject.value),
        name=name,
        version=version,
        variant=variant,
        length=length,
        sha256=digest.removeprefix("sha256:"),
        boards=(board,) if board else (),
        release=release,
    )


def subject_of(kind: PackageKind) -> Subject:
    return Subject(kind.name.lower())
