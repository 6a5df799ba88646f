"""Use cases about versions of data sets: what one held at a time, listed in a blob, so that a job can be run again on it."""

import io
import json
import logging
from collections.abc import Iterator, Sequence

import zstandard

from cloud_hub.core import pages
from cloud_hub.core.datasets import Changes, DatasetVersion, Holding, VersionSample, as_json, changes, content_digest
from cloud_hub.core.errors import BadArtifact, Conflict, NotFound
from cloud_hub.core.model import Principal, Sample
from cloud_hub.core.pages import Page
from cloud_hub.core.tasks import Annotation
from cloud_hub.services.labelling import known
from cloud_hub.services.samples import check_text
from cloud_hub.store import dataset_versions as store
from cloud_hub.store import datasets as dataset_store
from cloud_hub.store.artifacts import ArtifactStore
from cloud_hub.store.database import Database, Tx
from edge_agent.core.clock import Clock
from protos.contract.ids import Digest, TenantId
from protos.contract.inputs import SampleKind
from protos.contract.telemetry import to_ms

log = logging.getLogger(__name__)

_TRIES = 5  # two that freeze at once: the second one has another parent
_PIECE = 64 * 1024  # bytes unpacked at once
_LEVEL = 6  # of zstd: names and digests halve; more costs time for nothing


class VersionService:
    """A version is never changed, and samples are never deleted: what it lists is there."""

    def __init__(self, db: Database, artifacts: ArtifactStore, clock: Clock) -> None:
        self._db = db
        self._artifacts = artifacts
        self._clock = clock

    def snapshot(self, who: Principal, dataset: str, reason: str = "") -> DatasetVersion:
        """``freeze``, for a user. Raises NotFound, Invalid."""
        check_text("reason", reason)
        return self.freeze(who.tenant, dataset, by=who.name, reason=reason)

    def freeze(self, tenant: TenantId, dataset: str, *, by: str, reason: str = "") -> DatasetVersion:
        """Keep every labelled sample as it is now; what is held by a version already is that version.

        Raises:
            NotFound: no such data set.
            Conflict: it changes all the time.
        """
        for _ in range(_TRIES):
            with self._db.read() as tx:
                holding, samples = _now(tx, tenant, dataset)
                parent = store.newest(tx, tenant, dataset)
                same = store.of_digest(tx, tenant, dataset, digest := content_digest(holding, samples))
            if same is not None:
                return same
            found = changes(self.samples_of(parent) if parent is not None else (), samples)
            version = DatasetVersion(
                dataset=dataset,
                number=1 if parent is None else parent.number + 1,
                digest=digest,
                manifest=self._artifacts.put(encode_manifest(holding, samples)),
                parent=0 if parent is None else parent.number,
                samples=len(samples),
                added=found.added,
                removed=found.removed,
                relabelled=found.relabelled,
                moved=found.moved,
                created_by=by,
                reason=reason,
                created_at=self._clock.now(),
            )
            with self._db.write() as tx:
                if store.newest(tx, tenant, dataset) == parent:
                    store.add(tx, tenant, version)
                    log.info("data set frozen", extra={"dataset": dataset, "version": version.number, "by": by})
                    return version
        raise Conflict(f"data set {dataset} is frozen by others at the same time: try again")

    def get(self, tenant: TenantId, dataset: str, number: int) -> DatasetVersion:
        """Raises NotFound naming those there are."""
        with self._db.read() as tx:
            version = store.find(tx, tenant, dataset, number)
            newest = store.newest(tx, tenant, dataset)
        if version is None:
            there = f"it has 1..{newest.number}" if newest is not None else "it has none yet"
            raise NotFound(f"data set {dataset[:64]} has no version {number}: {there}")
        return version

    def list(self, who: Principal, dataset: str, page: Page) -> tuple[Sequence[DatasetVersion], str]:
        """Newest first, and the token of the next page. Raises Invalid, NotFound."""
        before = pages.number(pages.checked(page))
        with self._db.read() as tx:
            known(tx, who.tenant, dataset)
            rows = store.page(tx, who.tenant, dataset, before=before, limit=page.size + 1)
        return pages.cut(rows, page)

    def changes(self, who: Principal, dataset: str, before: int, after: int = 0) -> Changes:
        """``after`` 0: what the data set holds now. Raises NotFound."""
        old = self.get(who.tenant, dataset, before)
        if after:
            return changes(self.samples_of(old), self.samples_of(self.get(who.tenant, dataset, after)))
        with self._db.read() as tx:
            _, samples = _now(tx, who.tenant, dataset)
        return changes(self.samples_of(old), samples)

    def manifest(self, who: Principal, dataset: str, number: int = 0) -> bytes:
        """What a version lists; 0: what the data set would list now. Raises NotFound."""
        if number:
            return self._artifacts.read(self.get(who.tenant, dataset, number).manifest)
        with self._db.read() as tx:
            holding, samples = _now(tx, who.tenant, dataset)
        return encode_manifest(holding, samples)

    def samples_of(self, version: DatasetVersion) -> Iterator[VersionSample]:
        """By digest, one at a time. Raises BadArtifact."""
        return decode_manifest(self._artifacts.read(version.manifest))[1]

    def unlabelled(self, tenant: TenantId, dataset: str, limit: int) -> Sequence[VersionSample]:
        """Samples that nobody has labelled, as they are now: no version lists them. The newest, oldest first."""
        with self._db.read() as tx:
            return [_kept(sample) for sample in dataset_store.unlabelled(tx, tenant, dataset, limit)]

    def holding_of(self, version: DatasetVersion) -> Holding:
        """What the data set was then. Raises BadArtifact."""
        return decode_manifest(self._artifacts.read(version.manifest))[0]


def encode_manifest(holding: Holding, samples: Sequence[VersionSample]) -> bytes:
    """JSON lines, the data set first, under zstd."""
    head = {
        "name": holding.name,
        "kind": holding.kind.name,
        "annotation": holding.annotation.name,
        "labels": list(holding.labels),
    }
    file = io.BytesIO()
    with zstandard.ZstdCompressor(level=_LEVEL).stream_writer(file, closefd=False) as writer:
        writer.write(_line(head))
        for sample in samples:
            writer.write(_line(as_json(sample)))
    return file.getvalue()


def decode_manifest(data: bytes) -> tuple[Holding, Iterator[VersionSample]]:
    """Raises BadArtifact, also while the samples are read."""
    lines = _lines(data)
    try:
        head = json.loads(next(lines))
        holding = Holding(
            name=head["name"],
            kind=SampleKind[head["kind"]],
            annotation=Annotation[head["annotation"]],
            labels=tuple(head["labels"]),
        )
    except (ValueError, KeyError, TypeError, StopIteration, zstandard.ZstdError) as error:
        raise _unreadable(error) from error
    return holding, _samples(lines)


def _samples(lines: Iterator[bytes]) -> Iterator[VersionSample]:
    try:
        for line in lines:
            yield VersionSample(**{"label": "", "source": "", "split": "", **json.loads(line)})
    except (ValueError, TypeError, zstandard.ZstdError) as error:
        raise _unreadable(error) from error


def _lines(data: bytes) -> Iterator[bytes]:
    """Raises ZstdError, ValueError where the end is missing."""
    unpacking = zstandard.ZstdDecompressor().decompressobj()
    rest = b""
    for start in range(0, len(data), _PIECE):
        *whole, rest = (rest + unpacking.decompress(data[start : start + _PIECE])).split(b"\n")
        yield from whole
    if rest or not unpacking.eof:
        raise ValueError("it ends too early")


def _unreadable(error: Exception) -> BadArtifact:
    return BadArtifact(f"what a version of a data set lists cannot be read: {error}")


def _line(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _now(tx: Tx, tenant: TenantId, dataset: str) -> tuple[Holding, Sequence[VersionSample]]:
    """Raises NotFound."""
    return known(tx, tenant, dataset), [_kept(sample) for sample in dataset_store.labelled(tx, tenant, dataset)]


def _kept(sample: Sample) -> VersionSample:
    return VersionSample(
        id=sample.id,
        digest=Digest(sample.digest),
        label=sample.label or "",
        source=sample.source,
        split=sample.split,
        name=sample.name,
        group=sample.device or "",
        at_ms=to_ms(sample.captured_at) if sample.captured_at is not None else 0,
        added_ms=to_ms(sample.created_at),
        origin=sample.origin.value if sample.origin is not None else "",
        confidence=sample.label_confidence,
    )
