"""NASA battery ageing, B0018: one cell discharged 132 times, until it held a quarter less."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cloud_hub.pipeline.clean import RawSample
from protos.contract.samples import Window, encode_window
from scripts.datasets import Example, raw

CHANNELS = ("voltage", "current", "temperature")  # without the time: a device does not know when a discharge began
_LOADED_A = 1.0  # a cell that gives more than this is being discharged
_SPLITS = ("train", "train", "val", "train", "test")  # of five cycles in a row: young and old ones are in every split


def samples(root: Path, *, steps: int = 32, stride: int = 8) -> Iterator[RawSample]:
    """Windows of ``steps`` readings (about five minutes), labelled with the Ah still to come; a discharge is a source."""
    table = np.loadtxt(root / "battery_nasa" / "B0018.csv", delimiter=",", skiprows=1)
    for number, cycle in enumerate(np.unique(table[:, 6])):
        rows = table[table[:, 6] == cycle]
        rows = rows[-rows[:, 1] > _LOADED_A]
        given = -(rows[1:, 1] + rows[:-1, 1]) / 2 * np.diff(rows[:, 5]) / 3600
        left = np.concatenate([given[::-1].cumsum()[::-1], [0.0]])
        source = f"cycle{int(cycle)}"
        for end in range(steps, len(rows) + 1, stride):
            values = rows[end - steps : end, :3].astype(np.float32)
            content = encode_window(Window(channels=CHANNELS, values=values))
            split = _SPLITS[number % len(_SPLITS)]
            yield raw(content, f"{left[end - 1]:.4f}", name=f"{source}@{end}", source=source, split=split)


EXAMPLES = (
    Example(
        name="battery-charge",
        data="NASA battery B0018: windows of 32 readings, split by discharge",
        samples=samples,
        reference="the mean 0.42 Ah, linear on the window 0.066",
        figures=("mae", "r2"),
        quick={"teacher": {"epochs": 2}, "student": {"epochs": 2}},
    ),
)
