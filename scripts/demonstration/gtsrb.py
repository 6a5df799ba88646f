"""German traffic signs as ``train/<class>/<class id>-<track>_<frame>.png`` and ``drift/...``: day to dark.

A track is one physical sign in about fifteen consecutive frames, so it is the source: its frames never part.
"""

import csv
import io
import sys
import tarfile
from pathlib import Path

from PIL import Image

SPLITS = {"train_day": "train", "val_day": "train", "drift_dark": "drift"}
MAX_MEMBER_BYTES = 1 << 20


def main() -> None:
    if len(sys.argv) != 3:
        raise SystemExit("usage: scripts/import_gtsrb FROM TO")
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    if not (source / "index.csv").is_file():
        raise SystemExit(f"import_gtsrb: {source / 'index.csv'} is missing")
    with (source / "index.csv").open(newline="") as file:
        index = {row["path"]: row for row in csv.DictReader(file) if row["split"] in SPLITS}
    written = sum(_archive(source / f"{split}.tar.gz", index, target) for split in SPLITS)
    print(f"{written} images in {target}; next: scripts/demo --data {target}")


def _archive(path: Path, index: dict[str, dict[str, str]], target: Path) -> int:
    """Members are read one by one and written under names from the index, never under their own."""
    written = 0
    with tarfile.open(path) as archive:
        for member in archive:
            row = index.get(member.name.removeprefix("./"))
            file = archive.extractfile(member) if member.isfile() and member.size <= MAX_MEMBER_BYTES else None
            if row is None or file is None:
                continue
            folder = target / SPLITS[row["split"]] / row["class_name"]
            folder.mkdir(parents=True, exist_ok=True)
            with Image.open(io.BytesIO(file.read())) as image:
                name = f"{row['split']}-{int(row['class_id']):02d}-{int(row['track']):05d}_{int(row['frame']):05d}.png"
                image.convert("RGB").save(folder / name)
            written += 1
    return written


if __name__ == "__main__":
    main()
