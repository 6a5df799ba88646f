"""Scenes composed from real photos: traffic signs (GTSRB, Stallkamp et al., 2012) at random places and sizes on other pictures
(CIFAR-10), among patches of such pictures cut out in the same way. The scenes are made here; nobody took them.

Signs of one split come from tracks of that split alone, and so do the pictures behind them.
"""

import csv
import io
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cloud_hub.pipeline.clean import RawSample
from cloud_hub.pipeline.tasks.object_detection.boxes import write
from scripts.datasets import Example, folder, raw

SIDE = 96
COUNTS = {"train": 2000, "val": 300, "test": 400}
_LEAST, _MOST = 16, 44  # pixels of a sign's side
_SIGNS = (0, 1, 1, 2, 2, 3)  # of a scene
_PATCHES = 5
_MAX_MEMBER_BYTES = 1 << 20

Pixels = NDArray[np.uint8]  # (H, W, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    label: str
    photo: Pixels
    box: tuple[float, float, float, float]  # left, top, right, bottom as shares of the photo


def labels(data: Path) -> tuple[str, ...]:
    return tuple(sorted({row["class_name"] for row in _index(data) if row["split"] == "train_day"}))


def samples(data: Path, counts: Mapping[str, int] = COUNTS) -> Iterator[RawSample]:
    names, signs, pictures = labels(data), _signs(data), _pictures(data)
    for number, (split, count) in enumerate(counts.items()):
        draw = np.random.default_rng((6, number))
        for i in range(count):
            scene, boxes = compose(signs[split], pictures[split], names, draw)
            yield raw(scene, write(boxes, names), name=f"{split}-{i}", source=f"{split}-{i}", split=split)


def compose(
    signs: list[Sign], pictures: list[Pixels], names: tuple[str, ...], draw: np.random.Generator
) -> tuple[bytes, NDArray[np.float32]]:
    """A PNG, and its boxes as in ``object_detection.boxes``."""
    canvas = _sized(pictures[draw.integers(len(pictures))], SIDE, SIDE).astype(np.float32)
    for _ in range(draw.integers(_PATCHES + 1)):
        width, height = draw.integers(_LEAST, _MOST, 2)
        left, top = draw.integers(SIDE - width), draw.integers(SIDE - height)
        _paste(canvas, _sized(pictures[draw.integers(len(pictures))], int(width), int(height)), int(left), int(top))
    boxes: list[tuple[float, ...]] = []
    for _ in range(draw.choice(_SIGNS)):
        sign = signs[draw.integers(len(signs))]
        side = int(np.exp(draw.uniform(np.log(_LEAST), np.log(_MOST))) / (sign.box[2] - sign.box[0]))
        left, top = (int(draw.integers(-side // 8, SIDE - side * 7 // 8)) for _ in range(2))
        box = [left + sign.box[0] * side, top + sign.box[1] * side, left + sign.box[2] * side, top + sign.box[3] * side]
        if min(box) < 0 or max(box) > SIDE or any(_meet(box, other[1:]) for other in boxes):
            continue
        _paste(canvas, _sized(sign.photo, side, side), left, top)
        boxes.append((names.index(sign.label), *box))
    canvas *= np.exp(draw.uniform(np.log(0.5), np.log(1.2)))  # the light of the day
    canvas += draw.normal(0, draw.uniform(0, 6), canvas.shape)
    found = np.array(boxes, np.float32).reshape(-1, 5)
    found[:, 1:] /= SIDE
    return _png(np.clip(canvas, 0, 255).astype(np.uint8)), found


def _paste(canvas: NDArray[np.float32], patch: Pixels, left: int, top: int) -> None:
    """With soft edges and round corners, so that not the cut tells where something is."""
    height, width = patch.shape[:2]
    y, x = np.mgrid[0:height, 0:width]
    near = np.minimum(np.minimum(x + 1, width - x), np.minimum(y + 1, height - y))
    mask = np.clip(near / 3, 0, 1).astype(np.float32)[..., None]
    x0, y0, x1, y1 = max(0, left), max(0, top), min(SIDE, left + width), min(SIDE, top + height)
    inside = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
    part = canvas[y0:y1, x0:x1]
    part += mask[inside] * (patch[inside] - part)


def _meet(box: list[float], other: tuple[float, ...]) -> bool:
    return max(box[0], other[0]) < min(box[2], other[2]) and max(box[1], other[1]) < min(box[3], other[3])


def _signs(data: Path) -> dict[str, list[Sign]]:
    index = {row["path"]: row for row in _index(data)}
    held = _held_out(index.values())
    found: dict[str, list[Sign]] = {name: [] for name in COUNTS}
    for archive in ("train_day", "val_day"):
        for name, photo in _photos(data / "gtsrb32" / f"{archive}.tar.gz"):
            row = index[name]
            width, height = float(row["orig_w"]), float(row["orig_h"])
            box = [float(row[f"roi_{side}"]) for side in ("x1", "y1", "x2", "y2")]
            sides = (box[0] / width, box[1] / height, box[2] / width, box[3] / height)
            split = "train" if archive == "train_day" else held[row["class_name"], row["track"]]
            found[split].append(Sign(label=row["class_name"], photo=photo, box=sides))
    return found


def _held_out(rows: Iterable[Mapping[str, str]]) -> dict[tuple[str, str], str]:
    """Of each class every other track tests, the first one included: some have only one."""
    tracks = sorted({(row["class_name"], row["track"]) for row in rows if row["split"] == "val_day"})
    turns: Counter[str] = Counter()
    held = {}
    for label, track in tracks:
        held[label, track] = "val" if turns[label] % 2 else "test"
        turns[label] += 1
    return held


def _pictures(data: Path) -> dict[str, list[Pixels]]:
    """Every seventh validates, every other seventh tests."""
    [archive] = (data / "cifar10_jpg_train").glob("*.tar.gz")
    found: dict[str, list[Pixels]] = {name: [] for name in COUNTS}
    for i, (_, photo) in enumerate(_photos(archive)):
        found[{0: "val", 1: "test"}.get(i % 7, "train")].append(photo)
    return found


def _photos(path: Path) -> Iterator[tuple[str, Pixels]]:
    """Members are read one by one, and nothing is written."""
    with tarfile.open(path) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() and member.size <= _MAX_MEMBER_BYTES else None
            if file is not None and member.name.endswith((".ppm", ".jpg", ".png")):
                with Image.open(io.BytesIO(file.read())) as photo:
                    yield member.name.removeprefix("./"), np.asarray(photo.convert("RGB"))


def _index(data: Path) -> list[dict[str, str]]:
    with (data / "gtsrb32" / "index.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _sized(picture: Pixels, width: int, height: int) -> Pixels:
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))


def _png(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png", compress_level=1)
    return buffer.getvalue()


def _there() -> bool:
    return (folder() / "gtsrb32").is_dir() and (folder() / "cifar10_jpg_train").is_dir()


EXAMPLES = (
    (
        Example(
            name="signs-in-scenes",
            data="scenes composed from real photos (gtsrb32 on cifar10_jpg_train): 2,000 / 300 / 400, signs parted by track",
            samples=samples,
            labels=labels(folder()),
            reference="none: composed here",
            figures=("map75", "boxes"),
            quick={"teacher": {"epochs": 1}, "student": {"epochs": 1}},
        ),
    )
    if _there()
    else ()
)
