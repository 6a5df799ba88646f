"""Captures on disk until the hub has them."""

import contextlib
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import Lock

from edge_agent.core.files import sync_folder, write_atomic
from edge_agent.core.model import Capture
from protos.contract import ids
from protos.contract.errors import InvalidId
from protos.contract.ids import Digest
from protos.contract.inputs import SampleKind
from protos.contract.telemetry import to_ms

_log = logging.getLogger(__name__)

_PICTURE, _OTHER = ".png", ".sample"


@dataclass(frozen=True, slots=True)
class _Entry:
    stem: str  # sorts by time
    size_bytes: int  # of both files
    suffix: str  # of the content's file


class CaptureFolder:
    """A file of its content and a JSON sidecar per capture; the sidecar is written last and makes it count. Thread-safe.

    Whatever a crash left half-written is deleted at start. Bounded by ``max_bytes`` of file content.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder = folder
        self._max_bytes = max_bytes
        self._lock = Lock()
        self._entries = _recover(folder)
        self._bytes = sum(entry.size_bytes for entry in self._entries.values())

    def add(self, capture: Capture) -> bool:
        """False where the budget is used up or the disk does not take it: inference goes on without."""
        sidecar = _sidecar(capture)
        suffix = _PICTURE if capture.kind is SampleKind.IMAGE else _OTHER
        entry = _Entry(_stem(capture), len(capture.content) + len(sidecar), suffix)
        with self._lock:
            if capture.digest in self._entries:
                return True
            if self._bytes + entry.size_bytes > self._max_bytes:
                return False
            try:
                write_atomic(self._content(entry), capture.content)
                write_atomic(self._json(entry), sidecar)
            except OSError as error:
                _log.warning("capture not kept", extra={"reason": str(error), "folder": str(self.folder)})
                self._delete(entry)
                return False
            self._entries[capture.digest] = entry
            self._bytes += entry.size_bytes
            return True

    def pending(self, limit: int) -> Sequence[Capture]:
        """Oldest first. A capture whose files were damaged is dropped."""
        captures: list[Capture] = []
        with self._lock:
            waiting = sorted(self._entries.items(), key=lambda item: item[1].stem)
        for digest, entry in waiting:
            if len(captures) >= limit:
                break
            try:
                captures.append(_read(self._content(entry), self._json(entry), digest))
            except FileNotFoundError:
                self.remove(digest)  # removed meanwhile, by us or by hand
            except (OSError, ValueError, KeyError, TypeError) as error:
                _log.warning("damaged capture dropped", extra={"digest": digest, "reason": str(error)})
                self.remove(digest)
        return captures

    def remove(self, digest: Digest) -> None:
        with self._lock:
            entry = self._entries.pop(digest, None)
            if entry is not None:
                self._bytes -= entry.size_bytes
                self._delete(entry)

    def count(self) -> int:
        with self._lock:
            return len(self._entries)

    def _content(self, entry: _Entry) -> Path:
        return self.folder / f"{entry.stem}{entry.suffix}"

    def _json(self, entry: _Entry) -> Path:
        return self.folder / f"{entry.stem}.json"

    def _delete(self, entry: _Entry) -> None:
        """The sidecar first: content alone does not count."""
        with contextlib.suppress(OSError):
            self._json(entry).unlink(missing_ok=True)
            self._content(entry).unlink(missing_ok=True)
            sync_folder(self.folder)


def _recover(folder: Path) -> dict[Digest, _Entry]:
    """What is whole; other files of the kinds that are written here are deleted."""
    sizes = {
        item.name: item.stat().st_size
        for item in os.scandir(folder)
        if item.name.endswith((_PICTURE, _OTHER, ".json", ".tmp")) and item.is_file(follow_symlinks=False)
    }
    entries: dict[Digest, _Entry] = {}
    whole: set[str] = set()
    for name, size in sizes.items():
        stem = name.removesuffix(".json")
        suffix = _PICTURE if f"{stem}{_PICTURE}" in sizes else _OTHER
        if f"{stem}{suffix}" in sizes:
            with contextlib.suppress(InvalidId):
                digest = ids.digest("sha256:" + stem.rpartition("-")[2])
                if digest not in entries:
                    entries[digest] = _Entry(stem, size + sizes[f"{stem}{suffix}"], suffix)
                    whole |= {name, f"{stem}{suffix}"}
    for name in sizes.keys() - whole:
        with contextlib.suppress(OSError):
            (folder / name).unlink()
    return entries


def _stem(capture: Capture) -> str:
    return f"{to_ms(capture.captured_at):014d}-{capture.digest.removeprefix('sha256:')}"


def _sidecar(capture: Capture) -> bytes:
    values = {
        "kind": capture.kind.name.lower(),
        "captured_at": capture.captured_at.isoformat(),
        "source": capture.source,
        "name": capture.name,
        "reason": capture.reason,
        "model": capture.model,
        "predicted": capture.predicted,
        "confidence": capture.confidence,
    }
    return json.dumps(values).encode()


def _read(path: Path, json_path: Path, digest: Digest) -> Capture:
    """Raises OSError, or ValueError, KeyError and TypeError where the files are not what was written."""
    content, values = path.read_bytes(), json.loads(json_path.read_bytes())
    if ids.digest_of(content) != digest:
        raise ValueError(f"{path.name} does not have its digest")
    return Capture(
        digest=digest,
        content=content,
        kind=SampleKind[str(values.get("kind", "image")).upper()],  # agents before this one kept pictures only
        captured_at=datetime.fromisoformat(values["captured_at"]),
        source=str(values["source"]),
        name=str(values["name"]),
        reason=str(values["reason"]),
        model=ids.digest(values["model"]),
        predicted=str(values["predicted"]),
        confidence=float(values["confidence"]),
    )
