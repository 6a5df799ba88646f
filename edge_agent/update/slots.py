"""Two places for a model on disk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.core.errors import Corrupt
from edge_agent.update.places import NAMES, Place, PlaceRecord, Places, holds, require
from protos.contract import codec, ids
from protos.contract.errors import ContractError
from protos.contract.manifest import Blob, Manifest
from protos.contract.twin import ModelAssignment

__all__ = ["Slot", "SlotRecord", "Slots", "holds", "require"]

SlotRecord = PlaceRecord[ModelAssignment]


@dataclass(frozen=True, slots=True)
class Slot(Place):
    """A place for one model: its manifest, its file, its golden set."""

    @property
    def manifest(self) -> Path:
        return self.folder / "manifest.pb"

    @property
    def model(self) -> Path:
        return self.folder / "model.bin"

    @property
    def golden(self) -> Path:
        return self.folder / "golden.pb"


class Slots(Places[Slot, ModelAssignment]):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder, [Slot(name, folder / "slots" / name) for name in NAMES], record_name="slot.json")

    def files(self, place: Slot) -> Sequence[Path]:
        return place.manifest, place.model, place.golden

    def check(self, place: Slot) -> Manifest:
        """The manifest of a slot whose three files are exactly what its record names. Raises Corrupt."""
        record = self.record(place)
        if record is None:
            raise Corrupt(f"slot {place.name} holds no model")
        assignment = record.assignment
        require(place.manifest, Blob(digest=assignment.manifest_digest, size_bytes=assignment.manifest_size_bytes))
        try:
            manifest = codec.decode_manifest(place.manifest.read_bytes())
        except (ContractError, OSError) as error:
            raise Corrupt(f"slot {place.name}: {error}") from error
        require(place.model, manifest.artifact)
        require(place.golden, manifest.golden.blob)
        return manifest

    def _to_values(self, assignment: ModelAssignment) -> dict[str, Any]:
        return {
            "name": assignment.name,
            "version": assignment.version,
            "manifest_digest": assignment.manifest_digest,
            "manifest_size_bytes": assignment.manifest_size_bytes,
        }

    def _of_values(self, values: Mapping[str, Any]) -> ModelAssignment:
        return ModelAssignment(
            name=ids.model_name(values["name"]),
            version=values["version"],
            manifest_digest=ids.digest(values["manifest_digest"]),
            manifest_size_bytes=values["manifest_size_bytes"],
        )
