"""Samples that nobody has labelled, labelled by the teacher where it is sure enough: the student learns from them too.

They only ever train: the gate judges by labels that did not come from a model. A class is taken from the confidence on at which
the teacher was right often enough on the validation split (Lee, Pseudo-Label, 2013; with one floor per class, for a teacher is
sure of common classes first).
"""

import hashlib
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import nn

from cloud_hub.core.errors import Invalid
from cloud_hub.core.spec_sections.labels import LabelsSpec
from cloud_hub.pipeline import networks
from cloud_hub.pipeline.classes import Classes, fit_temperature, probabilities
from cloud_hub.pipeline.clean import Item, RawSample, clean
from cloud_hub.pipeline.data import Splits, joined
from cloud_hub.pipeline.split import TRAIN
from cloud_hub.pipeline.task import Task, predict
from edge_agent.infer.inputs import Content, tensor_of

_LEAST = 5  # answers of the validation split above a floor: fewer do not show how often it is right


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """What became of the samples without a label."""

    given: int
    usable: int  # readable, and different
    held_out: int  # of a source, or a time, that validates or tests
    taken: Mapping[str, int]  # by class
    floors: Mapping[str, float]  # by class; of a class that is not here the teacher's word is never taken
    precision: float  # of the teacher on the validation split above these floors; NaN: it says nothing there
    fingerprint: str  # of the training that follows: the labelled samples, and these with the teacher's labels

    def line(self) -> str:
        count = sum(self.taken.values())
        said = f"the teacher labels {count} of {self.given} samples without a label; {self.held_out} are of held-out sources"
        if not math.isfinite(self.precision):
            return said
        return f"{said}; on the validation split it is right in {self.precision:.1%} of the cases in which it is that sure"

    def as_json(self) -> dict[str, object]:
        return {
            "given": self.given,
            "usable": self.usable,
            "held_out": self.held_out,
            "taken": dict(self.taken),
            "floors": {name: round(floor, 4) for name, floor in self.floors.items()},
            "precision": round(self.precision, 4) if math.isfinite(self.precision) else None,
            "fingerprint": self.fingerprint,
        }


def adopt(task: Task, teacher: nn.Module, splits: Splits, unlabelled: Iterable[RawSample]) -> tuple[Splits, Adopted]:
    """``splits`` with a larger training split. Raises Invalid where answers are no classes."""
    if not isinstance(task, Classes):
        raise Invalid(f"training spec: 'labels.pseudo' needs a task whose answers are classes, not {task.spec.task}")
    spec = task.spec.labels
    found, report = clean(
        unlabelled, task.decoder(), None, limit=task.spec.data.max_samples, limit_bytes=task.spec.data.max_bytes
    )
    held = {origin.source for split in (splits.val, splits.test) for origin in split.origins}
    items = [replace(item, label=splits.labels[0]) for item in found if _may_train(item, task, splits, held)]
    feeder = task.feeder(splits).to(networks.device())
    val = predict(teacher, feeder, splits.val.inputs)
    temperature = fit_temperature(val, splits.val.targets)
    sure = probabilities(val, temperature)
    floors = floors_of(sure, splits.val.targets, spec)
    offered = task.more(items, splits) if items else None
    if offered is not None:  # what is the same as a held-out sample, but came from elsewhere
        known = {_print(content, splits) for split in (splits.val, splits.test) for content in split.contents}
        fresh = [row for row, content in enumerate(offered.contents) if _print(content, splits) not in known]
        kept = np.array(fresh, dtype=np.int64)
        offered, items = offered.take(kept), [items[row] for row in kept]
    if offered is None or not len(offered):
        return splits, _told(report.given, found, items, splits, {}, floors, sure)
    chances = probabilities(predict(teacher, feeder, offered.inputs), temperature)
    rows = chosen(chances, floors, np.bincount(splits.train.targets, minlength=len(splits.labels)), spec)
    answers = chances.argmax(axis=1)
    more = replace(offered.take(rows), targets=answers[rows].astype(splits.train.targets.dtype))
    names = sorted(f"{items[row].digest} {answers[row]}" for row in rows)
    fingerprint = hashlib.sha256("\n".join([splits.fingerprint, *names]).encode()).hexdigest()
    grown = replace(
        splits,
        train=joined(splits.train, more, lambda contents: task.inputs(contents, splits.input)),
        fingerprint=f"sha256:{fingerprint}",
    )
    return grown, _told(report.given, found, items, grown, Counter(answers[rows].tolist()), floors, sure)


def floors_of(chances: NDArray[np.float32], targets: NDArray[np.int64], spec: LabelsSpec) -> NDArray[np.float64]:
    """``(K,)``: from which confidence on the teacher's word is taken for each class; infinity: never."""
    said, confidence = chances.argmax(axis=1), chances.max(axis=1).astype(np.float64)
    floors = np.full(chances.shape[1], np.inf)
    for kind in range(chances.shape[1]):
        rows = np.flatnonzero((said == kind) & (confidence >= spec.floor))
        if len(rows) < _LEAST:
            continue
        order = rows[np.argsort(-confidence[rows], kind="stable")]
        precision = np.cumsum(targets[order] == kind) / np.arange(1, len(order) + 1)
        good = np.flatnonzero(precision[_LEAST - 1 :] >= spec.precision) + _LEAST - 1
        if len(good):  # the lowest confidence that keeps the precision; below all that was seen the spec's own floor holds
            last = int(good[-1])
            floors[kind] = spec.floor if last == len(order) - 1 else confidence[order[last]]
    return floors


def chosen(
    chances: NDArray[np.float32], floors: NDArray[np.float64], labelled: NDArray[np.int64], spec: LabelsSpec
) -> NDArray[np.int64]:
    """Rows that are taken, ascending: of each class the surest, up to its share of the labelled ones."""
    said, confidence = chances.argmax(axis=1), chances.max(axis=1)
    taken: list[int] = []
    for kind in range(chances.shape[1]):
        rows = np.flatnonzero((said == kind) & (confidence >= floors[kind]))
        order = rows[np.argsort(-confidence[rows], kind="stable")]
        taken += order[: int(spec.max_share * labelled[kind])].tolist()
    return np.array(sorted(taken), dtype=np.int64)


def _may_train(item: Item, task: Task, splits: Splits, held: Collection[str]) -> bool:
    """Frames of a source that validates or tests resemble what is judged by, and what comes later knows its future."""
    if item.split not in ("", TRAIN) or item.source in held:
        return False
    if task.spec.data.split_by != "time":
        return True
    first = min(origin.at_ms for split in (splits.val, splits.test) for origin in split.origins)
    return 0 < item.at_ms < first - 1000 * task.spec.data.gap_s


def _told(
    given: int,
    found: Sequence[Item],
    items: Sequence[Item],
    splits: Splits,
    taken: Mapping[int, int],
    floors: NDArray[np.float64],
    sure: NDArray[np.float32],
) -> Adopted:
    said = sure.argmax(axis=1)
    above = sure.max(axis=1) >= floors[said]
    right = said[above] == splits.val.targets[above]
    return Adopted(
        given=given,
        usable=len(found),
        held_out=len(found) - len(items),
        taken={splits.labels[kind]: count for kind, count in sorted(taken.items())},
        floors={splits.labels[kind]: float(floors[kind]) for kind in np.flatnonzero(np.isfinite(floors))},
        precision=float(right.mean()) if len(right) else math.nan,
        fingerprint=splits.fingerprint,
    )


def _print(content: Content, splits: Splits) -> bytes:
    """The same for what is the same to a model."""
    return hashlib.sha256(tensor_of(content, splits.input).tobytes()).digest()
