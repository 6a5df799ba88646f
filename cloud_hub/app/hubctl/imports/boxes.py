"""Pictures with boxes, as COCO (one JSON file) or YOLO (a text file a picture) describe them."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from cloud_hub.app.hubctl.failure import refused
from cloud_hub.app.hubctl.imports.piece import MAX_SAMPLE_BYTES, SPLITS, Piece, Refusals

MAX_JSON_BYTES = 1 << 30
_SUFFIXES = {".png", ".jpg", ".jpeg", ".ppm", ".pgm", ".bmp"}


class CocoSource:
    """Pictures that ``path`` names, below ``folder``. Boxes are pixels [left, top, width, height]; crowds are left out."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.refusals = Refusals()
        self._folder = folder
        if path.stat().st_size > MAX_JSON_BYTES:
            raise refused(f"{path} is larger than {MAX_JSON_BYTES >> 20} MiB: part it")
        try:
            whole = json.loads(path.read_bytes())
            names = {each["id"]: str(each["name"]) for each in whole["categories"]}
            self._pictures = {each["id"]: each for each in whole["images"]}
            self._boxes: dict[Any, list[tuple[str, list[float]]]] = {id: [] for id in self._pictures}
            crowds = 0
            for each in whole.get("annotations", []):
                crowds += bool(each.get("iscrowd"))
                if not each.get("iscrowd"):
                    sides = [float(side) for side in each["bbox"]]
                    self._boxes[each["image_id"]].append((names[each["category_id"]], sides))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise refused(f"{path} is no COCO file: {type(error).__name__} {error}") from error
        if crowds:
            self.refusals.notes.append(f"{crowds} boxes around crowds are left out")

    def __len__(self) -> int:
        return len(self._pictures)

    def __iter__(self) -> Iterator[Piece]:
        for id, picture in self._pictures.items():
            name = str(picture.get("file_name", id))
            data = _read(self._folder, name, self.refusals)
            if data is None:
                continue
            try:
                width, height = _size(data)
                boxes = [(label, (x, y, x + w, y + h)) for label, (x, y, w, h) in self._boxes[id]]
                label = dumped([(label, (a / width, b / height, c / width, d / height)) for label, (a, b, c, d) in boxes])
            except (ValueError, TypeError) as error:
                self.refusals.add(name, str(error))
                continue
            yield Piece(name=name, data=data, label=label, source=str(picture.get("source", name)))


class YoloSource:
    """``images/**`` with ``labels/**.txt`` beside them, or both in one folder; lines ``class x y width height`` in shares.

    Args:
        known: the data set's labels, for class numbers where no ``classes.txt`` or ``data.yaml`` names them.
    """

    def __init__(self, folder: Path, known: Sequence[str]) -> None:
        self.refusals = Refusals()
        if not folder.is_dir():
            raise refused(f"{folder} is not a folder")
        self._images = folder / "images" if (folder / "images").is_dir() else folder
        self._texts = folder / "labels" if (folder / "labels").is_dir() else folder
        self._files = sorted(p for p in self._images.rglob("*") if p.suffix.lower() in _SUFFIXES and p.is_file())
        self._names = _names(folder) or list(known)
        if not self._files:
            raise refused(f"{folder} holds no picture")

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[Piece]:
        for path in self._files:
            relative = path.relative_to(self._images)
            name = relative.as_posix()
            data = _read(self._images, name, self.refusals)
            if data is None:
                continue
            text = (self._texts / relative).with_suffix(".txt")
            try:
                label = dumped(self._boxes(text)) if text.is_file() else ""
            except (ValueError, IndexError) as error:
                self.refusals.add(name, f"{text.name}: {error}")
                continue
            split = relative.parts[0] if len(relative.parts) > 1 and relative.parts[0] in SPLITS else ""
            yield Piece(name=name, data=data, label=label, source=name, split=split)

    def _boxes(self, text: Path) -> list[tuple[str, tuple[float, float, float, float]]]:
        """Raises ValueError, IndexError."""
        found = []
        for line in text.read_text(encoding="utf-8").splitlines():
            if not line.strip():
                continue
            words = line.split()
            if len(words) < 5:
                raise ValueError(f"a box is CLASS X Y WIDTH HEIGHT, got {line[:60]!r}")
            kind, (x, y, width, height) = int(words[0]), (float(word) for word in words[1:5])
            if not 0 <= kind < len(self._names):
                raise ValueError(f"class {kind} is outside the {len(self._names)} labels")
            found.append((self._names[kind], (x - width / 2, y - height / 2, x + width / 2, y + height / 2)))
        return found


def dumped(boxes: Sequence[tuple[str, tuple[float, float, float, float]]]) -> str:
    """As the hub wants a label of boxes; what reaches out of the picture is cut off there. Raises ValueError."""
    kept = []
    for label, sides in boxes:
        left, top, right, bottom = (min(1.0, max(0.0, side)) for side in sides)
        if not (right - left > 1e-6 and bottom - top > 1e-6):
            raise ValueError(f"a box of {label!r} is empty or outside of the picture")
        kept.append({"label": label, "box": [left, top, right, bottom]})
    return json.dumps(kept, allow_nan=False)


def _read(folder: Path, name: str, refusals: Refusals) -> bytes | None:
    where = PurePosixPath(name)
    if where.is_absolute() or ".." in where.parts:
        refusals.add(name, "a path must stay inside the folder")
        return None
    path = folder / where
    try:
        size = path.stat().st_size
        if size <= MAX_SAMPLE_BYTES:
            return path.read_bytes()
        refusals.add(name, f"{size} bytes, more than {MAX_SAMPLE_BYTES}")
    except OSError as error:
        refusals.add(name, error.strerror or str(error))
    except ValueError as error:  # a NUL, or what the file system has no bytes for
        refusals.add(name, str(error))
    return None


def _size(data: bytes) -> tuple[int, int]:
    """Of the file itself: what COCO says of it may be of another copy. Raises ValueError."""
    import io

    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as picture:
            return picture.size
    except (OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"not a readable picture: {error}") from error


def _names(folder: Path) -> list[str]:
    """Class names in index order; none where no file says them."""
    try:
        if (listed := folder / "classes.txt").is_file():
            return [line.strip() for line in listed.read_text(encoding="utf-8").splitlines() if line.strip()]
        if (described := folder / "data.yaml").is_file():
            names = (yaml.safe_load(described.read_text(encoding="utf-8")) or {}).get("names") or []
            return [str(names[key]) for key in sorted(names)] if isinstance(names, dict) else [str(name) for name in names]
    except (yaml.YAMLError, AttributeError, TypeError, ValueError, RecursionError) as error:
        raise refused(f"{folder}: its class names cannot be read: {error}") from error
    return []
