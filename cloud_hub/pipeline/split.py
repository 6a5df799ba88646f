"""Which item trains, which validates, which tests: by a hash of its source, so it never moves as data grows; or by time."""

import hashlib
from collections import Counter
from collections.abc import Sequence

from cloud_hub.core.errors import Invalid
from cloud_hub.core.spec_sections.data import DataSpec
from cloud_hub.pipeline import split_time
from cloud_hub.pipeline.clean import TEACHER, Item

TRAIN, VAL, TEST = "train", "val", "test"
SPLITS = (TRAIN, VAL, TEST)
_ENOUGH_SOURCES = 8  # fewer do not halve evenly


def assign(items: Sequence[Item], spec: DataSpec, *, classes: bool = True) -> tuple[list[str], list[str]]:
    """The split of each item, and notes on what could not be done as asked.

    Samples of one source stay together, also where only some of them are pinned. A class whose sources leave it out of a split
    is divided item by item instead, and where validation or test is empty, half of the other one is used for it. Both are
    said in the notes. Without ``classes`` labels are not looked at. What a teacher labelled trains or is left out, which is ""
    for a split: it must not judge its own pupils.

    Raises:
        Invalid: a split would be empty, or fewer than two classes could be trained.
    """
    if spec.split_by == "time":
        return _by_time(items, spec, classes)
    by_sample = spec.split_by == "sample"
    if any(item.label_origin == TEACHER for item in items):
        return _with_taught(items, spec, classes)
    pinned = {} if by_sample else _pins(items)
    splits = [item.split or pinned.get(item.source) or place(item.digest if by_sample else item.source, spec) for item in items]
    # what is pinned comes first: later items must not be parted only because nobody pinned a third split
    notes = _halve_held_out(items, splits, [i for i, item in enumerate(items) if item.split or item.source in pinned])
    if classes and not by_sample:
        notes += _divide_thin_classes(items, splits, spec)
    notes += _halve_held_out(items, splits, range(len(items)))
    if classes:
        notes += _rescue_training(items, splits)
    _check(items, splits)
    if classes:
        notes += _check_classes(items, splits)
    return splits, notes


def _with_taught(items: Sequence[Item], spec: DataSpec, classes: bool) -> tuple[list[str], list[str]]:
    """The others are parted as if a teacher's were not there; its own train, unless their source is held out."""
    others = [i for i, item in enumerate(items) if item.label_origin != TEACHER]
    parts, notes = assign([items[i] for i in others], spec, classes=classes)
    splits = ["" if item.split in (VAL, TEST) else TRAIN for item in items]
    trained = {items[i].source for i, part in zip(others, parts, strict=True) if part == TRAIN}
    held = {items[i].source for i, part in zip(others, parts, strict=True) if part != TRAIN} - trained
    if spec.split_by == "source":
        splits = ["" if item.source in held else split for item, split in zip(items, splits, strict=True)]
    for i, part in zip(others, parts, strict=True):
        splits[i] = part
    taught = len(items) - len(others)
    left = splits.count("")
    notes.append(f"{taught} samples have a teacher's label: {taught - left} train, {left} are left out for a held-out source")
    return splits, notes


def _by_time(items: Sequence[Item], spec: DataSpec, classes: bool) -> tuple[list[str], list[str]]:
    """Pins hold, whatever their time; a teacher's labels judge nobody, and what is in a gap is left out."""
    val, test, notes = split_time.borders([item for item in items if not item.split] or items, spec)
    gap_ms = spec.gap_s * 1000
    splits = []
    for item in items:
        part = TEST if item.at_ms >= test else VAL if item.at_ms >= val else TRAIN
        border = val if part == TRAIN else test
        near = part != TEST and item.at_ms > border - gap_ms
        chosen = item.split or ("" if near else part)
        splits.append("" if item.label_origin == TEACHER and chosen != TRAIN else chosen)
    if out := splits.count(""):
        notes.append(
            f"{out} samples are left out: less than data.gap_s before a border, or labelled by a teacher and not in 'train'"
        )
    late = sum(
        (item.at_ms >= val) if split == TRAIN else (item.at_ms < val)
        for item, split in zip(items, splits, strict=True)
        if item.split
    )
    if late:
        notes.append(f"{late} samples are pinned across the border in time: the score may flatter")
    _check(items, splits)
    if classes:
        notes += _check_classes(items, splits)
    return splits, notes


def _pins(items: Sequence[Item]) -> dict[str, str]:
    """Where the other items of a source belong of which some are pinned; one that is parted by its pins trains, if it can."""
    pins: dict[str, str] = {}
    for item in items:
        if item.split:
            pins[item.source] = min(item.split, pins.get(item.source, item.split), key=SPLITS.index)
    return pins


def place(unit: str, spec: DataSpec) -> str:
    """The same unit lands in the same split whatever else is in the data set."""
    point = int.from_bytes(hashlib.sha256(b"split:" + unit.encode()).digest()[:8], "big") / 2**64
    if point < spec.test_share:
        return TEST
    return VAL if point < spec.test_share + spec.val_share else TRAIN


def _divide_thin_classes(items: Sequence[Item], splits: list[str], spec: DataSpec) -> list[str]:
    """A class missing from a split has too few sources to be parted by them: part its items."""
    notes: list[str] = []
    if len({item.source for item in items}) == 1:
        notes.append("all samples come from one source: they are split one by one, so the score may flatter")
    present = set(zip((item.label for item in items), splits, strict=True))
    thin = sorted({item.label for item in items if any((item.label, split) not in present for split in SPLITS)})
    divided = []
    for label in thin:
        free = [i for i, item in enumerate(items) if item.label == label and not item.split]
        for i in free:
            splits[i] = place(items[i].digest, spec)
        if free:
            divided.append(label)
    if divided and not notes:
        notes.append(
            f"too few sources to split {_names(divided)} by source: they are split one by one, so the score may flatter"
        )
    return notes


def _halve_held_out(items: Sequence[Item], splits: list[str], among: Sequence[int]) -> list[str]:
    """Data sets often come with a training and one held-out part: half of the held-out sources become the other one."""
    present = {splits[i] for i in among}
    if TRAIN not in present or len(present) != 2:
        return []
    held = VAL if VAL in present else TEST
    missing = TEST if held == VAL else VAL
    rows = [i for i in among if splits[i] == held]
    by_source = len({items[i].source for i in rows}) >= _ENOUGH_SOURCES
    for i in rows:
        unit = items[i].source if by_source else items[i].digest
        if hashlib.sha256(b"half:" + unit.encode()).digest()[0] % 2:
            splits[i] = missing
    return [f"nothing was kept for '{missing}': half of the {'sources' if by_source else 'samples'} in '{held}' serve as it"]


def _rescue_training(items: Sequence[Item], splits: list[str]) -> list[str]:
    """A class seen only outside training cannot be learned: its unpinned items train."""
    trained = {item.label for item, split in zip(items, splits, strict=True) if split == TRAIN}
    rescued = set()
    for i, item in enumerate(items):
        if item.label not in trained and not item.split:
            splits[i] = TRAIN
            rescued.add(item.label)
    return [f"too few samples to split: {_names(sorted(rescued))}: all of them train, none tests"] if rescued else []


def _check(items: Sequence[Item], splits: list[str]) -> None:
    sizes = Counter(splits)
    for split in SPLITS:
        if not sizes[split]:
            raise Invalid(f"no sample is left for '{split}' out of {len(items)}: add samples of more sources, or unpin some")


def _check_classes(items: Sequence[Item], splits: list[str]) -> list[str]:
    notes = []
    labels = {split: {it.label for it, s in zip(items, splits, strict=True) if s == split} for split in SPLITS}
    if len(labels[TRAIN]) < 2:
        raise Invalid(f"only {_names(sorted(labels[TRAIN]))} can be trained: a classifier needs two classes or more")
    for split in (VAL, TEST):
        if absent := sorted(labels[TRAIN] - labels[split]):
            notes.append(f"'{split}' has no sample of {_names(absent)}: nothing is known about them there")
        if unknown := sorted(labels[split] - labels[TRAIN]):
            notes.append(f"'{split}' has samples of {_names(unknown)}, which is not trained: they are left out")
    return notes


def _names(labels: Sequence[str]) -> str:
    return ", ".join(f"'{label}'" for label in labels[:10]) + (f" and {len(labels) - 10} more" if len(labels) > 10 else "")
