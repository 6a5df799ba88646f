"""Scenes composed from real handwritten digits (scikit-learn's, UCI): at random places and sizes among strokes of other digits'
parts. The scenes are made here; nobody took them. They need no data set beside the checkout.
"""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cloud_hub.pipeline.clean import RawSample
from cloud_hub.pipeline.tasks.object_detection.boxes import write
from scripts.datasets import Example, raw

LABELS = tuple("0123456789")
SIDE = 64
COUNTS = {"train": 1500, "val": 200, "test": 300}
_LEAST, _MOST = 16, 28  # pixels of a digit's side
_PARTS = 4
_HELD = {8: "val", 9: "test"}  # by the number of a digit: writers follow each other, so ten in a row go together

Grey = NDArray[np.float32]


def samples(folder: Path = Path(), counts: Mapping[str, int] = COUNTS, labels: tuple[str, ...] = LABELS) -> Iterator[RawSample]:
    from sklearn.datasets import load_digits

    data = load_digits()
    splits = np.array([_HELD.get(i // 10 % 10, "train") for i in range(len(data.images))])
    known = np.array([str(target) in labels for target in data.target])
    for number, (split, count) in enumerate(counts.items()):
        draw = np.random.default_rng((7, number))
        own = np.flatnonzero((splits == split) & known)
        images, kinds = data.images[own].astype(np.float32) / 16, [labels.index(str(data.target[i])) for i in own]
        for i in range(count):
            scene, boxes = compose(images, kinds, draw)
            yield raw(scene, write(boxes, labels), name=f"{split}-{i}", source=f"{split}-{i}", split=split)


def compose(images: Grey, kinds: list[int], draw: np.random.Generator) -> tuple[bytes, NDArray[np.float32]]:
    """A PNG, and its boxes as in ``object_detection.boxes``."""
    canvas = np.zeros((SIDE, SIDE), np.float32)
    for _ in range(draw.integers(_PARTS + 1)):  # no digit, but of the same ink
        part = images[draw.integers(len(images))][:4, draw.integers(5) :][:, :3]
        _draw(canvas, part, 10, int(draw.integers(SIDE - 10)), int(draw.integers(SIDE - 10)))
    boxes: list[tuple[float, ...]] = []
    for _ in range(draw.integers(4)):
        at, side = draw.integers(len(images)), int(draw.integers(_LEAST, _MOST + 1))
        left, top = (int(draw.integers(SIDE - side)) for _ in range(2))
        ink = np.flatnonzero(images[at].max(axis=0) > 0.2)
        box = (left + ink[0] / 8 * side, float(top), left + (ink[-1] + 1) / 8 * side, float(top + side))
        if all(box[0] > b[3] or b[1] > box[2] or box[1] > b[4] or b[2] > box[3] for b in boxes):
            canvas[top : top + side, int(box[0]) : int(np.ceil(box[2]))] = 0
            _draw(canvas, images[at], side, left, top)
            boxes.append((kinds[at], *box))
    low, high = draw.uniform(0, 0.4), draw.uniform(0.7, 1)
    pixels = low + (high - low) * canvas + draw.normal(0, 0.04, canvas.shape)
    found = np.array(boxes, np.float32).reshape(-1, 5)
    found[:, 1:] /= SIDE
    return _png((np.clip(pixels, 0, 1) * 255).astype(np.uint8)), found


def _draw(canvas: Grey, image: Grey, side: int, left: int, top: int) -> None:
    sized = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))
    place = canvas[top : top + side, left : left + side]
    np.maximum(place, sized, out=place)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert("RGB").save(buffer, "png")
    return buffer.getvalue()


EXAMPLES = (
    Example(
        name="digits-in-scenes",
        data="scenes composed from real handwritten digits: 1,500 / 200 / 300, digits parted by writer",
        samples=samples,
        labels=LABELS,
        reference="none: composed here",
        figures=("map75", "boxes"),
        quick={"teacher": {"epochs": 2}, "student": {"epochs": 2}},
    ),
)
