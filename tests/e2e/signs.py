"""Photos of traffic signs as cameras and annotators have them: by day for everybody, in the dark for the field."""

import csv
import io
import tarfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_NOISE = 2.0  # grey levels: no two cameras make the same picture of a thing


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Photo:
    split: str  # "train_day", "val_day" or "drift_dark"
    label: str
    track: str  # one physical sign in some fifteen frames
    pixels: NDArray[np.uint8]  # (32, 32, 3) RGB


def photos(folder: Path) -> list[Photo]:
    """In the order of the archives; classes that are new in the field are left out."""
    with (folder / "index.csv").open(newline="") as file:
        index = {row["path"]: row for row in csv.DictReader(file)}
    found = []
    for split in ("train_day", "val_day", "drift_dark"):
        with tarfile.open(folder / f"{split}.tar.gz") as archive:
            for member in archive:
                row = index.get(member.name.removeprefix("./"))
                packed = archive.extractfile(member) if member.isfile() else None
                if row is not None and packed is not None:
                    with Image.open(io.BytesIO(packed.read())) as image:
                        pixels = np.asarray(image.convert("RGB"))
                    found.append(
                        Photo(split=split, label=row["class_name"], track=f"{row['class_id']}-{row['track']}", pixels=pixels)
                    )
    return found


def halves(chosen: Iterable[Photo]) -> tuple[list[Photo], list[Photo]]:
    """Every second track of each class to either side: no sign is on both."""
    chosen = list(chosen)
    tracks: dict[str, list[str]] = defaultdict(list)
    for photo in chosen:
        if photo.track not in tracks[photo.label]:
            tracks[photo.label].append(photo.track)
    first = {track for own in tracks.values() for track in sorted(own)[::2]}
    return [photo for photo in chosen if photo.track in first], [photo for photo in chosen if photo.track not in first]


def write_dataset(folder: Path, **splits: Sequence[Photo]) -> None:
    """As ``hubctl dataset import --dir`` takes them: SPLIT/LABEL/TRACK_NUMBER.png."""
    for split, chosen in splits.items():
        for number, photo in enumerate(chosen):
            target = folder / split / photo.label
            target.mkdir(parents=True, exist_ok=True)
            Image.fromarray(photo.pixels).save(target / f"{photo.track}_{number:04}.png")


def write_scene(folder: Path, name: str, chosen: Sequence[Photo], seed: int) -> dict[str, str]:
    """What one camera sees of them, in an order of its own; label by file name."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    labels = {}
    for place, number in enumerate(rng.permutation(len(chosen))):
        photo, file = chosen[number], f"{name}-{seed}-{place:04}.png"
        noisy = np.clip(photo.pixels + rng.normal(0, _NOISE, photo.pixels.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / file)
        labels[file] = photo.label
    return labels
