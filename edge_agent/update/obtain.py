"""Bring one blob to its place by the way that costs least.

What is on the device already, then a delta from it, then the whole from where the hub names a URL, then the whole from the hub.
Whatever comes, and wherever from, is in its place only if its digest is the one that was approved.
"""

import contextlib
import hashlib
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from edge_agent.core.errors import AgentError, Corrupt, DiskFull, LinkDown, Refused, TooSlow
from edge_agent.core.files import sync_folder
from edge_agent.core.ports import Hub
from edge_agent.update.places import holds
from edge_agent.update.undelta import Undelta
from protos.contract.ids import Digest
from protos.contract.manifest import Blob, Chunks
from protos.contract.sources import BlobSource

log = logging.getLogger(__name__)

MIN_BYTES = 32 << 10  # below it asking costs more than it can save
DELTA, DECODED, FROM_WEB = ".delta", ".undelta", ".web"  # what a try leaves beside the blob's place
_STANDSTILLS = 2  # tries of one source in a row without a byte, before the next one is tried
_BAD_CHUNKS = 3  # that one download gets over
_LOOK_S = 0.5  # between looks whether one that waits for its turn to decode was called off
_REMEMBERED = 64  # deltas that were of no use, and sources that stood still


class Obtainer:
    """One blob at a time; ``cut`` is for any thread."""

    def __init__(
        self,
        *,
        free_bytes: Callable[[Path], int],
        reserve_bytes: int,
        delta_memory_bytes: int,
        decoding: "threading.Lock | None" = None,
    ) -> None:
        """``delta_memory_bytes``: what decoding may take, while ``decoding`` is held; 0: no deltas."""
        self._free_bytes, self._reserve_bytes, self._memory_bytes = free_bytes, reserve_bytes, delta_memory_bytes
        self._called_off = threading.Event()
        self._undelta, self._decoding = Undelta(self._called_off.is_set), decoding or threading.Lock()
        self._useless: dict[Digest, None] = {}  # deltas, oldest first
        self._standstills: dict[tuple[Digest, str], int] = {}  # by what is downloaded and the URL, without its query

    def begin(self) -> None:
        """What was cut is over: from here on another download."""
        self._called_off.clear()

    def cut(self) -> None:
        """End decoding, or waiting for it; a download ends with its hub."""
        self._called_off.set()
        self._undelta.kill()

    def obtain(self, hub: Hub, blob: Blob, path: Path, *, chunks: Chunks | None = None, bases: Sequence[Path] = ()) -> None:
        """On return ``path`` is exactly ``blob``, durably. ``bases``: files that may be like it, whole or not there.

        Raises:
            LinkDown, TooSlow, Refused, Corrupt, Endless, DiskFull: as ``Hub.download``.
        """
        if holds(path, blob):
            return
        path.unlink(missing_ok=True)
        have = {_digest(base): base for base in bases if base.is_file() and base.stat().st_size} if _worth(blob) else {}
        if blob.digest in have and self._copied(have[blob.digest], blob, path):
            return
        sources = self._sources(hub, blob, list(have))
        for source in sources:
            if source.base in have and self._by_delta(hub, source, have[source.base], blob, path):
                _tidy(path)
                return
        self._whole(hub, blob, path, chunks, [source.url for source in sources if source.base is None and source.url])
        _tidy(path)

    def _sources(self, hub: Hub, blob: Blob, have: list[Digest]) -> Sequence[BlobSource]:
        if not _worth(blob):
            return ()
        try:
            return hub.locate(blob.digest, have if self._memory_bytes else (), self._memory_bytes)
        except (LinkDown, Refused) as error:  # an older hub, or one in trouble: the download says whether it is there
            log.info("no sources", extra={"blob": blob.digest, "reason": str(error)})
            return ()

    def _copied(self, base: Path, blob: Blob, path: Path) -> bool:
        if self._free_bytes(path.parent) < blob.size_bytes + self._reserve_bytes:
            return False
        copy = path.with_name(path.name + DECODED)
        try:
            shutil.copyfile(base, copy)
        except OSError as error:
            copy.unlink(missing_ok=True)
            log.info("not copied", extra={"path": str(base), "reason": str(error)})
            return False
        return self._kept(copy, blob, path, "what is on the device")

    def _by_delta(self, hub: Hub, source: BlobSource, base: Path, blob: Blob, path: Path) -> bool:
        """False where the whole has to be fetched."""
        delta, made = path.with_name(path.name + DELTA), path.with_name(path.name + DECODED)
        there = _there(path)
        digest, size = source.blob.digest, source.blob.size_bytes
        no_room = self._free_bytes(path.parent) < blob.size_bytes + size + self._reserve_bytes
        if digest in self._useless or there + size >= blob.size_bytes or source.decode_bytes > self._memory_bytes or no_room:
            return False
        try:
            if not holds(delta, source.blob) and not self._downloaded(hub, source.blob, delta, None, source.url):
                return False
            with self._turn_to_decode():
                self._undelta.run(source, base, delta, made, blob.size_bytes, self._memory_bytes)
        except LinkDown:
            made.unlink(missing_ok=True)
            raise
        except (Corrupt, DiskFull) as error:
            made.unlink(missing_ok=True)
            self._forget(source, delta, str(error))
            return False
        delta.unlink(missing_ok=True)
        if not self._kept(made, blob, path, f"delta {digest}"):
            self._forget(source, delta, "it gave other bytes")
            return False
        log.info("delta applied", extra={"bytes": size, "instead_of": blob.size_bytes, "encoding": source.encoding.name})
        return True

    @contextlib.contextmanager
    def _turn_to_decode(self) -> Iterator[None]:
        """Raises LinkDown: it was called off meanwhile."""
        while not self._decoding.acquire(timeout=_LOOK_S):
            if self._called_off.is_set():
                break
        else:
            try:
                if not self._called_off.is_set():
                    yield
                    return
            finally:
                self._decoding.release()
        raise LinkDown("decoding was called off")

    def _forget(self, source: BlobSource, delta: Path, reason: str) -> None:
        """Do without this delta from now on: another one may do, or the whole."""
        delta.unlink(missing_ok=True)
        self._useless[source.blob.digest] = None
        while len(self._useless) > _REMEMBERED:
            del self._useless[next(iter(self._useless))]
        log.warning("delta is of no use", extra={"delta": source.blob.digest, "base": source.base, "reason": reason})

    def _whole(self, hub: Hub, blob: Blob, path: Path, chunks: Chunks | None, urls: Sequence[str]) -> None:
        # Without chunks nothing of a part can be told right from wrong: each source resumes only what came from itself.
        from_web = path if chunks is not None else path.with_name(path.name + FROM_WEB)
        by_hub = bool(urls) and from_web != path and _there(path) > _there(from_web)  # so far: it goes on by the same way
        if by_hub and self._downloaded(hub, blob, path, None, "") and self._kept(path, blob, path, "the hub"):
            return
        for url in urls:
            if self._downloaded(hub, blob, from_web, chunks, url) and self._kept(from_web, blob, path, "the web"):
                return
        if from_web != path and self._free_bytes(path.parent) < blob.size_bytes - _there(path) + self._reserve_bytes:
            _part(from_web).unlink(missing_ok=True)  # it was counted as room that this download has
        for left in reversed(range(_BAD_CHUNKS)):
            try:
                hub.download(blob, path, chunks=chunks)
                break
            except Corrupt:
                if chunks is None or not left:
                    raise
        if not self._kept(path, blob, path, "the hub"):  # the port promises it; what is activated is checked by us
            raise Corrupt(f"{path.name} from the hub is not {blob.digest}")

    def _downloaded(self, hub: Hub, blob: Blob, path: Path, chunks: Chunks | None, url: str) -> bool:
        """False where another source should be tried.

        Raises LinkDown, TooSlow: what came goes on from here later; DiskFull.
        """
        source, before = (blob.digest, url.partition("?")[0]), _there(path)
        try:
            hub.download(blob, path, chunks=chunks, url=url)
        except (LinkDown, TooSlow) as error:
            stands = _there(path) <= before
            self._standstills[source] = self._standstills.pop(source, 0) + 1 if stands else 0
            while len(self._standstills) > _REMEMBERED:
                del self._standstills[next(iter(self._standstills))]
            if self._standstills[source] < _STANDSTILLS and not (url and stands):
                raise
            log.info("source given up", extra={"blob": blob.digest, "url": source[1], "reason": str(error)})
            return False
        except DiskFull:
            raise
        except AgentError as error:
            log.warning("source is of no use", extra={"blob": blob.digest, "url": source[1], "reason": str(error)})
            return False
        self._standstills.pop(source, None)
        return True

    def _kept(self, made: Path, blob: Blob, path: Path, origin: str) -> bool:
        """Whether it is ``blob``, which then is at ``path`` durably; else it is gone."""
        if not holds(made, blob):
            made.unlink(missing_ok=True)
            log.warning("other bytes than wanted", extra={"blob": blob.digest, "from": origin})
            return False
        if made != path:
            with made.open("rb") as file:
                os.fsync(file.fileno())
            made.replace(path)
            sync_folder(path.parent)
        return True


def _worth(blob: Blob) -> bool:
    return blob.size_bytes >= MIN_BYTES


def _tidy(path: Path) -> None:
    """What other ways to this blob have left half-way."""
    for beside in ("", DELTA, FROM_WEB):
        path.with_name(f"{path.name}{beside}.part").unlink(missing_ok=True)
    for beside in (DELTA, DECODED, FROM_WEB):
        path.with_name(path.name + beside).unlink(missing_ok=True)


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _there(path: Path) -> int:
    """Bytes of a download that is not whole yet."""
    part = _part(path)
    return part.stat().st_size if part.exists() else 0


def _digest(path: Path) -> Digest:
    with path.open("rb") as file:
        return Digest("sha256:" + hashlib.file_digest(file, "sha256").hexdigest())
