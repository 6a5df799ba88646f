"""Two places on disk for one component, and one pointer that says which of them is started from."""

import hashlib
import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from edge_agent.core.errors import Corrupt
from edge_agent.core.files import make_folder, sweep, sync_folder, write_atomic
from edge_agent.update.record import Component, Found
from protos.contract.manifest import Blob

NAMES = ("a", "b")
_NONE = "none"  # written out: a missing pointer is damage, "none" is a decision


@dataclass(frozen=True, slots=True)
class Place:
    """One of the two folders. Its files are whole only where ``Places.check`` says so."""

    name: str  # "a" or "b"
    folder: Path


P = TypeVar("P", bound=Place)
A = TypeVar("A")


@dataclass(frozen=True, kw_only=True)  # no slots: in Python 3.11 a frozen generic with slots cannot be made by its alias
class PlaceRecord(Generic[A]):
    """What a place was filled for."""

    assignment: A
    generation: int
    rollout_id: str = ""
    good: bool = False  # it passed its trial: fit to fall back to


class Places(ABC, Generic[P, A]):
    """``folder/current`` names the place that is started from; it moves in one rename, after everything it names is on disk.

    Whatever moment the power fails, ``current`` names a place that was whole when it was named. Not thread-safe.
    """

    def __init__(self, folder: Path, places: Sequence[P], *, record_name: str) -> None:
        self._folder, self._record_name = folder, record_name
        self._pointer = folder / "current"
        self._places = {place.name: place for place in places}
        for place in places:
            make_folder(place.folder)
        for each in (folder, *(place.folder for place in places)):
            sweep(each)  # what a crash left of pointers and records; partial downloads have other names and stay

    @abstractmethod
    def files(self, place: P) -> Sequence[Path]:
        """What is started from."""

    @abstractmethod
    def check(self, place: P) -> object:
        """Raises Corrupt unless the files of ``place`` are exactly what its record names."""

    @abstractmethod
    def _to_values(self, assignment: A) -> dict[str, Any]: ...

    @abstractmethod
    def _of_values(self, values: Mapping[str, Any]) -> A:
        """Raises ValueError, KeyError or TypeError for what makes no sense."""

    @property
    def folder(self) -> Path:
        return self._folder

    def slot(self, name: str) -> P:
        return self._places[name]

    def current(self) -> P | None:
        """What is started from; None where nothing should be. A lost or damaged pointer means the newest good place."""
        try:
            text = self._pointer.read_bytes().decode("ascii", "replace").strip()
        except OSError:
            text = ""
        if text in self._places:
            return self._places[text]
        return None if text == _NONE else self._newest_good()

    def other(self) -> P:
        """What is not started from, free to be filled."""
        current = self.current()
        return next(place for place in self._places.values() if place != current)

    def record(self, place: P) -> PlaceRecord[A] | None:
        """None where it is empty or its record is damaged."""
        try:
            values = json.loads((place.folder / self._record_name).read_bytes())
            return PlaceRecord(
                assignment=self._of_values(values),
                generation=int(values["generation"]),
                rollout_id=str(values["rollout_id"]),
                good=bool(values["good"]),
            )
        except (OSError, ValueError, KeyError, TypeError):  # ContractError is a ValueError
            return None

    def prepare(self, place: P, record: PlaceRecord[A]) -> None:
        """Make it ready to be filled: what it already holds of the same assignment stays, anything else goes."""
        old = self.record(place)
        if old is not None and old.assignment == record.assignment:
            kept = replace(record, good=old.good)  # it may be what we fall back to, and stays so while it is looked at
            if old != kept:
                self._write_record(place, kept)
            return
        self.clear(place)
        self._write_record(place, record)

    def clear(self, place: P) -> None:
        """Empty it; the record goes first, so that a crash in between leaves no place that looks filled."""
        (place.folder / self._record_name).unlink(missing_ok=True)
        sync_folder(place.folder)
        for path in place.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        sync_folder(place.folder)

    def activate(self, place: P | None) -> None:
        """Point ``current`` at ``place``, or at nothing; durable on return. Raises OSError: the pointer did not move."""
        if place is not None:
            for path in self.files(place):
                _sync_file(path)
            sync_folder(place.folder)
        write_atomic(self._pointer, (place.name if place is not None else _NONE).encode() + b"\n")

    def mark(self, place: P, *, good: bool) -> None:
        """Remember whether what is in ``place`` has passed its trial."""
        record = self.record(place)
        if record is not None and record.good != good:
            self._write_record(place, replace(record, good=good))

    def fallback(self, than: P | None) -> P | None:
        """Another place than ``than`` that is whole and has passed its trial."""
        for place in self._by_generation():
            record = self.record(place)
            if place != than and record is not None and record.good and self._whole(place):
                return place
        return None

    def records(self) -> list[tuple[P, PlaceRecord[A]]]:
        """Filled places, newest generation first."""
        return [(place, record) for place in self._by_generation() if (record := self.record(place)) is not None]

    def bytes_in(self, place: P) -> int:
        """Of all files there, unfinished ones too."""
        try:
            return sum(file.stat().st_size for file in place.folder.iterdir() if file.is_file())
        except OSError:  # one that was renamed since it was listed
            return 0

    def _newest_good(self) -> P | None:
        return next((place for place, record in self.records() if record.good), None)

    def _by_generation(self) -> list[P]:
        def generation(place: P) -> int:
            record = self.record(place)
            return record.generation if record is not None else -1

        return sorted(self._places.values(), key=generation, reverse=True)

    def _whole(self, place: P) -> bool:
        try:
            self.check(place)
        except Corrupt:
            return False
        return True

    def _write_record(self, place: P, record: PlaceRecord[A]) -> None:
        values = {
            **self._to_values(record.assignment),
            "generation": record.generation,
            "rollout_id": record.rollout_id,
            "good": record.good,
        }
        write_atomic(place.folder / self._record_name, json.dumps(values, sort_keys=True).encode())


def found_in(places: Places[Any, Any], component: Component) -> Found | None:
    """What ``places`` say is started from; None: nothing, or its record is damaged."""
    current = places.current()
    record = places.record(current) if current is not None else None
    if current is None or record is None:
        return None
    return Found(
        component=component,
        generation=record.generation,
        assignment=record.assignment,
        place=current.name,
        good=record.good,
        rollout_id=record.rollout_id,
    )


def holds(path: Path, blob: Blob) -> bool:
    """``path`` is exactly ``blob``."""
    try:
        require(path, blob)
    except Corrupt:
        return False
    return True


def require(path: Path, blob: Blob) -> None:
    """Raises Corrupt unless ``path`` is exactly ``blob``."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != blob.size_bytes:
                raise Corrupt(f"{path.name} has {size} bytes instead of {blob.size_bytes}")
            found = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Corrupt(f"{path.name} cannot be read: {error.strerror}") from error
    if found != blob.digest:
        raise Corrupt(f"{path.name} is {found[:19]}... instead of {blob.digest[:19]}...")


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
