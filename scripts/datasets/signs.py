"""Traffic signs (GTSRB, Stallkamp et al., 2012) as 32 x 32 photos: trained by day, held out by track."""

import csv
import tarfile
from collections.abc import Iterator
from pathlib import Path

from cloud_hub.pipeline.clean import RawSample
from scripts.datasets import Example, folder, raw

_MAX_MEMBER_BYTES = 1 << 20


def labels(data: Path) -> tuple[str, ...]:
    with (data / "gtsrb32" / "index.csv").open(encoding="utf-8") as file:
        return tuple(sorted({row["class_name"] for row in csv.DictReader(file) if row["split"] == "train_day"}))


def samples(data: Path) -> Iterator[RawSample]:
    """``val_day`` is held out; half of its tracks validate, the other half test."""
    with (data / "gtsrb32" / "index.csv").open(encoding="utf-8") as file:
        index = {row["path"]: row for row in csv.DictReader(file)}
    for name, split in (("train_day", "train"), ("val_day", "val")):
        with tarfile.open(data / "gtsrb32" / f"{name}.tar.gz") as archive:
            for member in archive:
                content = archive.extractfile(member)
                if content is None or member.size > _MAX_MEMBER_BYTES or member.name not in index:
                    continue
                row = index[member.name]
                source = f"{row['class_id']}-{row['track']}"
                yield raw(content.read(), row["class_name"], name=member.name, source=source, split=split)


EXAMPLES = (
    (
        Example(
            name="signs",
            data="gtsrb32: photos of traffic signs by day, held out by track",
            samples=samples,
            labels=labels(folder()),
            reference="none for this selection; the same network in fp32",
            figures=("confidence",),
            quick={"teacher": {"epochs": 2}, "student": {"epochs": 2}},
        ),
    )
    if (folder() / "gtsrb32").is_dir()  # its classes are read from it
    else ()
)
