"""Use cases about deltas between blobs: made beside the request path, when devices ask or a version is published."""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from cloud_hub.core.config import ArtifactsConfig
from cloud_hub.core.errors import BadArtifact, NotFound
from cloud_hub.delta import encode
from cloud_hub.store import deltas as store
from cloud_hub.store.artifacts import ArtifactStore
from cloud_hub.store.database import Database, Tx
from cloud_hub.store.deltas import DeltaRow, DeltaState
from edge_agent.core.clock import Clock
from protos.contract.ids import Digest
from protos.contract.manifest import Blob
from protos.contract.sources import BlobSource

log = logging.getLogger(__name__)

MAX_WAITING = 1000  # pairs to encode; more are not noted
MAX_ATTEMPTS = 2  # of one pair: a hub that dies of it must not do so for ever
BASES = 2  # versions before a new one that it is encoded from at once, besides those with an alias
_LOOK_BACK = timedelta(minutes=1)  # a version is seen a while after the time that it says
_FIRST_LOOK = timedelta(days=1)
_USED = timedelta(hours=1)
_EVICTED = 32  # at a time


class DeltaService:
    """Thread-safe. Its blobs are derived: what is lost or evicted is made again when it is asked for."""

    def __init__(
        self, db: Database, artifacts: ArtifactStore, blobs: ArtifactStore, config: ArtifactsConfig, clock: Clock
    ) -> None:
        """``blobs``: where deltas are kept; no other blobs may be there."""
        self._db, self._artifacts, self.blobs, self._config, self._clock = db, artifacts, blobs, config, clock
        self._looked: datetime | None = None

    def sources(self, target: Digest, bases: Sequence[Digest], max_decode_bytes: int) -> list[BlobSource]:
        """Deltas to ``target`` that a device can decode, smallest first; those that there are not yet are made later."""
        if not bases or max_decode_bytes <= 0:
            return []
        with self._db.read() as tx:
            rows = store.between(tx, bases, target)
        now = self._clock.now()
        unknown = set(bases) - {row.base for row in rows}
        stale = [row for row in rows if row.state is DeltaState.MADE and now - row.used_at > _USED]
        if unknown or stale:
            with self._db.write() as tx:
                self._want(tx, [(base, target) for base in sorted(unknown)], now)
                for row in stale:
                    store.used(tx, row, now)
        fit = [row for row in rows if row.state is DeltaState.MADE and row.decode_bytes <= max_decode_bytes]
        return [_source(row) for row in sorted(fit, key=lambda row: row.size_bytes)]

    def pairs(self, digest: Digest) -> list[tuple[Digest, Digest]]:
        """(base, target) of the deltas whose bytes ``digest`` names."""
        with self._db.read() as tx:
            return [(row.base, row.target) for row in store.by_digest(tx, digest)]

    def tick(self, now: datetime) -> None:
        """Note what new versions want, then encode the pair that has waited longest; minutes for the largest."""
        self._look(now)
        with self._db.write() as tx:
            row = store.next_wanted(tx)
            if row is None:
                return
            if row.attempts >= MAX_ATTEMPTS:
                store.useless(tx, row, f"the hub ended {row.attempts} times while it was made")
                return
            store.count_attempt(tx, row)
        self._make(row)
        self._evict()

    def _make(self, row: DeltaRow) -> None:
        try:
            self._check_size(row.base, row.target)
            delta = encode.smallest(self._artifacts.read(row.base), self._artifacts.read(row.target))
        except (encode.NoDelta, NotFound, BadArtifact, MemoryError) as error:
            self._give_up(row, str(error) or "out of memory")
            return
        except encode.BrokenEncoder as error:
            log.error("a delta does not decode", extra={"base": row.base, "target": row.target, "error": str(error)})
            self._give_up(row, str(error))
            return
        if len(delta.data) > self._config.max_deltas_bytes:
            self._give_up(row, f"it has {len(delta.data)} bytes, more than artifacts.max_deltas_bytes")
            return
        digest = self.blobs.put(delta.data)
        with self._db.write() as tx:
            size, needed, now = len(delta.data), delta.decode_bytes, self._clock.now()
            store.made(tx, row, delta.encoding, digest, size_bytes=size, decode_bytes=needed, at=now)
        fields = {"encoding": delta.encoding.name, "bytes": len(delta.data), "base": row.base, "target": row.target}
        log.info("delta made", extra=fields)

    def _give_up(self, row: DeltaRow, why: str) -> None:
        with self._db.write() as tx:
            store.useless(tx, row, why)
        log.info("no delta", extra={"base": row.base, "target": row.target, "reason": why})

    def _check_size(self, *digests: Digest) -> None:
        """Raises NoDelta, NotFound."""
        for digest in digests:
            size = self._artifacts.size(digest)
            if size > self._config.max_delta_bytes:
                raise encode.NoDelta(f"{digest} has {size} bytes, more than artifacts.max_delta_bytes")

    def _look(self, now: datetime) -> None:
        """What came out since the last look will be asked for by devices that run what was there before."""
        since = (self._looked or now - _FIRST_LOOK) - _LOOK_BACK
        with self._db.read() as tx:
            pairs = store.published_pairs(tx, since, BASES)
            fresh = [(base, target) for base, target in pairs if not store.between(tx, [base], target)]
        self._looked = now
        if fresh:
            with self._db.write() as tx:
                self._want(tx, fresh, now)

    def _want(self, tx: Tx, pairs: Sequence[tuple[Digest, Digest]], now: datetime) -> None:
        room = MAX_WAITING - store.waiting(tx)
        for base, target in pairs[: max(0, room)]:
            store.want(tx, base, target, now)

    def _evict(self) -> None:
        """Those that no device was told of for longest make room."""
        with self._db.write() as tx:
            over = store.made_bytes(tx) - self._config.max_deltas_bytes
            gone = []
            for row in store.least_used(tx, _EVICTED) if over > 0 else ():
                if over > 0:
                    store.forget(tx, row)
                    gone.append(row)
                    over -= row.size_bytes
            kept = {row.digest for row in gone if store.by_digest(tx, Digest(row.digest))}
        for row in gone:
            if row.digest not in kept:
                self.blobs.remove(Digest(row.digest))


def _source(row: DeltaRow) -> BlobSource:
    blob = Blob(digest=Digest(row.digest), size_bytes=row.size_bytes)
    return BlobSource(encoding=row.encoding, blob=blob, base=row.base, decode_bytes=row.decode_bytes)
