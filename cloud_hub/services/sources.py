"""Use cases about the bytes of blobs: where they can be had, and having them."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from cloud_hub.core.errors import NotFound
from cloud_hub.core.model import Principal
from cloud_hub.services.deltas import DeltaService
from cloud_hub.services.registry import RegistryService
from cloud_hub.store import copies
from cloud_hub.store.artifacts import ArtifactStore
from cloud_hub.store.database import Database
from cloud_hub.store.web import Web
from edge_agent.core.clock import Clock
from protos.contract.ids import Digest
from protos.contract.manifest import Blob
from protos.contract.sources import MAX_BASES, MAX_SOURCES, BlobSource, Encoding

log = logging.getLogger(__name__)

DELTAS = "deltas"  # the folder of deltas below that of the blobs
_COPIES = 8  # in one call of ``tick``


class SourceService:
    """Thread-safe."""

    def __init__(
        self,
        db: Database,
        registry: RegistryService,
        artifacts: ArtifactStore,
        deltas: DeltaService,
        web: Web | None,
        clock: Clock,
    ) -> None:
        """``web``: where devices find blobs over HTTP; None: nowhere."""
        self._db, self._registry, self._artifacts, self._deltas, self._web = db, registry, artifacts, deltas, web
        self._clock = clock

    def locate(self, who: Principal, digest: Digest, have: Sequence[Digest], max_decode_bytes: int) -> list[BlobSource]:
        """Best first; a blob that is in none of them can be downloaded here.

        A delta tells of both its blobs: it is offered to who may read both. Raises NotFound, the same for a blob that there is
        not and one that ``who`` may not read.
        """
        self._check(who, digest)
        bases = [base for base in dict.fromkeys(have[:MAX_BASES]) if base != digest and self._registry.readable_by(who, base)]
        found: list[BlobSource] = []
        for delta in self._deltas.sources(digest, bases, max_decode_bytes):
            found += [*self._on_web(delta, f"{DELTAS}/{self._deltas.blobs.path(delta.blob.digest)}"), delta]
        blob = Blob(digest=digest, size_bytes=self._artifacts.size(digest))
        whole = BlobSource(encoding=Encoding.WHOLE, blob=blob)
        return [*found[: MAX_SOURCES - 1], *self._on_web(whole, self._artifacts.path(digest))]

    def read(self, who: Principal, digest: Digest, offset: int, size: Callable[[], int]) -> tuple[int, Iterator[bytes]]:
        """(bytes of the whole, what comes from ``offset`` on, each at most what ``size`` says). Raises NotFound, Invalid."""
        store = self._artifacts
        if not self._registry.readable_by(who, digest):
            if not self._reads_delta(who, digest):
                raise _none(who, digest)
            store = self._deltas.blobs
        return store.size(digest), store.chunks(digest, offset, size)

    def tick(self, now: datetime) -> None:
        """Copy what devices asked for to where the web has it."""
        if self._web is None or not self._web.takes_copies:
            return
        with self._db.read() as tx:
            wanted = copies.wanted(tx, _COPIES)
        for path in wanted:
            with self._db.write() as tx:
                copies.tried(tx, path)
            try:
                self._web.put(path)
            except Exception:  # the edge to somebody else's library, which raises what it likes; the next ones may go
                log.exception("a blob could not be copied", extra={"path": path})
                continue
            with self._db.write() as tx:
                copies.copied(tx, path, now)
            log.info("blob copied", extra={"path": path})

    def _check(self, who: Principal, digest: Digest) -> None:
        if not self._registry.readable_by(who, digest):
            raise _none(who, digest)

    def _reads_delta(self, who: Principal, digest: Digest) -> bool:
        return any(
            self._registry.readable_by(who, base) and self._registry.readable_by(who, target)
            for base, target in self._deltas.pairs(digest)
        )

    def _on_web(self, source: BlobSource, path: str) -> list[BlobSource]:
        """The same source by URL; empty while the web does not have it."""
        if self._web is None:
            return []
        if self._web.takes_copies:
            with self._db.read() as tx:
                there = copies.has(tx, path)
            if not there:
                with self._db.write() as tx:
                    copies.want(tx, path, self._clock.now())
                return []
        return [replace(source, url=self._web.url(path))]


def _none(who: Principal, digest: Digest) -> NotFound:
    return NotFound(f"no artifact {digest} that {who.name} may read")  # the same for both, so that nothing can be probed
