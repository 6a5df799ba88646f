"""Fill a slot from the hub: verified names first, then the manifest, because it says whether the rest can run here."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from edge_agent.core.config import UpdateConfig
from edge_agent.core.errors import AlteredTarget, BadModel, BadPackage, DiskFull, LinkDown
from edge_agent.core.ports import Hub
from edge_agent.update.obtain import DECODED, DELTA, Obtainer
from edge_agent.update.slots import Slot
from edge_agent.update.surroundings import Approved, ApprovedPackage
from protos.contract import codec
from protos.contract.errors import ContractError
from protos.contract.manifest import Blob, Manifest
from protos.contract.sources import MAX_BASES
from protos.contract.twin import ModelAssignment, PackageAssignment


class Fetcher:
    """Fills slots, one at a time; ``cut`` is for any thread."""

    def __init__(
        self,
        connect: Callable[[], Hub],
        *,
        unrunnable: Callable[[Manifest], str],
        free_bytes: Callable[[Path], int],
        reserve_bytes: int,
        delta_memory_bytes: int = UpdateConfig().delta_memory_bytes,
        decoding: "threading.Lock | None" = None,
    ) -> None:
        """``delta_memory_bytes``: what decoding a delta may take; 0: everything comes whole. ``decoding``: held meanwhile,
        where several fetchers share that memory."""
        self._connect, self._unrunnable = connect, unrunnable
        self._free_bytes, self._reserve_bytes = free_bytes, reserve_bytes
        self._obtainer = Obtainer(
            free_bytes=free_bytes,
            reserve_bytes=reserve_bytes,
            delta_memory_bytes=delta_memory_bytes,
            decoding=decoding,
        )
        self._lock = threading.Lock()
        self._hub: Hub | None = None
        self._claim: tuple[Path, int] | None = None  # folder, and the bytes that come there

    @property
    def owed_bytes(self) -> int:
        """What is still to come of the download under way: room that is no more there for others. For any thread."""
        claim = self._claim
        try:
            return _lacking(*claim) if claim is not None else 0
        except OSError:  # a file that was renamed since it was listed
            return claim[1] if claim is not None else 0

    def fill(
        self, slot: Slot, assignment: ModelAssignment, *, approve: Callable[[Hub], Approved], called_off: Callable[[], bool]
    ) -> Approved:
        """On return ``slot`` holds all three files of ``assignment``, as ``approve`` names them before the first byte.

        What is already there is not downloaded again.

        Raises:
            Untrusted, NoTrust: as ``Verifier.check``; also where the manifest names other files than were approved.
            BadModel: the manifest is not what was assigned, or cannot run here.
            DiskFull: artifact and golden set would leave less than the reserve; nothing of them was downloaded.
            LinkDown: also where it was ``called_off`` before it began, or cut.
            Refused, Corrupt: as ``Hub.download``.
        """
        with self._connected(called_off) as hub:
            approved = approve(hub)
            self._fill(hub, slot, assignment, approved)
            return approved

    def fetch(
        self,
        path: Path,
        package: PackageAssignment,
        *,
        approve: Callable[[Hub], ApprovedPackage],
        called_off: Callable[[], bool],
        max_bytes: int,
    ) -> ApprovedPackage:
        """On return ``path`` holds the file of ``package``, of ``max_bytes`` at most.

        Raises:
            BadPackage: it has more bytes.
            Untrusted, NoTrust, DiskFull, LinkDown, Refused, Corrupt: as ``fill``.
        """
        named = f"{package.kind.name.lower()} {package.name}:{package.version}"
        if package.size_bytes > max_bytes:
            raise BadPackage(f"{named} has {package.size_bytes} bytes, at most {max_bytes} are taken here")
        with self._connected(called_off) as hub:
            approved = approve(hub)
            if approved.blob != Blob(digest=package.digest, size_bytes=package.size_bytes):
                raise AlteredTarget(f"{named} is {approved.blob.digest} by both repositories, not what was assigned")
            self._claim_room(path.parent, package.size_bytes)
            self._obtainer.obtain(hub, approved.blob, path, bases=_alike(path))
            return approved

    @contextlib.contextmanager
    def _connected(self, called_off: Callable[[], bool]) -> Iterator[Hub]:
        hub = self._connect()
        try:
            self._obtainer.begin()
            with self._lock:
                self._hub = hub
            if called_off():  # before this line ``cut`` had nothing to cut
                raise LinkDown("the download was called off")
            yield hub
        finally:
            with self._lock:
                self._hub = None
            self._claim = None
            hub.close()

    def cut(self) -> None:
        """End a download under way; what came so far is kept."""
        with self._lock:
            hub = self._hub
        if hub is not None:
            hub.close()
        self._obtainer.cut()

    def _claim_room(self, folder: Path, wanted: int) -> None:
        self._claim = folder, wanted  # first: of two that look for room at once, each sees the other
        free, needed = self._free_bytes(folder), _lacking(folder, wanted) + self._reserve_bytes
        if free < needed:
            raise DiskFull(f"{folder} has {free >> 10} KiB free, the update needs {needed >> 10} KiB: free some space")

    def _fill(self, hub: Hub, slot: Slot, assignment: ModelAssignment, approved: Approved) -> None:
        self._obtainer.obtain(hub, approved.manifest, slot.manifest)
        manifest = _read(slot.manifest, assignment)
        if (manifest.artifact, manifest.golden.blob) != (approved.model, approved.golden):
            raise AlteredTarget(f"the manifest of {assignment.name}:{assignment.version} names other files than were released")
        if reason := self._unrunnable(manifest):
            raise BadModel(f"{assignment.name}:{assignment.version} cannot run here: {reason}")
        wanted = manifest.artifact.size_bytes + manifest.golden.blob.size_bytes
        self._claim_room(slot.folder, wanted)
        self._obtainer.obtain(hub, approved.model, slot.model, chunks=manifest.chunks, bases=_alike(slot.model))
        self._obtainer.obtain(hub, approved.golden, slot.golden, bases=_alike(slot.golden))


def _alike(path: Path) -> list[Path]:
    """Files of this name in the places beside this one: what a new one may be made from."""
    folders = (folder for folder in path.parent.parent.iterdir() if folder.is_dir() and folder != path.parent)
    return [folder / path.name for folder in folders][:MAX_BASES]


def _read(path: Path, assignment: ModelAssignment) -> Manifest:
    try:
        manifest = codec.decode_manifest(path.read_bytes())
    except ContractError as error:
        raise BadModel(f"manifest of {assignment.name}:{assignment.version} cannot be used: {error}") from error
    if (manifest.name, manifest.version) != (assignment.name, assignment.version):
        raise BadModel(
            f"{assignment.name}:{assignment.version} was assigned, but its manifest says {manifest.name}:{manifest.version}"
        )
    return manifest


def _lacking(folder: Path, wanted: int) -> int:
    """Of ``wanted`` bytes."""
    beside = (DELTA, f"{DELTA}.part", DECODED)  # gone by the time the whole is there
    present = sum(file.stat().st_size for file in folder.iterdir() if file.is_file() and not file.name.endswith(beside))
    return max(0, wanted - present)
