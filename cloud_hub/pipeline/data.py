"""Samples -> the splits a model is trained, validated and tested on."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud_hub.core.errors import Invalid
from cloud_hub.core.spec import TrainingSpec
from cloud_hub.pipeline.clean import CleaningReport, Frame, RawSample, clean
from cloud_hub.pipeline.split import SPLITS, TEST, TRAIN, VAL, assign
from protos.contract.manifest import Layout, PreprocessSpec

_MIN_STD = 0.02  # 0..1: a data set of one shade must not blow its noise up


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    frames: NDArray[np.uint8]  # (N, H, W, 3) RGB
    labels: NDArray[np.int64]  # (N,) index into Splits.labels
    groups: tuple[str, ...]  # (N,) device each came from

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Splits:
    """Everything a job knows about its data. No frame is in two splits."""

    labels: tuple[str, ...]  # those that are trained, in the data set's order
    train: Split
    val: Split
    test: Split
    calibration: NDArray[np.uint8]  # (M, H, W, 3), from train
    mean: tuple[float, ...]  # per channel, 0..1 units, of train
    std: tuple[float, ...]
    fingerprint: str  # of every image, its label and its split
    report: CleaningReport

    def preprocess(self, layout: Layout) -> PreprocessSpec:
        """What a device must do to a frame of any size."""
        return PreprocessSpec(
            width=self.train.frames.shape[2],
            height=self.train.frames.shape[1],
            channels=len(self.mean),
            layout=layout,
            mean=self.mean,
            std=self.std,
        )


def load(spec: TrainingSpec, labels: tuple[str, ...], samples: Iterable[RawSample]) -> Splits:
    """Raises Invalid, with the cleaning report in words, where there is nothing to train on."""
    frames, report = clean(samples, spec.preprocess, labels, limit=spec.data.max_samples)
    if len(frames) < spec.data.min_samples:
        raise _unusable(f"{len(frames)} usable images, data.min_samples is {spec.data.min_samples}", spec, report)
    present = {frame.label for frame in frames}
    if len(present) < 2:
        raise _unusable(f"all images are labelled '{present.pop()}': a classifier needs two classes or more", spec, report)
    try:
        parts, notes = assign(frames, spec.data)
    except Invalid as error:
        raise _unusable(str(error), spec, report) from error
    report.notes += notes
    return _splits(spec, labels, frames, parts, report)


def _splits(
    spec: TrainingSpec, labels: tuple[str, ...], frames: Sequence[Frame], parts: Sequence[str], report: CleaningReport
) -> Splits:
    trained = {frame.label for frame, part in zip(frames, parts, strict=True) if part == TRAIN}
    known = tuple(label for label in labels if label in trained)
    if unused := [label for label in labels if label not in trained]:
        report.notes.append(f"the model will not know {', '.join(repr(label) for label in unused)}: no image to train on")
    rows: dict[str, list[Frame]] = {split: [] for split in SPLITS}
    for frame, part in zip(frames, parts, strict=True):
        if frame.label in trained:
            rows[part].append(frame)
    train, val, test = (_stack(rows[split], known) for split in SPLITS)
    mean, std = _statistics(train.frames, spec.preprocess.channels)
    return Splits(
        labels=known,
        train=train,
        val=val,
        test=test,
        calibration=train.frames[_even(rows[TRAIN], spec.data.calibration)],
        mean=mean,
        std=std,
        fingerprint=_fingerprint(rows),
        report=report,
    )


def _stack(frames: Sequence[Frame], labels: tuple[str, ...]) -> Split:
    index = {label: i for i, label in enumerate(labels)}
    return Split(
        frames=np.stack([frame.pixels for frame in frames]),
        labels=np.array([index[frame.label] for frame in frames], dtype=np.int64),
        groups=tuple(frame.group for frame in frames),
    )


def _statistics(frames: NDArray[np.uint8], channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel from a histogram: exact, and no float copy of the data set."""
    levels = np.arange(256) / 255
    means, stds = [], []
    for channel in range(channels):
        share = np.bincount(frames[..., channel].reshape(-1), minlength=256) / frames[..., channel].size
        mean = float(share @ levels)
        means.append(mean)
        stds.append(max(_MIN_STD, float(share @ (levels - mean) ** 2) ** 0.5))
    # A manifest holds 32-bit floats: train with what the device will read.
    return tuple(float(np.float32(m)) for m in means), tuple(float(np.float32(s)) for s in stds)


def _even(frames: Sequence[Frame], count: int) -> list[int]:
    """Rows of ``count`` frames: one of each class in turn, in an order that does not change as data grows."""
    turns: Counter[str] = Counter()
    order = []
    for row in sorted(range(len(frames)), key=lambda i: hashlib.sha256(frames[i].digest.encode()).digest()):
        order.append((turns[frames[row].label], row))
        turns[frames[row].label] += 1
    return [row for _, row in sorted(order)[:count]]


def _fingerprint(rows: dict[str, list[Frame]]) -> str:
    lines = sorted(f"{split} {frame.digest} {frame.label}" for split in (TRAIN, VAL, TEST) for frame in rows[split])
    return "sha256:" + hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _unusable(problem: str, spec: TrainingSpec, report: CleaningReport) -> Invalid:
    return Invalid(f"data set '{spec.data.dataset}' cannot be trained on: {problem}. " + "; ".join(report.lines()))
