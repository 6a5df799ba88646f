"""Use cases about data sets: samples come in by import or from devices, users label them, jobs train on them."""

import builtins
import itertools
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import NamedTuple

from cloud_hub.core import pages
from cloud_hub.core.datasets import Holding, LabelEvent, LabelOrigin
from cloud_hub.core.errors import Conflict, Invalid
from cloud_hub.core.model import Dataset, Principal, Sample
from cloud_hub.core.pages import Page
from cloud_hub.core.tasks import Annotation
from cloud_hub.services.annotations import check_holding, checked_label
from cloud_hub.services.captures import CaptureService
from cloud_hub.services.dataset_versions import VersionService
from cloud_hub.services.labelling import LabelService, NewLabel, found, known
from cloud_hub.services.samples import check_split, check_text, checked_content
from cloud_hub.store import datasets as store
from cloud_hub.store.artifacts import ArtifactStore
from cloud_hub.store.database import Database, Tx
from edge_agent.core.clock import Clock
from protos.contract import ids
from protos.contract.errors import ContractError
from protos.contract.ids import DeviceId, Digest
from protos.contract.inputs import SampleKind

log = logging.getLogger(__name__)

MAX_PAGE_LABELS = 1 << 20  # characters: a label of traffic is tens of kilobytes, and a message has a limit
GROUP_SAMPLES = 64  # of an import in one transaction
MAX_COLUMNS = 512  # channels or columns that are noted


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSample:
    """A sample from outside."""

    dataset: str
    content: bytes  # as the kind of the data set says
    label: str | None = None
    source: str = ""  # samples that share it never part across splits
    split: str = ""  # "", "train", "val", "test": pinned there
    name: str = ""  # original file name
    captured_at: datetime | None = None


class Refused(NamedTuple):
    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """Every sample of an import is counted exactly once."""

    added: int
    duplicates: int
    refused: tuple[Refused, ...]


class DatasetService:
    def __init__(self, db: Database, artifacts: ArtifactStore, clock: Clock) -> None:
        self._db = db
        self._artifacts = artifacts
        self._clock = clock
        self.captures = CaptureService(db, artifacts, clock)
        self.labelling = LabelService(db, clock)
        self.versions = VersionService(db, artifacts, clock)

    def create(
        self,
        who: Principal,
        name: str,
        labels: Sequence[str] = (),
        kind: SampleKind = SampleKind.IMAGE,
        annotation: Annotation = Annotation.CLASS,
    ) -> Dataset:
        """Raises Invalid for names that are none, Conflict where the name is taken."""
        try:
            ids.model_name(name)
        except ContractError as error:
            raise Invalid(f"data set name must be 1 to 63 of a-z, 0-9 and inner '-', got {name[:64]!r}") from error
        holding = Holding(name=name, kind=kind, annotation=annotation, labels=tuple(labels))
        check_holding(holding)
        with self._db.write() as tx:
            if store.labels_of(tx, who.tenant, name) is not None:
                raise Conflict(f"data set {name} exists already")
            store.add(tx, who.tenant, holding, self._clock.now())
            made = store.find(tx, who.tenant, name)
        assert made is not None  # added in this transaction
        return made

    def list(self, who: Principal) -> list[Dataset]:
        """By name."""
        with self._db.read() as tx:
            return store.every(tx, who.tenant)

    def import_samples(self, who: Principal, items: Iterable[NewSample]) -> ImportReport:
        """Take what is good and say of each of the others why not. What was taken stays when a later one raises.

        A content that is there already is a duplicate; it gains the label or split it lacked, and is refused if they differ.

        Raises:
            NotFound: no such data set.
        """
        added = duplicates = 0
        refused: list[Refused] = []
        for group in _groups(items):
            with self._db.read() as tx:
                holdings = {name: known(tx, who.tenant, name) for name in {item.dataset for item in group}}
            seen: dict[str, set[str]] = {}
            good = [(item, holdings[item.dataset]) for item in group]
            good = [(kept, at) for item, at in good if (kept := _accepted(item, at, refused, seen)) is not None]
            digests = [self._artifacts.put(item.content) for item, _ in good]
            with self._db.write() as tx:
                for name, columns in seen.items():
                    if left_out := store.note_columns(tx, who.tenant, name, sorted(columns), MAX_COLUMNS):
                        log.warning("columns not noted", extra={"dataset": name, "left_out": left_out, "by": who.name})
                for (item, holding), digest in zip(good, digests, strict=True):
                    try:
                        fresh = self._put(tx, who, item, holding, digest)
                    except (Invalid, Conflict) as error:
                        refused.append(Refused(item.name, str(error)))
                    else:
                        added, duplicates = added + fresh, duplicates + (not fresh)
        if refused:
            log.warning("samples refused", extra={"refused": len(refused), "first": refused[0].reason, "by": who.name})
        return ImportReport(added=added, duplicates=duplicates, refused=tuple(refused))

    def list_samples(
        self,
        who: Principal,
        dataset: str,
        labelled: bool | None,
        device: DeviceId | None,
        page: Page,
        *,
        origin: LabelOrigin | None = None,
        label: str = "",
    ) -> tuple[builtins.list[Sample], str]:
        """In the order they came, and the token of the next page: empty at the end. Raises Invalid, NotFound."""
        after = pages.number(pages.checked(page)) or 0
        with self._db.read() as tx:
            known(tx, who.tenant, dataset)
            find = partial(store.page, tx, who.tenant, dataset, labelled=labelled, device=device, origin=origin, label=label)
            rows = find(after=after, limit=page.size + 1)
        return pages.cut(rows, pages.within(rows, page, lambda sample: len(sample.label or ""), MAX_PAGE_LABELS))

    def get_sample(self, who: Principal, id: str) -> tuple[Sample, bytes]:
        """With its content. Raises NotFound."""
        with self._db.read() as tx:
            sample = found(tx, who.tenant, id)
        return sample, self._artifacts.read(sample.digest)

    def label(self, who: Principal, labels: Sequence[tuple[str, str]]) -> int:
        """By a person: ``LabelService.label`` of ``(sample id, label)`` pairs; how many samples have the label now."""
        return self.labelling.label(who, [NewLabel(sample=id, label=label) for id, label in labels]).labelled

    def _put(self, tx: Tx, who: Principal, item: NewSample, holding: Holding, digest: Digest) -> bool:
        """False: it was there. Raises Invalid, Conflict."""
        now = self._clock.now()
        label = checked_label(item.label, holding) if item.label is not None else None
        id = store.sample_id(who.tenant, item.dataset, digest)
        there = store.find_sample(tx, who.tenant, id)
        if there is None:
            sample = replace(_imported(item, id, digest, now), labelled_by=who.name if label is not None else "")
            if holding.annotation is Annotation.NONE:  # nothing is to be said of it: it can be trained on at once
                sample = replace(sample, label="", labelled_at=now)
            elif label is not None:
                sample = replace(sample, label=label, labelled_at=now, origin=LabelOrigin.IMPORT)
            store.add_sample(tx, who.tenant, sample)
            return True
        same = f"the same {holding.kind.name.lower()} is there as {there.name or there.id!r}"
        taught = there.origin is LabelOrigin.TEACHER  # a guess, which gives way
        if label is not None and there.label not in (None, label) and not taught:
            raise Conflict(f"{same} with label {there.label[:64]!r}")
        if item.split and there.split not in ("", item.split):
            raise Conflict(f"{same} in split {there.split!r}")
        if label is not None and (there.label is None or taught):
            event = LabelEvent(label=label, origin=LabelOrigin.IMPORT, labelled_by=who.name, confidence=1.0, at=now)
            store.put_labels(tx, who.tenant, [(id, event)])
        if item.split and not there.split:
            store.put_split(tx, id, item.split)
        return False


def _accepted(item: NewSample, holding: Holding, refused: list[Refused], seen: dict[str, set[str]]) -> NewSample | None:
    """With its content as it is kept; None: refused. ``seen``: channels or columns by data set."""
    try:
        check_text("name", item.name)
        check_text("source", item.source)
        check_split(item.split)
        content, columns = checked_content(item.content, holding.kind)
    except Invalid as error:
        refused.append(Refused(item.name, str(error)))
        return None
    seen.setdefault(item.dataset, set()).update(columns)
    return replace(item, content=content)


def _groups(items: Iterable[NewSample]) -> Iterable[builtins.list[NewSample]]:
    iterator = iter(items)
    while group := builtins.list(itertools.islice(iterator, GROUP_SAMPLES)):
        yield group


def _imported(item: NewSample, id: str, digest: Digest, now: datetime) -> Sample:
    return Sample(
        id=id,
        dataset=item.dataset,
        digest=digest,
        label=None,
        source=item.source,
        split=item.split,
        name=item.name,
        device=None,
        reason="",
        predicted="",
        confidence=0.0,
        captured_at=item.captured_at,
        created_at=now,
        labelled_at=None,
    )
