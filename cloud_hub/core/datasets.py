"""Labels and where they came from; versions of data sets and how one differs from another."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from cloud_hub.core.tasks import Annotation
from protos.contract.ids import Digest
from protos.contract.inputs import SampleKind

EXAMPLES = 1000  # changes that are told one by one


class LabelOrigin(StrEnum):
    """Who says so."""

    HUMAN = "human"
    IMPORT = "import"
    TRUTH = "truth"  # learned later, from what really happened
    TEACHER = "teacher"  # a model's opinion: it trains, and never judges


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelEvent:
    """One label that a sample got; none is ever changed."""

    label: str
    origin: LabelOrigin
    labelled_by: str  # a user; of a teacher MODEL:VERSION
    confidence: float  # 0..1; of a teacher, else 1
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What a data set is, beside its samples."""

    name: str
    kind: SampleKind
    annotation: Annotation
    labels: tuple[str, ...]  # in index order
    known: frozenset[str] = field(init=False, repr=False, compare=False)  # the same, to look up: there may be thousands

    def __post_init__(self) -> None:
        object.__setattr__(self, "known", frozenset(self.labels))


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionSample:
    """One labelled sample as a version keeps it."""

    id: str
    digest: Digest
    label: str
    source: str
    split: str
    name: str = ""
    group: str = ""  # device; empty: imported
    at_ms: int = 0  # captured; 0: not known
    added_ms: int = 0
    origin: str = ""  # of the label
    confidence: float = 1.0  # of a teacher's label


def source_of(sample: VersionSample, take_s: int) -> str:
    """What must not part across splits: a camera's frames of one span of time, or whatever an import called their source."""
    if not sample.group or not sample.at_ms or take_s == 0:
        return sample.source
    return f"{sample.source} {sample.at_ms // 1000 // take_s}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetVersion:
    """What a data set held at one time, for ever."""

    dataset: str
    number: int  # of the data set, from 1
    digest: Digest  # of every sample with its label, split and source
    manifest: Digest  # blob that lists them
    parent: int  # 0: the first
    samples: int
    added: int  # against the parent
    removed: int
    relabelled: int
    moved: int  # to another split or source
    created_by: str
    reason: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    what: str  # "added", "removed", "relabelled", "moved"
    sample: VersionSample
    before: str = ""  # label, or split and source
    after: str = ""


@dataclass(slots=True, kw_only=True)
class Changes:
    """From one version to another; a sample that is relabelled and moved counts as both."""

    added: int = 0
    removed: int = 0
    relabelled: int = 0
    moved: int = 0
    examples: list[Change] = field(default_factory=list)  # the first EXAMPLES

    def take(self, change: Change) -> None:
        setattr(self, change.what, getattr(self, change.what) + 1)
        if len(self.examples) < EXAMPLES:
            self.examples.append(change)


def content_digest(holding: Holding, samples: Iterable[VersionSample]) -> Digest:
    """The same for the same content, whoever froze it and whenever. ``samples`` come by digest."""
    hasher = hashlib.sha256(f"{holding.kind.name} {holding.annotation.name} {holding.labels!r}\n".encode())
    for sample in samples:
        hasher.update(f"{sample.digest} {sample.label!r} {sample.split} {sample.source!r}\n".encode())
    return Digest(f"sha256:{hasher.hexdigest()}")


def changes(before: Iterable[VersionSample], after: Iterable[VersionSample]) -> Changes:
    """Both come by digest; one pass, nothing kept."""
    found = Changes()
    for old, new in _side_by_side(before, after):
        if old is None and new is not None:
            found.take(Change(what="added", sample=new, after=new.label))
        elif new is None and old is not None:
            found.take(Change(what="removed", sample=old, before=old.label))
        elif old is not None and new is not None:
            if old.label != new.label:
                found.take(Change(what="relabelled", sample=new, before=old.label, after=new.label))
            if (old.split, old.source) != (new.split, new.source):
                found.take(Change(what="moved", sample=new, before=_place(old), after=_place(new)))
    return found


def _side_by_side(
    before: Iterable[VersionSample], after: Iterable[VersionSample]
) -> Iterator[tuple[VersionSample | None, VersionSample | None]]:
    left, right = iter(before), iter(after)
    old, new = next(left, None), next(right, None)
    while old is not None or new is not None:
        if new is None or (old is not None and old.digest < new.digest):
            yield old, None
            old = next(left, None)
        elif old is None or new.digest < old.digest:
            yield None, new
            new = next(right, None)
        else:
            yield old, new
            old, new = next(left, None), next(right, None)


def _place(sample: VersionSample) -> str:
    return f"{sample.split or '-'} {sample.source}"


def as_json(sample: VersionSample) -> Mapping[str, object]:
    """Without what is empty."""
    return {name: value for name in VersionSample.__slots__ if (value := getattr(sample, name)) not in ("", 0)}
