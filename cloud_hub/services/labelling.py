"""Use cases about labels: who says what a sample is, and what turned out to be true later. Every label is kept in its sample's
history."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from cloud_hub.core.datasets import Holding, LabelEvent, LabelOrigin
from cloud_hub.core.errors import Invalid, NotFound
from cloud_hub.core.model import Principal, Sample
from cloud_hub.core.tasks import Annotation
from cloud_hub.services.annotations import checked_label
from cloud_hub.store import datasets as store
from cloud_hub.store import label_events
from cloud_hub.store.database import Database, Tx
from edge_agent.core.clock import Clock
from protos.contract.ids import DeviceId, Digest, TenantId

log = logging.getLogger(__name__)

MAX_LABELLED = 10_000  # in one transaction: about two seconds in which nobody else writes
MAX_HISTORY = 1000
MAX_TOLERANCE = timedelta(days=1)
_LATEST = datetime.max.replace(tzinfo=UTC) - MAX_TOLERANCE
_TEACHER = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?:[1-9][0-9]{0,9}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewLabel:
    sample: str  # id
    label: str
    confidence: float = 1.0  # 0..1; of a teacher


class Labelled(NamedTuple):
    labelled: int  # samples that have the label now
    below: int = 0  # left out: the teacher was not sure enough
    kept: int = 0  # left out: what another said, or what judges, is not for a teacher


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """A label and what it is about: the sample with this id or digest, or of this name, or captured nearest to this time."""

    label: str
    sample: str = ""
    digest: str = ""
    name: str = ""
    device: DeviceId | None = None
    at: datetime | None = None

    def __str__(self) -> str:
        what = self.sample or self.digest or self.name or (self.at.isoformat() if self.at is not None else "nothing")
        return f"{self.device} {what}" if self.device else what


class Unmatched(NamedTuple):
    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    labelled: int
    unchanged: int  # of them, those that had the label
    unmatched: tuple[Unmatched, ...]


class LabelService:
    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    def label(
        self,
        who: Principal,
        labels: Sequence[NewLabel],
        origin: LabelOrigin = LabelOrigin.HUMAN,
        *,
        teacher: str = "",
        floor: float = 0.0,
    ) -> Labelled:
        """All or none. A teacher's never replace what another said, and never go where the split is pinned to judge.

        Args:
            teacher: MODEL:VERSION, of the origin TEACHER.
            floor: confidence below which a teacher's labels are left out.
        Raises:
            NotFound: naming the sample that is not there.
            Invalid: naming the labels that the data set knows, or more than MAX_LABELLED at once.
        """
        _check(labels, origin, teacher, floor)
        wanted = {new.sample: new for new in labels}
        below = [id for id, new in wanted.items() if origin is LabelOrigin.TEACHER and new.confidence < floor]
        changed: list[tuple[str, LabelEvent]] = []
        kept = 0
        with self._db.write() as tx:
            holdings: dict[str, Holding] = {}
            for id, new in wanted.items():
                sample = found(tx, who.tenant, id)
                label = checked_label(new.label, _holding(tx, who.tenant, sample.dataset, holdings))
                if id in below:
                    continue
                if origin is LabelOrigin.TEACHER and not _teachable(sample):
                    kept += 1
                    continue
                event = self._event(who, label, origin, teacher, new.confidence)
                if _says_more(sample, event):
                    changed.append((id, event))
            store.put_labels(tx, who.tenant, changed)
        log.info("samples labelled", extra={"labelled": len(changed), "by": who.name, "origin": origin.value})
        return Labelled(len(wanted) - len(below) - kept, len(below), kept)

    def join(
        self,
        who: Principal,
        dataset: str,
        truths: Sequence[Truth],
        tolerance: timedelta = timedelta(0),
        origin: LabelOrigin = LabelOrigin.TRUTH,
    ) -> Joined:
        """Give each label to the sample it is about. What matches is taken, and of the rest it is said why not; of two truths
        about one sample the nearer one holds.

        Raises:
            NotFound: no such data set.
            Invalid: more than MAX_LABELLED at once, or a tolerance that is none.
        """
        if len(truths) > MAX_LABELLED:
            raise Invalid(f"{len(truths)} labels at once, more than {MAX_LABELLED}: send them in parts")
        if not timedelta(0) <= tolerance <= MAX_TOLERANCE:
            raise Invalid(f"the tolerance must be in 0..{MAX_TOLERANCE.days} day, got {tolerance}")
        if origin is LabelOrigin.TEACHER:
            raise Invalid("a teacher labels samples by their ids")
        unmatched: list[Unmatched] = []
        with self._db.write() as tx:
            holding = _holding(tx, who.tenant, dataset, {})
            best: dict[str, tuple[timedelta, Sample, str]] = {}
            for truth in truths:
                try:
                    sample, distance = _about(tx, who.tenant, dataset, truth, tolerance)
                    label = checked_label(truth.label, holding)
                except (NotFound, Invalid) as error:
                    unmatched.append(Unmatched(str(truth), str(error)))
                    continue
                if sample.id not in best or distance <= best[sample.id][0]:
                    best[sample.id] = (distance, sample, label)
            events = [(s, self._event(who, label, origin, "", 1.0)) for _, s, label in best.values()]
            changed = [(sample.id, event) for sample, event in events if _says_more(sample, event)]
            store.put_labels(tx, who.tenant, changed)
        log.info("labels joined", extra={"labelled": len(best), "unmatched": len(unmatched), "by": who.name})
        return Joined(labelled=len(best), unchanged=len(best) - len(changed), unmatched=tuple(unmatched))

    def history(self, who: Principal, sample: str) -> list[LabelEvent]:
        """Oldest first, the newest MAX_HISTORY of them. Raises NotFound."""
        with self._db.read() as tx:
            found(tx, who.tenant, sample)
            return label_events.history(tx, who.tenant, sample, MAX_HISTORY)

    def _event(self, who: Principal, label: str, origin: LabelOrigin, teacher: str, confidence: float) -> LabelEvent:
        return LabelEvent(
            label=label, origin=origin, labelled_by=teacher or who.name, confidence=confidence, at=self._clock.now()
        )


def found(tx: Tx, tenant: TenantId, id: str) -> Sample:
    """Raises NotFound."""
    sample = store.find_sample(tx, tenant, id)
    if sample is None:
        raise NotFound(f"no sample {id[:64]!r}")
    return sample


def known(tx: Tx, tenant: TenantId, dataset: str) -> Holding:
    """Raises NotFound naming what to do."""
    holding = store.holding(tx, tenant, dataset)
    if holding is None:
        raise NotFound(f"no data set {dataset[:64]!r}: create it first")
    return holding


def _holding(tx: Tx, tenant: TenantId, dataset: str, seen: dict[str, Holding]) -> Holding:
    """Raises NotFound, Invalid."""
    if dataset not in seen:
        seen[dataset] = known(tx, tenant, dataset)
        if seen[dataset].annotation is Annotation.NONE:
            raise Invalid(f"data set {dataset} has no labels")
    return seen[dataset]


def _check(labels: Sequence[NewLabel], origin: LabelOrigin, teacher: str, floor: float) -> None:
    if len(labels) > MAX_LABELLED:
        raise Invalid(f"{len(labels)} labels at once, more than {MAX_LABELLED}: send them in parts")
    if origin is LabelOrigin.IMPORT:
        raise Invalid("labels of the origin import come with their samples")
    if (origin is LabelOrigin.TEACHER) != bool(teacher) or (teacher and not _TEACHER.fullmatch(teacher)):
        raise Invalid(f"a teacher's labels, and no others, say which MODEL:VERSION gave them, got {teacher[:64]!r}")
    if not all(0.0 <= value <= 1.0 for value in (floor, *(new.confidence for new in labels))):
        raise Invalid("confidences must be in 0..1")


def _teachable(sample: Sample) -> bool:
    return sample.origin in (None, LabelOrigin.TEACHER) and sample.split not in ("val", "test")


def _says_more(sample: Sample, event: LabelEvent) -> bool:
    """A person who agrees with a teacher makes its guess a label that may judge."""
    return (
        sample.label != event.label or (sample.origin is LabelOrigin.TEACHER and event.origin is not LabelOrigin.TEACHER)
    ) or (sample.origin is event.origin is LabelOrigin.TEACHER and sample.labelled_by != event.labelled_by)


def _about(tx: Tx, tenant: TenantId, dataset: str, truth: Truth, tolerance: timedelta) -> tuple[Sample, timedelta]:
    """And how far from its time. Raises NotFound, Invalid."""
    if truth.sample or truth.digest:
        sample = store.find_sample(tx, tenant, truth.sample or store.sample_id(tenant, dataset, Digest(truth.digest)))
        if sample is None or sample.dataset != dataset:
            raise NotFound("no such sample in the data set")
        return sample, timedelta(0)
    if truth.name:
        samples = store.named(tx, tenant, dataset, truth.name, truth.device, 2)
        if len(samples) > 1:
            raise Invalid("several samples have this name: say the device, the digest or the id")
        if not samples:
            raise NotFound("no sample of this name")
        return samples[0], timedelta(0)
    if truth.device is None or truth.at is None:
        raise Invalid("a label must say its sample's id, digest or name, or a device and a time")
    if truth.at > _LATEST:
        raise Invalid(f"{truth.at.isoformat()} is later than any sample")
    sample = store.nearest(tx, tenant, dataset, truth.device, truth.at, tolerance)
    if sample is None or sample.captured_at is None:
        raise NotFound(f"no sample of {truth.device} within {tolerance.total_seconds():g} s of {truth.at.isoformat()}")
    return sample, abs(sample.captured_at - truth.at)
