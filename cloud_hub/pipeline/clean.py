"""Samples as they are stored -> those that can be used, with every one that was left out counted and named."""

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np

from edge_agent.infer.inputs import Content
from protos.contract.ids import Digest
from protos.contract.samples import Window

TEACHER = "teacher"  # the origin of a label that a model gave
_EXAMPLES = 10  # names kept per reason


@dataclass(frozen=True, slots=True, kw_only=True)
class RawSample:
    """One sample as the store has it."""

    id: str
    digest: Digest
    content: bytes
    label: str  # as its data set's annotation says
    source: str = ""  # samples that share it never part across splits
    split: str = ""  # "", "train", "val", "test": pinned there
    name: str = ""
    group: str = ""  # device it came from; the metric is reported per group
    at_ms: int = 0  # when it was captured; 0: not known
    origin: str = ""  # of the label: "human", "import", "truth", "teacher"; "": not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where one usable sample came from: what a report may part the score by, and how it names a sample."""

    id: str  # of the sample
    source: str  # samples that share it resemble each other
    at_ms: int = 0  # when it was captured; 0: not known


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Item:
    """One usable sample."""

    content: Content  # as a device sees it; pictures: (H, W, 3) of the network's size
    label: str
    source: str
    split: str
    digest: Digest
    group: str
    at_ms: int = 0
    label_origin: str = ""  # as ``RawSample.origin``
    target: Any = None  # the label as the task has read it, where it is not a class
    id: str = ""  # of the sample

    @property
    def origin(self) -> Origin:
        return Origin(id=self.id or self.digest, source=self.source, at_ms=self.at_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """One label that looks wrong."""

    id: str  # of the sample; empty where the task keeps none
    split: str
    row: int = -1  # of the split; -1: not known
    label: str
    likely: str
    margin: float  # 0..1: how much likelier than the label

    def as_json(self) -> dict[str, object]:
        return {
            "id": self.id,
            "split": self.split,
            "label": self.label,
            "likely": self.likely,
            "margin": round(self.margin, 4),
        }


@dataclass(slots=True, kw_only=True)
class CleaningReport:
    """What was given, what was kept, and why the rest was not. ``notes`` are decisions worth a user's attention."""

    given: int = 0
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)  # reason -> samples
    examples: dict[str, list[str]] = field(default_factory=dict)  # reason -> some of their names
    notes: list[str] = field(default_factory=list)
    slips: list[Suspect] = field(default_factory=list)  # labels that the rest of their source contradicts

    def drop(self, reason: str, name: str) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        names = self.examples.setdefault(reason, [])
        if len(names) < _EXAMPLES:
            names.append(name)

    def lines(self) -> list[str]:
        """In words, one fact a line."""
        said = [f"{self.given} samples given, {self.kept} kept"]
        for reason, count in sorted(self.dropped.items()):
            names = self.examples[reason]
            more = ", ..." if count > len(names) else ""
            said.append(f"{count} left out: {reason} ({', '.join(names)}{more})")
        return said + self.notes

    def as_json(self) -> Mapping[str, object]:
        return {
            "given": self.given,
            "kept": self.kept,
            "dropped": dict(self.dropped),
            "examples": dict(self.examples),
            "notes": list(self.notes),
        }


Decode = Callable[[RawSample, CleaningReport], tuple[bytes, Content] | None]


def clean(
    samples: Iterable[RawSample],
    decode: Decode,
    labels: tuple[str, ...] | None,
    *,
    limit: int,
    limit_bytes: int = sys.maxsize,
) -> tuple[list[Item], CleaningReport]:
    """Keep what is usable. ``samples`` come oldest first and one by one; above a limit the oldest go.

    The same content under one label is kept once; under several labels none is kept, for nobody can say which is right. What a
    teacher said of it gives way.

    Args:
        decode: gives what makes a content the same as another, and the content; None where it has reported why there is none.
        labels: that may be; None: the task reads them itself.
        limit_bytes: of contents that are held.
    """
    report = CleaningReport()
    kept: dict[bytes, Item | None] = {}  # by content; None: conflicting
    names: dict[bytes, str] = {}
    items = held = 0
    for sample in samples:
        report.given += 1
        name = sample.name or sample.id
        if labels is not None and sample.label not in labels:
            report.drop(f"label {sample.label!r} is not in the data set" if sample.label else "no label", name)
            continue
        decoded = decode(sample, report)
        if decoded is None:
            continue
        key, content = decoded
        if key in kept:
            freed = _repeat(kept, key, sample, names[key], report)
            items, held = items - (freed > 0), held - freed
            continue
        kept[key] = _item(sample, content)
        names[key] = name
        items, held = items + 1, held + size_of(content)
        while items > limit or (held > limit_bytes and items > 1):
            oldest, item = next((content, item) for content, item in kept.items() if item is not None)
            bound = f"data.max_samples ({limit})" if items > limit else f"data.max_bytes ({limit_bytes})"
            del kept[oldest]
            report.drop(f"more than {bound}: the oldest", names.pop(oldest))
            items, held = items - 1, held - size_of(item.content)
    usable = [item for item in kept.values() if item is not None]
    report.kept = len(usable)
    return usable, report


def size_of(content: Content) -> int:
    """Bytes in memory, about."""
    if isinstance(content, np.ndarray):
        return content.nbytes
    if isinstance(content, Window):
        return content.values.nbytes
    if isinstance(content, str):
        return sys.getsizeof(content)
    cells = chain(content, content.values(), *(cell for cell in content.values() if isinstance(cell, tuple | list)))
    return sys.getsizeof(content) + sum(map(sys.getsizeof, cells))


def _item(sample: RawSample, content: Content) -> Item:
    return Item(
        content=content,
        label=sample.label,
        source=sample.source or sample.digest,
        split=sample.split,
        digest=sample.digest,
        group=sample.group,
        at_ms=sample.at_ms,
        label_origin=sample.origin,
        id=sample.id,
    )


def _repeat(kept: dict[bytes, Item | None], key: bytes, sample: RawSample, first: str, report: CleaningReport) -> int:
    """Account for content seen before; returns the bytes of a sample that stopped being usable."""
    item = kept[key]
    name = sample.name or sample.id
    if item is not None and item.label == sample.label:
        report.drop("the same again", name)
        if sample.split and not item.split:  # a pin given with the copy holds for the sample
            item = kept[key] = replace(item, split=sample.split)
        if item.label_origin == TEACHER:  # what two agree on is not the teacher's opinion alone
            kept[key] = replace(item, label_origin=sample.origin)
        return 0
    if item is not None and (sample.origin == TEACHER) != (item.label_origin == TEACHER):
        report.drop("the same under another label than a teacher's", first if item.label_origin == TEACHER else name)
        if item.label_origin == TEACHER:
            kept[key] = replace(_item(sample, item.content), split=item.split or sample.split)
        return 0
    report.drop("the same under different labels", name)
    if item is None:
        return 0
    report.drop("the same under different labels", first)
    kept[key] = None
    return max(1, size_of(item.content))
