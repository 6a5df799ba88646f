"""ETTh1: load and oil temperature of an electricity transformer, hourly."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cloud_hub.pipeline.clean import RawSample
from protos.contract.samples import Window, encode_window
from scripts.datasets import Example, raw

HOURS = (12 + 4 + 4) * 30 * 24  # the field's split: months of 30 days


def samples(root: Path, *, hours: int = HOURS) -> Iterator[RawSample]:
    """One series; shares of 0.2 and 0.2 part it as the field does."""
    with (root / "ett" / "ETTh1.csv").open(encoding="utf-8") as file:
        rows = list(csv.reader(file))
    values = np.array([row[1:] for row in rows[1 : hours + 1]], np.float32)
    yield raw(encode_window(Window(channels=tuple(rows[0][1:]), values=values)), name="ETTh1", source="ETTh1")


EXAMPLES = (
    Example(
        name="transformer-load",
        data="ETTh1: 336 hours in, 96 out, 7 channels, split 12/4/4 months",
        samples=samples,
        reference="NLinear 0.374 (mae 0.394), DLinear 0.375 (0.399), Informer 0.865 (0.713); repeat-last 1.294 (0.713)",
        figures=("mae",),
        quick={"preprocess": {"lookback": 336, "horizon": 96, "stride": 8}, "teacher": {"epochs": 1}, "student": {"epochs": 1}},
    ),
)
