"""Pictures for the demo's cameras: scikit-learn's handwritten digits, or a folder of images, and what happens to the light."""

import io
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps

SUFFIXES = {".png", ".jpg", ".jpeg", ".ppm", ".bmp"}
# Scans of digits are easy: half the epochs of the defaults.
_EASY = {"teacher": {"epochs": 14}, "student": {"epochs": 18}, "train": {"patience": 6}}
Change = Callable[[Image.Image], Image.Image]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    image: Image.Image
    label: str
    source: str  # pictures that share it are of one physical thing


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What the demo shows: pictures to train on, and the day and the changed scene the cameras see."""

    name: str
    side: int  # pixels of the model's input
    channels: int
    bound: float  # of the gate; beyond it the champion is the yardstick
    effort: Mapping[str, Mapping[str, int]]  # sections of the training specification; empty: the defaults
    train: tuple[Picture, ...]
    day: tuple[Picture, ...]  # never in train
    adapt: tuple[Picture, ...]  # the changed scene as seen before retraining; captured and labelled from here
    after: tuple[Picture, ...]  # the changed scene as seen after it: none of them is in adapt

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(sorted({picture.label for picture in self.train}))


def darken(image: Image.Image) -> Image.Image:
    return image.point(lambda value: int(value * 0.12))


def blur(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(2.4))


def invert(image: Image.Image) -> Image.Image:
    return ImageOps.invert(image)


CHANGES: tuple[tuple[str, Change], ...] = (("darkening", darken), ("blur", blur), ("inversion", invert))


def digits(seed: int = 0) -> Scene:
    """1,797 real 8 x 8 scans (Alpaydin and Kaynak, UCI), enlarged to 32 x 32; the changed scene shows each one darker, out of
    focus and inverted."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.default_rng(seed).permutation(len(data.images))
    pictures = [
        Picture(image=_enlarge(data.images[i]), label=str(int(data.target[i])), source=f"scan-{i:04d}") for i in map(int, order)
    ]
    train, day, adapt, after = _cut(pictures, (850, 240, 440))
    return Scene(
        name="digits",
        side=32,
        channels=1,
        bound=0.9,
        effort=_EASY,
        train=train,
        day=day,
        adapt=_change(adapt),
        after=_change(after),
    )


def folder(path: Path, seed: int = 0) -> Scene:
    """``path/train/<label>/*`` and ``path/drift/<label>/*``; the part of a file name before its last ``_`` is its source.

    Sources are kept whole: those of ``train`` are divided into training and day, those of ``drift`` into adapt and after.
    """
    train, day = _divide(_read(path / "train"), 0.2, seed)
    adapt, after = _divide(_read(path / "drift"), 0.4, seed)
    channels = 3 if train[0].image.mode == "RGB" else 1
    return Scene(
        name=path.name.lower().replace("_", "-"),
        side=32,
        channels=channels,
        bound=0.5,
        effort={},
        train=train,
        day=day,
        adapt=adapt,
        after=after,
    )


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _enlarge(scan: NDArray[np.float64]) -> Image.Image:
    small = Image.fromarray((scan * (255 / 16)).astype(np.uint8))
    return small.resize((32, 32), Image.Resampling.BICUBIC)


def _change(pictures: Sequence[Picture]) -> tuple[Picture, ...]:
    """Every picture in every change; neighbours differ in both."""
    return tuple(
        Picture(image=CHANGES[(i + turn) % len(CHANGES)][1](picture.image), label=picture.label, source=picture.source)
        for turn in range(len(CHANGES))
        for i, picture in enumerate(pictures)
    )


def _cut(pictures: Sequence[Picture], sizes: Sequence[int]) -> list[tuple[Picture, ...]]:
    parts, start = [], 0
    for size in sizes:
        parts.append(tuple(pictures[start : start + size]))
        start += size
    return [*parts, tuple(pictures[start:])]


def _divide(pictures: Sequence[Picture], share: float, seed: int) -> tuple[tuple[Picture, ...], tuple[Picture, ...]]:
    """(first, second), every source whole; per label, the sources that make up ``share`` of its pictures go to the second."""
    by_label: dict[str, dict[str, list[Picture]]] = defaultdict(lambda: defaultdict(list))
    for picture in pictures:
        by_label[picture.label][picture.source].append(picture)
    first: list[Picture] = []
    second: list[Picture] = []
    rng = np.random.default_rng(seed)
    for sources in by_label.values():
        names = sorted(sources)
        rng.shuffle(names)
        wanted = share * sum(map(len, sources.values()))
        taken = 0
        for i, name in enumerate(names):
            if taken < wanted and i < len(names) - 1:
                second += sources[name]
                taken += len(sources[name])
            else:
                first += sources[name]
    for part in (first, second):
        rng.shuffle(part)  # type: ignore[arg-type]
    return tuple(first), tuple(second)


def _read(folder: Path) -> list[Picture]:
    if not folder.is_dir():
        raise SystemExit(f"demo: {folder} is missing; --data needs train/<label>/ and drift/<label>/ folders of images")
    pictures = []
    for path in sorted(folder.glob("*/*")):
        if path.suffix.lower() in SUFFIXES:
            with Image.open(path) as image:
                mode = "L" if image.mode in ("1", "L") else "RGB"
                pictures.append(
                    Picture(image=image.convert(mode), label=path.parent.name, source=path.stem.rpartition("_")[0] or path.stem)
                )
    if not pictures:
        raise SystemExit(f"demo: {folder} holds no images ({', '.join(sorted(SUFFIXES))})")
    return pictures
