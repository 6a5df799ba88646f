"""A blob on its way in: a file beside its place that grows from the start, each chunk of it verified once it is there."""

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from edge_agent.core.errors import Corrupt, DiskFull, Endless
from edge_agent.core.files import sync_folder
from protos.contract.manifest import Blob, Chunks

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_PIECE_BYTES = 256 << 10


class Part:
    """What is there of ``blob``. Without ``chunks`` it is one chunk, which can be verified only at its end.

    Raises Corrupt where a chunk is not what it must be: it is gone from the file, and those before it stay.
    """

    def __init__(self, file_path: Path, blob: Blob, chunks: Chunks | None) -> None:
        self._path, self.blob = file_path, blob
        self._size = chunks.size_bytes if chunks is not None else blob.size_bytes
        self._digests = chunks.digests if chunks is not None else (bytes.fromhex(blob.digest.removeprefix("sha256:")),)
        self._file = file_path.open("r+b" if file_path.exists() else "w+b", buffering=0)
        self._verified = 0  # bytes of whole chunks
        self._hash = hashlib.sha256()  # of what follows them
        self.offset = 0  # bytes that are there
        try:
            self._resume()
        except BaseException:
            self._file.close()
            raise

    @property
    def missing(self) -> int:
        """Bytes."""
        return self.blob.size_bytes - self.offset

    def expect(self, total_bytes: int) -> None:
        """Raises Corrupt where the other side has a blob of another size."""
        if total_bytes != self.blob.size_bytes:
            raise Corrupt(f"{self.blob.digest} has {total_bytes} bytes there, the manifest says {self.blob.size_bytes}")

    def take(self, data: bytes) -> None:
        """Append what came. Raises Corrupt, or Endless before anything beyond the blob's size is written."""
        if len(data) > self.missing:
            raise Endless(f"{self.blob.digest} goes on beyond its {self.blob.size_bytes} bytes")
        view = memoryview(data)
        while view:
            piece = view[: self._verified + self._size - self.offset]
            self._write(piece)
            self._seen(piece)
            view = view[len(piece) :]

    def close(self) -> None:
        """What is there survives a power cut; a file that holds nothing is removed."""
        with self._file:
            os.fsync(self._file.fileno())
        if not self.offset:
            self._path.unlink(missing_ok=True)

    def _resume(self) -> None:
        """Believe what an earlier try left as far as it can be verified, and no further than the last whole chunk's end."""
        if os.fstat(self._file.fileno()).st_size > self.blob.size_bytes:
            self._file.truncate(0)  # of another blob
        with contextlib.suppress(Corrupt):
            while piece := self._file.read(min(_PIECE_BYTES, self._verified + self._size - self.offset)):
                self._seen(piece)

    def _seen(self, piece: bytes | memoryview) -> None:
        self._hash.update(piece)
        self.offset += len(piece)
        if self.offset < min(self._verified + self._size, self.blob.size_bytes):
            return
        number = self._verified // self._size
        if self._hash.digest() != self._digests[number]:
            self.offset = self._verified
            self._hash = hashlib.sha256()
            self._file.truncate(self._verified)
            self._file.seek(self._verified)
            raise Corrupt(f"chunk {number + 1} of {len(self._digests)} of {self.blob.digest} is not what it must be")
        self._verified, self._hash = self.offset, hashlib.sha256()

    def _write(self, piece: memoryview) -> None:
        """Raises DiskFull: whoever brings the bytes would take an OSError for a fault of the connection."""
        try:
            while piece:
                piece = piece[self._file.write(piece) :]
        except OSError as error:
            if error.errno in _NO_ROOM:
                self.offset = 0  # what is left of the disk serves others better
            raise _unwritten(error, self._path, self.blob) from error


@contextlib.contextmanager
def receiving(blob: Blob, path: Path, chunks: Chunks | None) -> Iterator[Part]:
    """Fill the part inside the block; at its end the whole blob is at ``path``, durably, or it raised and what came is kept as
    far as it may be good.

    Raises:
        DiskFull: no room; nothing is kept.
        Corrupt, Endless: only verified chunks are kept.
    """
    beside = path.with_name(path.name + ".part")
    try:
        part = Part(beside, blob, chunks)
        try:
            yield part
        except (Corrupt, Endless):
            if chunks is None:
                part.offset = 0  # nothing of it can be told from what is wrong
            raise
        finally:
            part.close()
        beside.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        if error.errno in _NO_ROOM:
            beside.unlink(missing_ok=True)
        raise _unwritten(error, path, blob) from error


def _unwritten(error: OSError, path: Path, blob: Blob) -> DiskFull:
    room = error.errno in _NO_ROOM
    return DiskFull(f"no room for {blob.size_bytes} bytes at {path}" if room else f"cannot write {path}: {error}")
