"""Use case of samples that devices keep and hand over: into the data set that their model is trained on."""

import logging
from dataclasses import dataclass, replace
from datetime import datetime

from cloud_hub.core import spec
from cloud_hub.core.errors import Invalid, NotFound, NotReady
from cloud_hub.core.model import Principal, Sample
from cloud_hub.core.tasks import Annotation
from cloud_hub.services.labelling import known
from cloud_hub.services.samples import MAX_TEXT, check_text, checked_content
from cloud_hub.store import datasets as store
from cloud_hub.store import registry, training
from cloud_hub.store.artifacts import ArtifactStore
from cloud_hub.store.database import Database, Tx
from edge_agent.core.clock import Clock
from protos.contract import ids
from protos.contract.ids import DeviceId, Digest, TenantId
from protos.contract.inputs import SampleKind

log = logging.getLogger(__name__)

# Channels or columns that are noted of a data set, while fewer are known: one device with a name for each reading must not
# take the room of those that imports bring.
MAX_COLUMNS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedSample:
    """What a device looked at and kept."""

    digest: Digest  # of content
    content: bytes  # images: PNG
    captured_at: datetime | None
    source: str
    name: str
    reason: str
    model_manifest: Digest  # of the model that ran
    predicted: str
    confidence: float
    kind: SampleKind = SampleKind.IMAGE


class CaptureService:
    def __init__(self, db: Database, artifacts: ArtifactStore, clock: Clock) -> None:
        self._db = db
        self._artifacts = artifacts
        self._clock = clock

    def upload(self, who: Principal, captured: CapturedSample) -> tuple[str, bool]:
        """Sample id, and whether the data set had it already. It is kept as an import of the same values would be.

        On return it is durable, and the device may delete its own copy.

        Raises:
            Invalid: not the content its digest says, or of another kind than the data set.
            NotFound: no published model has this manifest.
            NotReady: the model has no training specification, or its data set does not exist yet.
        """
        if ids.digest_of(captured.content) != captured.digest:
            raise Invalid(f"{captured.name}: the content's digest is not {captured.digest}")
        content, columns = _checked(captured)
        with self._db.read() as tx:
            dataset = _dataset_of(tx, who.tenant, captured.model_manifest)
            holding = known(tx, who.tenant, dataset)
        if holding.kind is not captured.kind:
            wanted, got = holding.kind.name.lower(), captured.kind.name.lower()
            raise Invalid(f"data set {dataset} holds {wanted}s, this is of the kind {got}")
        digest = self._artifacts.put(content)
        sample = self._sample(who, dataset, digest, captured)
        if holding.annotation is Annotation.NONE:  # nothing is to be said of it: it can be trained on at once
            sample = replace(sample, label="", labelled_at=sample.created_at)
        with self._db.write() as tx:
            if store.find_sample(tx, who.tenant, sample.id) is not None:
                return sample.id, True
            if left_out := store.note_columns(tx, who.tenant, dataset, columns, MAX_COLUMNS):
                log.warning("columns not noted", extra={"dataset": dataset, "left_out": left_out, "device": who.name})
            store.add_sample(tx, who.tenant, sample)
        return sample.id, False

    def _sample(self, who: Principal, dataset: str, digest: Digest, captured: CapturedSample) -> Sample:
        return Sample(
            id=store.sample_id(who.tenant, dataset, digest),
            dataset=dataset,
            digest=digest,
            label=None,
            source=captured.source or who.name,
            split="",
            name=captured.name,
            device=DeviceId(who.name),
            reason=captured.reason,
            predicted=captured.predicted,
            confidence=captured.confidence,
            captured_at=captured.captured_at,
            created_at=self._clock.now(),
            labelled_at=None,
            manifest=captured.model_manifest,
        )


def _checked(captured: CapturedSample) -> tuple[bytes, tuple[str, ...]]:
    """The content as it is kept, and the channels or columns it has. Raises Invalid naming the file."""
    try:
        content, columns = checked_content(captured.content, captured.kind)
        for what in ("name", "source", "reason", "predicted"):
            check_text(what, getattr(captured, what))
    except Invalid as error:
        raise Invalid(f"{captured.name[:MAX_TEXT]}: {error}") from error
    if not 0.0 <= captured.confidence <= 1.0:
        raise Invalid(f"{captured.name}: confidence must be in 0..1, got {captured.confidence}")
    return content, columns


def _dataset_of(tx: Tx, tenant: TenantId, manifest: Digest) -> str:
    """Where the samples of a model go. Raises NotFound, NotReady."""
    version = registry.of_manifest(tx, tenant, manifest)
    if version is None:
        raise NotFound(f"no published model has the manifest {manifest}")
    stored = training.find_spec(tx, tenant, version.name)
    if stored is None:
        raise NotReady(f"model {version.name} has no training specification that says where its samples go: put one")
    dataset = spec.parse(stored.yaml).data.dataset
    if store.labels_of(tx, tenant, dataset) is None:
        raise NotReady(f"data set {dataset!r} of model {version.name} does not exist yet: create it")
    return dataset
