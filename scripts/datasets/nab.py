"""NAB: series of real machines and roads with the times at which something was wrong."""

import csv
import json
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np

from cloud_hub.pipeline.clean import RawSample
from protos.contract.outputs import ANOMALY, NORMAL
from protos.contract.samples import Window, encode_window
from scripts.datasets import Example, raw

MACHINE = "realKnownCause/machine_temperature_system_failure.csv"
ROAD = "realTraffic/TravelTime_387.csv"


def samples(
    root: Path, *, series: str = MACHINE, steps: int = 64, stride: int = 8, train: float = 0.5, val: float = 0.15
) -> Iterator[RawSample]:
    """Windows in the order of time: the first share trains, the next validates, the rest tests.

    One that overlaps a window of NAB's own is an anomaly. Between two parts ``steps`` readings are left out, so that no reading
    is in both.
    """
    folder = root / "nab"
    spans = [
        tuple(datetime.fromisoformat(each.split(".")[0]) for each in span)
        for span in json.loads((folder / "windows.json").read_text(encoding="utf-8"))[series]
    ]
    with (folder / "data" / series).open(encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    times = [datetime.fromisoformat(row[0]) for row in rows]
    values = np.array([[row[1]] for row in rows], np.float32)
    wrong = np.array([any(start <= at <= end for start, end in spans) for at in times])
    borders = (0, int(len(rows) * train), int(len(rows) * (train + val)), len(rows))
    for split, first, last in zip(("train", "val", "test"), borders, borders[1:], strict=False):
        begin = first + (steps if first else 0)
        for start in range(begin, last - steps + 1, stride):
            part = slice(start, start + steps)
            window = Window(channels=("value",), values=values[part])
            label = ANOMALY if wrong[part].any() else NORMAL
            yield raw(encode_window(window), label, name=f"{times[start]:%m-%d %H:%M}", source=split, split=split)


EXAMPLES = (
    Example(
        name="machine-temperature",
        data="NAB machine temperature: windows of 5.3 h, split in time, two failures in test",
        samples=samples,
        reference="distance of the window's mean from the training mean: 0.953",
        figures=("found_at_1_percent_false_alarms", "best_f1"),
        quick={"teacher": {"epochs": 2}, "student": {"epochs": 2}},
    ),
    Example(
        name="road-travel-time",
        data="NAB travel time 387: windows of 32 readings, split in time",
        samples=partial(samples, series=ROAD, steps=32, stride=1, train=0.4, val=0.2),
        reference="distance of the window's mean from the training mean: 0.916; one failure in test, 36 windows of it",
        figures=("found_at_1_percent_false_alarms", "best_f1"),
        quick={"teacher": {"epochs": 2}, "student": {"epochs": 2}},
    ),
)
