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

    Frames of one source stay together, also where only some of them are pinned. A class whose sources leave it out of a split
    is divided frame by frame instead, and where validation or test is empty, half of the other one is used for it. Both are
    said in the notes.

    Raises:
        Invalid: a split would be empty, or fewer than two classes could be trained.
    """
    by_image = spec.split_by == "image"
    pinned = {} if by_image else _pins(frames)
    splits = [
        frame.split or pinned.get(frame.source) or _place(frame.digest if by_image else frame.source, spec) for frame in frames
    ]
    # what is pinned comes first: later frames must not be parted only because nobody pinned a third split
    notes = _halve_held_out(frames, splits, [i for i, frame in enumerate(frames) if frame.split or frame.source in pinned])
    if not by_image:
        notes += _divide_thin_classes(frames, splits, spec)
    notes += _halve_held_out(frames, splits, range(len(frames)))
    notes += _rescue_training(frames, splits)
    _check(frames, splits, notes)
    return splits, notes


def _pins(frames: Sequence[Frame]) -> dict[str, str]:
    """Where the other frames of a source belong of which some are pinned; one that is parted by its pins trains, if it can."""
    pins: dict[str, str] = {}
    for frame in frames:
        if frame.split:
            pins[frame.source] = min(frame.split, pins.get(frame.source, frame.split), key=SPLITS.index)
    return pins


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


def _halve_held_out(frames: Sequence[Frame], splits: list[str], among: Sequence[int]) -> list[str]:
    """Data sets often come with a training and one held-out part: half of the held-out sources become the other one."""
    present = {splits[i] for i in among}
    if TRAIN not in present or len(present) != 2:
        return []
    held = VAL if VAL in present else TEST
    missing = TEST if held == VAL else VAL
    rows = [i for i in among if splits[i] == held]
    by_source = len({frames[i].source for i in rows}) >= _ENOUGH_SOURCES
    for i in rows:
        unit = frames[i].source if by_source else frames[i].digest
        if hashlib.sha256(b"half:" + unit.encode()).digest()[0] % 2:
            splits[i] = missing
    return [f"nothing was kept for '{missing}': half of the {'sources' if by_source else 'images'} in '{held}' are used for it"]


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
