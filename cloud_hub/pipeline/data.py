"""What a job knows about its data, whatever the task."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_hub.core.errors import Invalid
from cloud_hub.core.spec import TrainingSpec
from cloud_hub.pipeline.clean import CleaningReport, Item, Origin
from cloud_hub.pipeline.split import SPLITS, TEST, TRAIN, VAL
from edge_agent.infer.inputs import Content
from protos.contract.inputs import ImageInput, Input, Layout


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """Samples in three forms: as a device sees them, as the network takes them, and what it should say of them."""

    contents: Sequence[Content]  # (N,); pictures: (N, H, W, 3) uint8 of the network's size
    inputs: NDArray[Any]  # (N, ...): what the task's ``feeder`` takes; pictures: the same array, else the device's own tensors
    targets: NDArray[Any]  # (N,) int64 classes, (N, k) float32 numbers, or as the task says
    groups: tuple[str, ...]  # (N,) device each came from
    origins: tuple[Origin, ...] = ()  # (N,), or none where a task keeps none: each sample then stands for itself

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, rows: NDArray[np.int64]) -> "Split":
        """The same, of some rows, in that order."""
        contents = self.contents[rows] if isinstance(self.contents, np.ndarray) else [self.contents[i] for i in rows]
        groups = tuple(self.groups[i] for i in rows)
        origins = tuple(self.origins[i] for i in rows) if self.origins else ()
        return Split(contents=contents, inputs=self.inputs[rows], targets=self.targets[rows], groups=groups, origins=origins)


def joined(one: Split, other: Split, inputs: Callable[[Sequence[Content]], NDArray[Any]]) -> Split:
    """The rows of one, then those of the other; ``inputs`` makes ``Split.inputs``, whose rows may depend on each other."""
    pictures = isinstance(one.contents, np.ndarray) and isinstance(other.contents, np.ndarray)
    contents: Any = np.concatenate([one.contents, other.contents]) if pictures else [*one.contents, *other.contents]
    return Split(
        contents=contents,
        inputs=inputs(contents),
        targets=np.concatenate([one.targets, other.targets]),
        groups=(*one.groups, *other.groups),
        origins=(*one.origins, *other.origins),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Splits:
    """Everything a job knows about its data. No sample is in two splits."""

    labels: tuple[str, ...]  # of classes that are trained, in the data set's order; other tasks: as they say
    train: Split
    val: Split
    test: Split
    calibration: NDArray[np.int64]  # rows of train that fix the int8 ranges
    input: Input  # of the network, fitted on train alone; pictures: NCHW
    fingerprint: str  # of every sample, its label and its split
    report: CleaningReport
    facts: Mapping[str, Any] = field(default_factory=dict)  # what else a task has learned; ``handover`` writes it

    def input_for(self, layout: Layout) -> Input:
        """What a device must do to a sample; only pictures have a layout."""
        return replace(self.input, layout=layout) if isinstance(self.input, ImageInput) else self.input


def by_split(items: Iterable[Item], parts: Iterable[str]) -> dict[str, list[Item]]:
    """Without those that ``split.assign`` left out."""
    rows: dict[str, list[Item]] = {split: [] for split in SPLITS}
    for item, part in zip(items, parts, strict=True):
        if part:
            rows[part].append(item)
    return rows


def even(items: Sequence[Item], count: int) -> NDArray[np.int64]:
    """Rows of ``count`` items: one of each label in turn, in an order that does not change as data grows."""
    turns: Counter[str] = Counter()
    order = []
    for row in sorted(range(len(items)), key=lambda i: hashlib.sha256(items[i].digest.encode()).digest()):
        order.append((turns[items[row].label], row))
        turns[items[row].label] += 1
    return np.array([row for _, row in sorted(order)[:count]], dtype=np.int64)


def fingerprint(rows: Mapping[str, Sequence[Item]]) -> str:
    lines = sorted(f"{split} {item.digest} {item.label}" for split in (TRAIN, VAL, TEST) for item in rows[split])
    return "sha256:" + hashlib.sha256("\n".join(lines).encode()).hexdigest()


def unusable(problem: str, spec: TrainingSpec, report: CleaningReport) -> Invalid:
    """To be raised: nothing can be trained, and why, with the cleaning report in words."""
    return Invalid(f"data set '{spec.data.dataset}' cannot be trained on: {problem}. " + "; ".join(report.lines()))
