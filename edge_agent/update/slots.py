"""Two places for a model on disk, and one pointer that says which of them runs."""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from edge_agent.core.errors import Corrupt
from edge_agent.core.files import sweep, sync_folder, write_atomic
from protos.contract import codec, ids
from protos.contract.errors import ContractError
from protos.contract.manifest import Blob, Manifest
from protos.contract.twin import ModelAssignment

_NAMES = ("a", "b")
_NONE = "none"  # written out: a missing pointer is damage, "none" is a decision


@dataclass(frozen=True, slots=True)
class Slot:
    """One of the two folders. Its files are whole only where ``Slots.check`` says so."""

    name: str  # "a" or "b"
    folder: Path

    @property
    def manifest(self) -> Path:
        return self.folder / "manifest.pb"

    @property
    def model(self) -> Path:
        return self.folder / "model.bin"

    @property
    def golden(self) -> Path:
        return self.folder / "golden.pb"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotRecord:
    """What a slot was filled for."""

    assignment: ModelAssignment
    generation: int
    rollout_id: str = ""
    good: bool = False  # it passed probation: fit to fall back to


class Slots:
    """``folder/current`` names the slot that runs; it moves in one rename, after everything it names is on disk.

    Whatever moment the power fails, ``current`` names a slot that was whole when it was named. Not thread-safe.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pointer = folder / "current"
        self._slots = {name: Slot(name, folder / "slots" / name) for name in _NAMES}
        for slot in self._slots.values():
            slot.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._sweep()

    @property
    def folder(self) -> Path:
        return self._folder

    def slot(self, name: str) -> Slot:
        return self._slots[name]

    def current(self) -> Slot | None:
        """The slot that runs; None where none should. A lost or damaged pointer means the newest good slot."""
        try:
            text = self._pointer.read_bytes().decode("ascii", "replace").strip()
        except OSError:
            text = ""
        if text in self._slots:
            return self._slots[text]
        return None if text == _NONE else self._newest_good()

    def other(self) -> Slot:
        """The slot that does not run, free to be filled."""
        current = self.current()
        return self._slots["b" if current is not None and current.name == "a" else "a"]

    def record(self, slot: Slot) -> SlotRecord | None:
        """None where the slot is empty or its record is damaged."""
        try:
            values = json.loads((slot.folder / "slot.json").read_bytes())
            return SlotRecord(
                assignment=ModelAssignment(
                    name=ids.model_name(values["name"]),
                    version=values["version"],
                    manifest_digest=ids.digest(values["manifest_digest"]),
                    manifest_size_bytes=values["manifest_size_bytes"],
                ),
                generation=int(values["generation"]),
                rollout_id=str(values["rollout_id"]),
                good=bool(values["good"]),
            )
        except (OSError, ValueError, KeyError, TypeError):  # ContractError is a ValueError
            return None

    def prepare(self, slot: Slot, record: SlotRecord) -> None:
        """Make ``slot`` ready to be filled: what it already holds of the same manifest stays, anything else goes."""
        old = self.record(slot)
        if old is not None and old.assignment == record.assignment:
            kept = replace(record, good=old.good)  # it may be what we fall back to, and stays so while it is looked at
            if old != kept:
                self._write_record(slot, kept)
            return
        self.clear(slot)
        self._write_record(slot, record)

    def clear(self, slot: Slot) -> None:
        """Empty it; the record goes first, so that a crash in between leaves no slot that looks filled."""
        (slot.folder / "slot.json").unlink(missing_ok=True)
        sync_folder(slot.folder)
        for path in slot.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        sync_folder(slot.folder)

    def check(self, slot: Slot) -> Manifest:
        """The manifest of a slot whose three files are exactly what its record names. Raises Corrupt."""
        record = self.record(slot)
        if record is None:
            raise Corrupt(f"slot {slot.name} holds no model")
        assignment = record.assignment
        require(slot.manifest, Blob(digest=assignment.manifest_digest, size_bytes=assignment.manifest_size_bytes))
        try:
            manifest = codec.decode_manifest(slot.manifest.read_bytes())
        except (ContractError, OSError) as error:
            raise Corrupt(f"slot {slot.name}: {error}") from error
        require(slot.model, manifest.artifact)
        require(slot.golden, manifest.golden.blob)
        return manifest

    def activate(self, slot: Slot | None) -> None:
        """Point ``current`` at ``slot``, or at no model; durable on return. Raises OSError: the pointer did not move."""
        if slot is not None:
            for path in (slot.manifest, slot.model, slot.golden):
                _sync_file(path)
            sync_folder(slot.folder)
        write_atomic(self._pointer, (slot.name if slot is not None else _NONE).encode() + b"\n")

    def mark(self, slot: Slot, *, good: bool) -> None:
        """Remember whether the model in ``slot`` has passed probation."""
        record = self.record(slot)
        if record is not None and record.good != good:
            self._write_record(slot, replace(record, good=good))

    def fallback(self, than: Slot | None) -> Slot | None:
        """Another slot than ``than`` that is whole and has passed probation."""
        for slot in self._by_generation():
            record = self.record(slot)
            if slot != than and record is not None and record.good and self._whole(slot):
                return slot
        return None

    def records(self) -> list[tuple[Slot, SlotRecord]]:
        """Filled slots, newest generation first."""
        return [(slot, record) for slot in self._by_generation() if (record := self.record(slot)) is not None]

    def _newest_good(self) -> Slot | None:
        return next((slot for slot, record in self.records() if record.good), None)

    def _by_generation(self) -> list[Slot]:
        def generation(slot: Slot) -> int:
            record = self.record(slot)
            return record.generation if record is not None else -1

        return sorted(self._slots.values(), key=generation, reverse=True)

    def _whole(self, slot: Slot) -> bool:
        try:
            self.check(slot)
        except Corrupt:
            return False
        return True

    def _write_record(self, slot: Slot, record: SlotRecord) -> None:
        assignment = record.assignment
        values = {
            "name": assignment.name,
            "version": assignment.version,
            "manifest_digest": assignment.manifest_digest,
            "manifest_size_bytes": assignment.manifest_size_bytes,
            "generation": record.generation,
            "rollout_id": record.rollout_id,
            "good": record.good,
        }
        write_atomic(slot.folder / "slot.json", json.dumps(values, sort_keys=True).encode())

    def _sweep(self) -> None:
        """Drop what a crash left of half-written pointers and records; partial downloads have other names and stay."""
        for folder in (self._folder, *(slot.folder for slot in self._slots.values())):
            sweep(folder)


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
