"""Fill a slot from the hub: verified names first, then the manifest, because it says whether the rest can run here."""

import threading
from collections.abc import Callable
from pathlib import Path

from edge_agent.core.errors import AlteredTarget, BadModel, Corrupt, DiskFull, LinkDown
from edge_agent.core.ports import Hub
from edge_agent.update.slots import Slot, holds
from edge_agent.update.surroundings import Approved
from protos.contract import codec
from protos.contract.errors import ContractError
from protos.contract.manifest import Blob, Manifest
from protos.contract.twin import ModelAssignment


class Fetcher:
    """Fills slots, one at a time; ``cut`` is for any thread."""

    def __init__(
        self,
        connect: Callable[[], Hub],
        *,
        unrunnable: Callable[[Manifest], str],
        free_bytes: Callable[[Path], int],
        reserve_bytes: int,
    ) -> None:
        self._connect, self._unrunnable = connect, unrunnable
        self._free_bytes, self._reserve_bytes = free_bytes, reserve_bytes
        self._lock = threading.Lock()
        self._hub: Hub | None = None

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
        hub = self._connect()
        try:
            with self._lock:
                self._hub = hub
            if called_off():  # before this line ``cut`` had nothing to cut
                raise LinkDown("the download was called off")
            approved = approve(hub)
            self._fill(hub, slot, assignment, approved)
            return approved
        finally:
            with self._lock:
                self._hub = None
            hub.close()

    def cut(self) -> None:
        """End a download under way; what came so far is kept."""
        with self._lock:
            hub = self._hub
        if hub is not None:
            hub.close()

    def _fill(self, hub: Hub, slot: Slot, assignment: ModelAssignment, approved: Approved) -> None:
        _obtain(hub, approved.manifest, slot.manifest)
        manifest = _read(slot.manifest, assignment)
        if (manifest.artifact, manifest.golden.blob) != (approved.model, approved.golden):
            raise AlteredTarget(f"the manifest of {assignment.name}:{assignment.version} names other files than were released")
        if reason := self._unrunnable(manifest):
            raise BadModel(f"{assignment.name}:{assignment.version} cannot run here: {reason}")
        _check_room(slot, manifest, self._free_bytes(slot.folder), self._reserve_bytes)
        _obtain(hub, approved.model, slot.model)
        _obtain(hub, approved.golden, slot.golden)


def _obtain(hub: Hub, blob: Blob, path: Path) -> None:
    if holds(path, blob):
        return
    path.unlink(missing_ok=True)
    hub.download(blob, path)
    if not holds(path, blob):  # the port promises it; what is activated is checked by us
        path.unlink(missing_ok=True)
        raise Corrupt(f"{path.name} from the hub is not {blob.digest}")


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


def _check_room(slot: Slot, manifest: Manifest, free: int, reserve: int) -> None:
    present = sum(file.stat().st_size for file in slot.folder.iterdir() if file.is_file())
    needed = max(0, manifest.artifact.size_bytes + manifest.golden.blob.size_bytes - present) + reserve
    if free < needed:
        raise DiskFull(f"{slot.folder} has {free >> 10} KiB free, the update needs {needed >> 10} KiB: free some space")
