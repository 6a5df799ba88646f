"""Blobs by content: ``sha256/ab/<hex>``. What is there is whole and durable; nothing is ever changed in place."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from cloud_hub.core.errors import BadArtifact, Invalid, NotFound
from edge_agent.core.files import sweep, sync_folder, write_atomic, writing_atomic
from protos.contract import ids
from protos.contract.ids import Digest


class ArtifactStore:
    """Thread-safe; several processes may share the folder."""

    def __init__(self, folder: Path) -> None:
        self._blobs = folder / "sha256"
        self._blobs.mkdir(parents=True, exist_ok=True)
        sync_folder(folder)
        for part in self._blobs.iterdir():
            sweep(part)

    def put(self, data: bytes) -> Digest:
        """On return the blob survives a power cut; putting it again is harmless."""
        digest = ids.digest_of(data)
        path = self._path(digest)
        if not path.parent.exists():
            path.parent.mkdir(exist_ok=True)
            sync_folder(self._blobs)
        if not path.exists() or path.stat().st_size != len(data):
            write_atomic(path, data)
        else:
            sync_folder(path.parent)  # another process may have renamed it just now
        return digest

    @contextlib.contextmanager
    def receiving(self, digest: Digest, size: int) -> Iterator[Callable[[bytes], None]]:
        """``put`` for what comes piece by piece and must be what was announced: it is there once the block has ended.

        Raises:
            Invalid: it is longer or shorter than ``size`` bytes, or another blob than ``digest``: nothing is kept.
        """
        path, hasher, received = self._path(digest), hashlib.sha256(), 0
        if not path.parent.exists():
            path.parent.mkdir(exist_ok=True)
            sync_folder(self._blobs)
        with writing_atomic(path) as write:

            def take(data: bytes) -> None:
                nonlocal received
                received += len(data)
                if received > size:
                    raise Invalid(f"blob {digest} was announced with {size} bytes, and more came")
                hasher.update(data)
                write(data)

            yield take
            if received != size or f"sha256:{hasher.hexdigest()}" != digest:
                raise Invalid(f"what came, {received} bytes, is not the blob {digest} of {size} bytes")

    def size(self, digest: Digest) -> int:
        """Bytes. Raises NotFound."""
        try:
            return self._path(digest).stat().st_size
        except FileNotFoundError as error:
            raise _unknown(digest) from error

    def read(self, digest: Digest) -> bytes:
        """Raises NotFound, or BadArtifact where the bytes on disk are not what their address says."""
        try:
            data = self._path(digest).read_bytes()
        except FileNotFoundError as error:
            raise _unknown(digest) from error
        if ids.digest_of(data) != digest:
            raise BadArtifact(f"blob {digest} is damaged on disk: restore it from a backup or publish it again")
        return data

    def chunks(self, digest: Digest, offset: int = 0, size: Callable[[], int] = lambda: 1 << 20) -> Iterator[bytes]:
        """The bytes from ``offset`` on, unverified: the receiver checks the digest of the whole.

        ``size`` is asked before each chunk how many bytes it may have.

        Raises:
            NotFound: no such blob.
            Invalid: the offset is outside the blob.
        """
        total = self.size(digest)
        if not 0 <= offset <= total:
            raise Invalid(f"offset must be in 0..{total} for {digest}, got {offset}")
        return self._read_from(digest, offset, size)

    def path(self, digest: Digest) -> str:
        """Below the folder: ``sha256/ab/<hex>``."""
        return self._path(digest).relative_to(self._blobs.parent).as_posix()

    def remove(self, digest: Digest) -> None:
        """For blobs that can be made again; it need not be there."""
        self._path(digest).unlink(missing_ok=True)

    def _read_from(self, digest: Digest, offset: int, size: Callable[[], int]) -> Iterator[bytes]:
        with self._path(digest).open("rb", buffering=0) as file:
            file.seek(offset)
            while chunk := file.read(size()):
                yield chunk

    def _path(self, digest: Digest) -> Path:
        name = ids.digest(digest).removeprefix("sha256:")  # checked: it becomes a path
        return self._blobs / name[:2] / name


def _unknown(digest: Digest) -> NotFound:
    return NotFound(f"no blob {digest} in the artifact store")
