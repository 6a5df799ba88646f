"""Versions of a model, good ones and ones that must never be kept, and what is found of them on a disk."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import onnx

from protos.contract.ids import Digest, digest_of
from protos.contract.twin import ModelAssignment
from tests.agent import models
from tests.agent.infer import traps
from tests.agent.models import ModelFiles
from tests.conformance.hub import Hub

SIZE_BYTES = 300_000  # large enough for a download to be cut


class Nature(Enum):
    GOOD = "good"
    FLAWED = "flawed"  # passes its golden run, and loses its worker over what the device sees
    WRONG = "wrong"  # fails its golden run
    DAMAGED = "damaged"  # comes with other bytes than were released
    DEADLY = "deadly"  # takes the device down whenever it is tried


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    number: int
    nature: Nature
    assignment: ModelAssignment
    files: tuple[Digest, Digest, Digest]  # manifest, model, golden

    def __str__(self) -> str:
        return f"{self.nature.value} version {self.number}"

    @property
    def kind(self) -> str:
        return self.nature.value

    @property
    def good(self) -> bool:
        return self.nature is Nature.GOOD

    @property
    def digest(self) -> Digest:
        return self.files[0]


class Catalog:
    """All versions there are, each published on the hub when it is made."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.versions: list[Version] = []

    def make(self, nature: Nature) -> Version:
        number = len(self.versions) + 1
        files = _files(nature, number)
        assignment = self._hub.publish_model(files)
        digests = (digest_of(files.manifest_bytes), digest_of(files.model), digest_of(files.golden_bytes))
        if nature is Nature.DAMAGED:
            self._hub.blobs[digests[1]] = bytes(len(files.model))
        made = Version(number=number, nature=nature, assignment=assignment, files=digests)
        self.versions.append(made)
        return made

    def named(self, digest: str | None) -> Version | None:
        return next((version for version in self.versions if version.digest == digest), None)

    def whole(self, slot: Path) -> Version | None:
        """The version of which this folder holds all three files."""
        found = tuple(_digest(slot / name) for name in ("manifest.pb", "model.bin", "golden.pb"))
        return next((version for version in self.versions if version.files == found), None)


def equipped(catalog: Catalog, files: ModelFiles) -> Version:
    """What ``Agent.equip`` has put on the disk."""
    digests = (digest_of(files.manifest_bytes), digest_of(files.model), digest_of(files.golden_bytes))
    assignment = ModelAssignment(
        name=files.manifest.name,
        version=files.manifest.version,
        manifest_digest=digests[0],
        manifest_size_bytes=len(files.manifest_bytes),
    )
    made = Version(number=files.manifest.version, nature=Nature.GOOD, assignment=assignment, files=digests)
    catalog.versions.append(made)
    return made


def pointed(models_dir: Path) -> Path | None:
    """The slot that the pointer names; None: it names none, which is damage."""
    try:
        name = (models_dir / "current").read_bytes().decode("ascii", "replace").strip()
    except OSError:
        return None
    return next((slot for slot in (models_dir / "slots").glob("*") if slot.name == name), None)


def _files(nature: Nature, number: int) -> ModelFiles:
    if nature is Nature.FLAWED:
        return traps.takes_all_memory_on_white(number)
    if nature is Nature.WRONG:
        return models.files(model=models.onnx_model(seed=number + 1), seed=number, version=number)
    padded = onnx.load_from_string(models.onnx_model(seed=number))
    padded.doc_string = "padding " * (SIZE_BYTES // 8)
    return models.files(model=padded.SerializeToString(), seed=number, version=number)


def _digest(path: Path) -> Digest | None:
    try:
        return digest_of(path.read_bytes())
    except OSError:
        return None
