"""Labelled images -> frames of one size, with every image that was left out counted and named."""

import hashlib
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cloud_hub.core.spec import ImageSpec
from edge_agent.infer.preprocess import preprocess
from protos.contract.ids import Digest
from protos.contract.manifest import Layout, PreprocessSpec

MIN_SIDE = 8  # pixels: below it there is nothing to see
MAX_PIXELS = 50_000_000  # a bigger file is a mistake or an attack
_EXAMPLES = 10  # names kept per reason


@dataclass(frozen=True, slots=True, kw_only=True)
class RawSample:
    """One labelled image as the store has it."""

    id: str
    digest: Digest
    image: bytes
    label: str
    source: str = ""  # samples that share it never part across splits
    split: str = ""  # "", "train", "val", "test": pinned there
    name: str = ""
    group: str = ""  # device it came from; accuracy is reported per group


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """One usable sample."""

    pixels: NDArray[np.uint8]  # (height, width, 3) RGB of the spec's size
    label: str
    source: str
    split: str
    digest: Digest
    group: str


@dataclass(slots=True, kw_only=True)
class CleaningReport:
    """What was given, what was kept, and why the rest was not. ``notes`` are decisions worth a user's attention."""

    given: int = 0
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)  # reason -> images
    examples: dict[str, list[str]] = field(default_factory=dict)  # reason -> some of their names
    notes: list[str] = field(default_factory=list)

    def drop(self, reason: str, name: str) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        names = self.examples.setdefault(reason, [])
        if len(names) < _EXAMPLES:
            names.append(name)

    def lines(self) -> list[str]:
        """In words, one fact a line."""
        said = [f"{self.given} images given, {self.kept} kept"]
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


def clean(
    samples: Iterable[RawSample], image: ImageSpec, labels: tuple[str, ...], *, limit: int
) -> tuple[list[Frame], CleaningReport]:
    """Decode and resize what is usable. ``samples`` come oldest first; above ``limit`` the oldest go.

    Identical pixels under one label are kept once; under several labels none is kept, for nobody can say which is right.
    """
    report = CleaningReport()
    kept: dict[bytes, Frame | None] = {}  # by content; None: conflicting
    names: dict[bytes, str] = {}
    frames = 0
    for sample in samples:
        report.given += 1
        name = sample.name or sample.id
        if sample.label not in labels:
            report.drop(f"label {sample.label!r} is not in the data set" if sample.label else "no label", name)
            continue
        pixels = _decode(sample, report)
        if pixels is None:
            continue
        key = _content(pixels)
        if key in kept:
            frames -= _repeat(kept, key, sample, names[key], report)
            continue
        kept[key] = _frame(sample, sized(pixels, image))
        names[key] = name
        frames += 1
        if frames > limit:
            oldest = next(content for content, frame in kept.items() if frame is not None)
            del kept[oldest]
            report.drop(f"more than data.max_samples ({limit}): the oldest", names.pop(oldest))
            frames -= 1
    usable = [frame for frame in kept.values() if frame is not None]
    report.kept = len(usable)
    return usable, report


def sized(pixels: NDArray[np.uint8], image: ImageSpec) -> NDArray[np.uint8]:
    """``(height, width, 3)`` as the device resizes it; grey is repeated three times, which the device's luma maps to itself."""
    identity = PreprocessSpec(
        width=image.width,
        height=image.height,
        channels=image.channels,
        layout=Layout.NHWC,
        mean=(0.0,) * image.channels,
        std=(1 / 255,) * image.channels,
    )
    levels = np.rint(preprocess(pixels, identity)[0]).astype(np.uint8)
    return np.broadcast_to(levels, (image.height, image.width, 3)).copy()


def _decode(sample: RawSample, report: CleaningReport) -> NDArray[np.uint8] | None:
    name = sample.name or sample.id
    try:
        with Image.open(io.BytesIO(sample.image)) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                report.drop(f"more than {MAX_PIXELS} pixels", name)
                return None
            pixels = np.asarray(picture.convert("RGB"), dtype=np.uint8)
    except (
        OSError,
        ValueError,
        SyntaxError,
        Image.DecompressionBombError,
        EOFError,
        MemoryError,
    ):  # what Pillow's plugins raise
        report.drop("not a readable image", name)
        return None
    if min(pixels.shape[:2]) < MIN_SIDE:
        report.drop(f"smaller than {MIN_SIDE} pixels a side", name)
        return None
    return pixels


def _content(pixels: NDArray[np.uint8]) -> bytes:
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).digest()


def _frame(sample: RawSample, pixels: NDArray[np.uint8]) -> Frame:
    return Frame(
        pixels=pixels,
        label=sample.label,
        source=sample.source or sample.digest,
        split=sample.split,
        digest=sample.digest,
        group=sample.group,
    )


def _repeat(kept: dict[bytes, Frame | None], key: bytes, sample: RawSample, first: str, report: CleaningReport) -> int:
    """Account for pixels seen before; returns how many frames stopped being usable."""
    frame = kept[key]
    name = sample.name or sample.id
    if frame is not None and frame.label == sample.label:
        report.drop("the same picture again", name)
        if sample.split and not frame.split:  # a pin given with the copy holds for the picture
            kept[key] = replace(frame, split=sample.split)
        return 0
    report.drop("the same picture under different labels", name)
    if frame is None:
        return 0
    report.drop("the same picture under different labels", first)
    kept[key] = None
    return 1
