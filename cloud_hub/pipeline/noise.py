"""Labels that are probably wrong, for people to look at again: what a network says that should know, against what stands there.
What the rest of a source says is ``slips``'s.

Confident learning (Northcutt, Jiang, Chuang: Confident Learning, 2021): a class is believed where it is said with more than the
mean confidence of the samples that bear its label, so that a class the network is never sure of accuses nobody.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloud_hub.pipeline import networks, train
from cloud_hub.pipeline.checkpoint import Checkpoint
from cloud_hub.pipeline.classes import fit_temperature, probabilities
from cloud_hub.pipeline.clean import Suspect
from cloud_hub.pipeline.data import Split, Splits
from cloud_hub.pipeline.task import Task, predict
from cloud_hub.pipeline.train import Tell

SUREST = 0.5  # that the other class is likelier by: from here on a label is left out of training where that is asked for
_MOST = 0.3  # of the training samples, and of those of one class: if more look wrong, it is the network that is


def look(task: Task, splits: Splits, folder: Path, tell: Tell) -> tuple[Splits, list[Suspect]]:
    """The splits to go on with, and the labels that look wrong to the rest of their source or, of training samples, to networks
    that were not trained on them.

    As ``labels.noise`` says; without ``folds`` nothing is trained.
    """
    spec, slips = task.spec.labels.noise, splits.report.slips
    if not spec.folds or splits.train.targets.ndim != 1 or not np.issubdtype(splits.train.targets.dtype, np.integer):
        return splits, slips
    found = suspects(crossed(task, splits, folder, tell), splits.train, "train", splits.labels)
    tell(1, f"{len(found)} labels of training samples look wrong")
    if not spec.drop:
        return splits, [*slips, *found]
    if len(found) > _MOST * len(splits.train):
        splits.report.notes.append(f"{len(found)} labels look wrong to networks that are not good enough to say so: all train")
        return splits, [*slips, *found]
    kept, gone = without(splits, found)
    note = f"{len(gone)} of them do not train (labels.noise.drop)"
    splits.report.notes.append(f"{len(found)} labels of training samples look wrong: {note}")
    tell(1, note)
    return kept, [*slips, *found]


def contradicted(chances: NDArray[np.float32], targets: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(rows, their likely classes), the clearest first. ``chances`` ``(N, K)`` sum to 1 in each row."""
    rows, classes = np.arange(len(targets)), chances.shape[1]
    counts = np.bincount(targets, minlength=classes)
    own = chances[rows, targets]
    usual = np.bincount(targets, own, classes) / np.maximum(counts, 1)
    believed = np.where((chances >= usual) & (counts > 0), chances, -1.0)
    likely = believed.argmax(axis=1)
    found = np.flatnonzero((believed[rows, likely] > own) & (likely != targets))
    order = np.argsort(own[found] - chances[found, likely[found]], kind="stable")
    return found[order], likely[found[order]]


def suspects(chances: NDArray[np.float32], split: Split, name: str, labels: Sequence[str]) -> list[Suspect]:
    """The clearest first."""
    rows, likely = contradicted(chances, split.targets)
    return [
        Suspect(
            id=split.origins[row].id if split.origins else "",
            split=name,
            row=int(row),
            label=labels[split.targets[row]],
            likely=labels[other],
            margin=float(chances[row, other] - chances[row, split.targets[row]]),
        )
        for row, other in zip(rows, likely, strict=True)
    ]


def crossed(task: Task, splits: Splits, folder: Path, tell: Tell) -> NDArray[np.float32]:
    """``(N, K)``: of each training sample what a student says that was trained without its source."""
    many, section = task.spec.labels.noise.folds, task.spec.student
    part = folds(splits.train, many)
    chances = np.zeros((len(splits.train), len(splits.labels)), np.float32)
    for fold in range(many):
        own, others = np.flatnonzero(part == fold), np.flatnonzero(part != fold)
        if not len(own) or not len(others):
            continue  # one source: nothing is said of it
        known = replace(splits, train=splits.train.take(others), calibration=np.arange(min(8, len(others))))
        network = task.network(section, known).to(networks.device())
        key = hashlib.sha256(f"{splits.fingerprint} {many} {fold} {task.spec}".encode()).hexdigest()
        checkpoint = Checkpoint(folder / f"fold-{fold}.safetensors", key)
        train.fit(task, network, known, epochs=section.epochs, loss=task.loss(known), checkpoint=checkpoint, tell=_quiet)
        feeder = task.feeder(known).to(networks.device())
        temperature = fit_temperature(predict(network, feeder, splits.val.inputs), splits.val.targets)
        chances[own] = probabilities(predict(network, feeder, splits.train.take(own).inputs), temperature)
        tell((fold + 1) / many, f"labels: {fold + 1} of {many} parts judged by a network that was not trained on them")
    return chances


def folds(split: Split, many: int) -> NDArray[np.int64]:
    """``(N,)``: samples of one source are in one part, whatever else there is."""
    names = [origin.source for origin in split.origins] or [str(i) for i in range(len(split))]
    return np.array([int.from_bytes(hashlib.sha256(b"fold:" + name.encode()).digest()[:4], "big") % many for name in names])


def without(splits: Splits, found: Sequence[Suspect]) -> tuple[Splits, list[Suspect]]:
    """Training without the surest suspects, and which those are; what validates and tests stays."""
    targets = splits.train.targets
    left = np.bincount(targets, minlength=len(splits.labels))
    least = left * (1 - _MOST)
    gone: list[Suspect] = []
    for one in found:
        kind = targets[one.row]
        enough = len(gone) < _MOST * len(targets) and left[kind] - 1 >= max(1, least[kind])
        if one.split != "train" or one.margin < SUREST or not enough:
            continue
        left[kind] -= 1
        gone.append(one)
    kept = np.setdiff1d(np.arange(len(targets)), [one.row for one in gone])
    calibration = np.searchsorted(kept, splits.calibration[np.isin(splits.calibration, kept)])
    return replace(splits, train=splits.train.take(kept), calibration=calibration), gone


def _quiet(fraction: float, line: str) -> None:
    """Epochs of a fold are nobody's business."""
