"""carOBD: what a car's computer says once a second, and in which kind of traffic it drives."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cloud_hub.pipeline.clean import RawSample
from protos.contract.samples import Window, encode_window
from scripts.datasets import Example, raw

LABELS = ("idle", "campus", "commute", "highway")
_DRIVES = {"idle": "idle", "ufpe": "campus", "live": "commute", "drive": "highway"}  # long: two drives are too few to part
_SPLITS = ("train", "test", "train", "val")  # of the four drives of a kind, by name


def samples(root: Path, *, steps: int = 180, stride: int = 15) -> Iterator[RawSample]:
    """Windows of three minutes; a drive is a source."""
    for prefix, label in _DRIVES.items():
        for path, split in zip(sorted((root / "carobd").glob(f"{prefix}*.csv")), _SPLITS, strict=True):
            with path.open(encoding="utf-8") as file:
                rows = list(csv.reader(file))
            channels = tuple(_name(cell) for cell in rows[0])
            # every row ends in a comma, which the head does not; three logs have a row that was cut off
            whole = [row[: len(channels)] for row in rows[1:] if len(row) >= len(channels)]
            values = np.array(whole, np.float64).astype(np.float32)
            for start in range(0, len(values) - steps + 1, stride):
                window = Window(channels=channels, values=values[start : start + steps])
                name = f"{path.stem}@{start}"
                yield raw(encode_window(window), label, name=name, source=path.stem, split=split, group="")


def _name(head: str) -> str:
    return head.split("(")[0].strip().lower().replace("tine", "time")


EXAMPLES = (
    Example(
        name="traffic-kind",
        data="carOBD: windows of 180 s at 1 Hz, split by drive",
        samples=samples,
        labels=LABELS,
        reference="gradient boosting on mean, deviation, least and most of each channel: 0.61",
        figures=("accuracy",),
        quick={"teacher": {"epochs": 2}, "student": {"epochs": 2}},
    ),
)
