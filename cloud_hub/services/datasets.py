"""Use cases about data sets: images come in by import or from devices, users label them, jobs train on them."""

import builtins
import itertools
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

from cloud_hub.core import pages, spec
from cloud_hub.core.errors import Conflict, Invalid, NotFound, NotReady
from cloud_hub.core.model import Dataset, Principal, Sample
from cloud_hub.core.pages import Page
from cloud_hub.services.samples import MAX_TEXT, check_image, check_label, check_split, check_text
from cloud_hub.store import datasets as store
from cloud_hub.store import registry
from cloud_hub.store import training as training_store
from cloud_hub.store.artifacts import ArtifactStore
from cloud_hub.store.database import Database, Tx
from edge_agent.core.clock import Clock
from protos.contract import ids
from protos.contract.errors import ContractError
from protos.contract.ids import DeviceId, Digest, TenantId
from protos.contract.manifest import MAX_LABELS

log = logging.getLogger(__name__)

GROUP_SAMPLES = 64  # of an import in one transaction
MAX_LABELLED = 10_000  # in one transaction: about two seconds in which nobody else writes


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSample:
    """An image from outside."""

    dataset: str
    image: bytes  # PNG, JPEG, PPM or BMP file
    label: str | None = None
    source: str = ""  # samples that share it never part across splits
    split: str = ""  # "", "train", "val", "test": pinned there
    name: str = ""  # original file name


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedSample:
    """A frame that a device kept."""

    digest: Digest  # of image
    image: bytes  # PNG
    captured_at: datetime | None
    source: str
    name: str
    reason: str
    model_manifest: Digest  # of the model that ran
    predicted: str
    confidence: float


class Refused(NamedTuple):
    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """Every image of an import is counted exactly once."""

    added: int
    duplicates: int
    refused: tuple[Refused, ...]


class DatasetService:
    def __init__(self, db: Database, artifacts: ArtifactStore, clock: Clock) -> None:
        self._db = db
        self._artifacts = artifacts
        self._clock = clock

    def create(self, who: Principal, name: str, labels: Sequence[str]) -> Dataset:
        """Raises Invalid for names that are none, Conflict where the name is taken."""
        try:
            ids.model_name(name)
        except ContractError as error:
            raise Invalid(f"data set name must be 1 to 63 of a-z, 0-9 and inner '-', got {name[:64]!r}") from error
        labels = tuple(labels)
        if not 2 <= len(labels) <= MAX_LABELS or len(set(labels)) != len(labels):
            raise Invalid(f"data set {name} needs 2..{MAX_LABELS} different labels, got {len(labels)}")
        for label in labels:
            check_text("label", label, least=1)
        with self._db.write() as tx:
            if store.labels_of(tx, who.tenant, name) is not None:
                raise Conflict(f"data set {name} exists already")
            store.add(tx, who.tenant, name, labels, self._clock.now())
            made = store.find(tx, who.tenant, name)
        assert made is not None  # added in this transaction
        return made

    def list(self, who: Principal) -> list[Dataset]:
        """By name."""
        with self._db.read() as tx:
            return store.every(tx, who.tenant)

    def import_samples(self, who: Principal, items: Iterable[NewSample]) -> ImportReport:
        """Take what is good and say of each of the others why not. What was taken stays when a later one raises.

        An image that is there already is a duplicate; it gains the label or split it lacked, and is refused if they differ.

        Raises:
            NotFound: no such data set.
        """
        added = duplicates = 0
        refused: list[Refused] = []
        for group in _groups(items):
            good = [item for item in group if self._accepts(item, refused)]
            digests = [self._artifacts.put(item.image) for item in good]
            with self._db.write() as tx:
                for item, digest in zip(good, digests, strict=True):
                    try:
                        fresh = self._put(tx, who.tenant, item, digest)
                    except (Invalid, Conflict) as error:
                        refused.append(Refused(item.name, str(error)))
                    else:
                        added, duplicates = added + fresh, duplicates + (not fresh)
        if refused:
            log.warning("samples refused", extra={"refused": len(refused), "first": refused[0].reason, "by": who.name})
        return ImportReport(added=added, duplicates=duplicates, refused=tuple(refused))

    def upload(self, who: Principal, captured: CapturedSample) -> tuple[str, bool]:
        """A device's frame, into the data set that its model is trained on: sample id, and whether it was there already.

        On return it is durable, and the device may delete its own copy.

        Raises:
            Invalid: not the image its digest says.
            NotFound: no published model has this manifest.
            NotReady: the model has no training specification, or its data set does not exist yet.
        """
        if ids.digest_of(captured.image) != captured.digest:
            raise Invalid(f"{captured.name}: the image's digest is not {captured.digest}")
        sample = self._captured(who, captured)
        with self._db.read() as tx:
            dataset = _dataset_of(tx, who.tenant, captured.model_manifest)
        self._artifacts.put(captured.image)
        with self._db.write() as tx:
            id = store.sample_id(who.tenant, dataset, captured.digest)
            if store.find_sample(tx, who.tenant, id) is not None:
                return id, True
            known(tx, who.tenant, dataset)
            store.add_sample(tx, who.tenant, replace(sample, id=id, dataset=dataset))
        return id, False

    def list_samples(
        self, who: Principal, dataset: str, labelled: bool | None, device: DeviceId | None, page: Page
    ) -> tuple[builtins.list[Sample], str]:
        """In the order they came, and the token of the next page: empty at the end. Raises Invalid, NotFound."""
        after = pages.number(pages.checked(page)) or 0
        with self._db.read() as tx:
            known(tx, who.tenant, dataset)
            rows = store.page(tx, who.tenant, dataset, labelled=labelled, device=device, after=after, limit=page.size + 1)
        return pages.cut(rows, page)

    def get_sample(self, who: Principal, id: str) -> tuple[Sample, bytes]:
        """With its image file. Raises NotFound."""
        with self._db.read() as tx:
            sample = _sample(tx, who.tenant, id)
        return sample, self._artifacts.read(sample.digest)

    def label(self, who: Principal, labels: Sequence[tuple[str, str]]) -> int:
        """Label ``(sample id, label)`` pairs, all or none; returns how many samples have the label now.

        Raises:
            NotFound: naming the sample that is not there.
            Invalid: naming the labels that the data set knows, or more than MAX_LABELLED pairs.
        """
        if len(labels) > MAX_LABELLED:
            raise Invalid(f"{len(labels)} labels at once, more than {MAX_LABELLED}: send them in parts")
        wanted = dict(labels)
        with self._db.write() as tx:
            allowed: dict[str, tuple[str, ...]] = {}
            changed = []
            for id, label in wanted.items():
                sample = _sample(tx, who.tenant, id)
                if sample.dataset not in allowed:
                    allowed[sample.dataset] = known(tx, who.tenant, sample.dataset)
                check_label(label, sample.dataset, allowed[sample.dataset])
                if sample.label != label:
                    changed.append((id, label))
            store.put_labels(tx, changed, self._clock.now())
        log.info("samples labelled", extra={"labelled": len(changed), "by": who.name})
        return len(wanted)

    def _accepts(self, item: NewSample, refused: builtins.list[Refused]) -> bool:
        try:
            check_text("name", item.name)
            check_text("source", item.source)
            check_split(item.split)
            check_image(item.image)
        except Invalid as error:
            refused.append(Refused(item.name, str(error)))
            return False
        return True

    def _put(self, tx: Tx, tenant: TenantId, item: NewSample, digest: Digest) -> bool:
        """False: it was there. Raises NotFound, Invalid, Conflict."""
        labels = known(tx, tenant, item.dataset)
        if item.label is not None:
            check_label(item.label, item.dataset, labels)
        now = self._clock.now()
        id = store.sample_id(tenant, item.dataset, digest)
        there = store.find_sample(tx, tenant, id)
        if there is None:
            store.add_sample(tx, tenant, _imported(item, id, digest, now))
            return True
        if item.label is not None and there.label not in (None, item.label):
            raise Conflict(f"the same image is there as {there.name or there.id!r} with label {there.label!r}")
        if item.split and there.split not in ("", item.split):
            raise Conflict(f"the same image is there as {there.name or there.id!r} in split {there.split!r}")
        if item.label is not None and there.label is None:
            store.put_labels(tx, [(id, item.label)], now)
        if item.split and not there.split:
            store.put_split(tx, id, item.split)
        return False

    def _captured(self, who: Principal, captured: CapturedSample) -> Sample:
        """Raises Invalid naming the file."""
        try:
            check_image(captured.image)
            for what in ("name", "source", "reason", "predicted"):
                check_text(what, getattr(captured, what))
        except Invalid as error:
            raise Invalid(f"{captured.name[:MAX_TEXT]}: {error}") from error
        if not 0.0 <= captured.confidence <= 1.0:
            raise Invalid(f"{captured.name}: confidence must be in 0..1, got {captured.confidence}")
        return Sample(
            id="",
            dataset="",
            digest=captured.digest,
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
        )


def known(tx: Tx, tenant: TenantId, dataset: str) -> tuple[str, ...]:
    """Its labels in index order. Raises NotFound naming what to do."""
    labels = store.labels_of(tx, tenant, dataset)
    if labels is None:
        raise NotFound(f"no data set {dataset[:64]!r}: create it first")
    return labels


def _dataset_of(tx: Tx, tenant: TenantId, manifest: Digest) -> str:
    """Where the samples of a model go. Raises NotFound, NotReady."""
    version = registry.of_manifest(tx, tenant, manifest)
    if version is None:
        raise NotFound(f"no published model has the manifest {manifest}")
    stored = training_store.find_spec(tx, tenant, version.name)
    if stored is None:
        raise NotReady(f"model {version.name} has no training specification that says where its samples go: put one")
    dataset = spec.parse(stored.yaml).data.dataset
    if store.labels_of(tx, tenant, dataset) is None:
        raise NotReady(f"data set {dataset!r} of model {version.name} does not exist yet: create it")
    return dataset


def _sample(tx: Tx, tenant: TenantId, id: str) -> Sample:
    sample = store.find_sample(tx, tenant, id)
    if sample is None:
        raise NotFound(f"no sample {id[:64]!r}")
    return sample


def _groups(items: Iterable[NewSample]) -> Iterable[builtins.list[NewSample]]:
    iterator = iter(items)
    while group := builtins.list(itertools.islice(iterator, GROUP_SAMPLES)):
        yield group


def _imported(item: NewSample, id: str, digest: Digest, now: datetime) -> Sample:
    return Sample(
        id=id,
        dataset=item.dataset,
        digest=digest,
        label=item.label,
        source=item.source,
        split=item.split,
        name=item.name,
        device=None,
        reason="",
        predicted="",
        confidence=0.0,
        captured_at=None,
        created_at=now,
        labelled_at=None if item.label is None else now,
    )
