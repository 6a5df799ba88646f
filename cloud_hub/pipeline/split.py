"""Which frame trains, which validates, which tests: by a hash of its source, so that it never moves as data grows."""

import hashlib
from collections import Counter
from collections.abc import Sequence

from cloud_hub.core.errors import Invalid
from cloud_hub.core.spec import DataSpec
from cloud_hub.pipeline.clean import Frame

TRAIN, VAL, TEST = "train", "val", "test"
SPLITS = (TRAIN, VAL, TEST)
_ENOUGH_SOURCES = 8  # fewer do not halve evenly


def assign(frames: Sequence[Frame], spec: DataSpec) -> tuple[list[str], list[str]]:
    """The split of each frame, and notes on what could not be done as asked.

    Frames of one source stay together. A class whose sources leave it out of a split is divided frame by frame instead, and a
    pinned frame stays where it is pinned. Both are said in the notes.

    Raises:
        Invalid: a split would be empty, or fewer than two classes could be trained.
    """
    by_image = spec.split_by == "image"
    splits = [frame.split or _place(frame.digest if by_image else frame.source, spec) for frame in frames]
    notes: list[str] = []
    if not by_image:
        notes += _divide_thin_classes(frames, splits, spec)
    notes += _divide_pinned_validation(frames, splits)
    notes += _rescue_training(frames, splits)
    _check(frames, splits, notes)
    return splits, notes


def _place(unit: str, spec: DataSpec) -> str:
    """The same unit lands in the same split whatever else is in the data set."""
    point = int.from_bytes(hashlib.sha256(b"split:" + unit.encode()).digest()[:8], "big") / 2**64
    if point < spec.test_share:
        return TEST
    return VAL if point < spec.test_share + spec.val_share else TRAIN


def _divide_thin_classes(frames: Sequence[Frame], splits: list[str], spec: DataSpec) -> list[str]:
    """A class missing from a split has too few sources to be parted by them: part its frames."""
    notes: list[str] = []
    if len({frame.source for frame in frames}) == 1:
        notes.append("all images come from one source: they are split one by one, so the score may flatter")
    present = set(zip((frame.label for frame in frames), splits, strict=True))
    thin = sorted({frame.label for frame in frames if any((frame.label, split) not in present for split in SPLITS)})
    divided = []
    for label in thin:
        free = [i for i, frame in enumerate(frames) if frame.label == label and not frame.split]
        for i in free:
            splits[i] = _place(frames[i].digest, spec)
        if free:
            divided.append(label)
    if divided and not notes:
        notes.append(
            f"too few sources to split {_names(divided)} by source: their images are split one by one, so the score may flatter"
        )
    return notes


def _divide_pinned_validation(frames: Sequence[Frame], splits: list[str]) -> list[str]:
    """Data sets often come with a training and one held-out part: half of the held-out sources become the other one."""
    present = set(splits)
    if TRAIN not in present or len(present) != 2:
        return []
    held = VAL if VAL in present else TEST
    missing = TEST if held == VAL else VAL
    rows = [i for i, split in enumerate(splits) if split == held]
    by_source = len({frames[i].source for i in rows}) >= _ENOUGH_SOURCES
    for i in rows:
        unit = frames[i].source if by_source else frames[i].digest
        if hashlib.sha256(b"half:" + unit.encode()).digest()[0] % 2:
            splits[i] = missing
    return [f"no image is in '{missing}': half of the {'sources' if by_source else 'images'} in '{held}' are used for it"]


def _rescue_training(frames: Sequence[Frame], splits: list[str]) -> list[str]:
    """A class seen only outside training cannot be learned: its unpinned frames train."""
    trained = {frame.label for frame, split in zip(frames, splits, strict=True) if split == TRAIN}
    rescued = set()
    for i, frame in enumerate(frames):
        if frame.label not in trained and not frame.split:
            splits[i] = TRAIN
            rescued.add(frame.label)
    return [f"too few images to split: {_names(sorted(rescued))}: all of them train, none tests"] if rescued else []


def _check(frames: Sequence[Frame], splits: list[str], notes: list[str]) -> None:
    sizes = Counter(splits)
    for split in SPLITS:
        if not sizes[split]:
            raise Invalid(f"no image is left for '{split}' out of {len(frames)}: add images of more sources, or unpin some")
    labels = {split: {f.label for f, s in zip(frames, splits, strict=True) if s == split} for split in SPLITS}
    if len(labels[TRAIN]) < 2:
        raise Invalid(f"only {_names(sorted(labels[TRAIN]))} can be trained: a classifier needs two classes or more")
    for split in (VAL, TEST):
        if absent := sorted(labels[TRAIN] - labels[split]):
            notes.append(f"'{split}' has no image of {_names(absent)}: nothing is known about them there")
        if unknown := sorted(labels[split] - labels[TRAIN]):
            notes.append(f"'{split}' has images of {_names(unknown)}, which is not trained: they are left out")


def _names(labels: Sequence[str]) -> str:
    return ", ".join(f"'{label}'" for label in labels[:10]) + (f" and {len(labels) - 10} more" if len(labels) > 10 else "")
