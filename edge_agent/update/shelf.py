"""Two places for a package of one file on disk: a configuration, an application bundle."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.core.errors import Corrupt
from edge_agent.update.places import NAMES, Place, PlaceRecord, Places, require
from protos.contract import ids
from protos.contract.manifest import Blob
from protos.contract.twin import PackageAssignment, PackageKind

ShelfRecord = PlaceRecord[PackageAssignment]


@dataclass(frozen=True, slots=True)
class Berth(Place):
    """A place for one package."""

    @property
    def file(self) -> Path:
        return self.folder / "package"


class Shelf(Places[Berth, PackageAssignment]):
    def __init__(self, folder: Path, kind: PackageKind) -> None:
        super().__init__(folder, [Berth(name, folder / name) for name in NAMES], record_name="package.json")
        self._kind = kind

    def files(self, place: Berth) -> Sequence[Path]:
        return (place.file,)

    def check(self, place: Berth) -> ShelfRecord:
        """The record of a place whose file is exactly what it names. Raises Corrupt."""
        record = self.record(place)
        if record is None:
            raise Corrupt(f"place {place.name} holds no {self._kind.name.lower()}")
        require(place.file, Blob(digest=record.assignment.digest, size_bytes=record.assignment.size_bytes))
        return record

    def _to_values(self, assignment: PackageAssignment) -> dict[str, Any]:
        return {
            "name": assignment.name,
            "version": assignment.version,
            "digest": assignment.digest,
            "size_bytes": assignment.size_bytes,
        }

    def _of_values(self, values: Mapping[str, Any]) -> PackageAssignment:
        return PackageAssignment(
            kind=self._kind,
            name=values["name"],
            version=values["version"],
            digest=ids.digest(values["digest"]),
            size_bytes=values["size_bytes"],
        )
