"""NASA C-MAPSS FD001: sensors of turbofan engines from new to failure, and how many cycles are left."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cloud_hub.pipeline.clean import RawSample
from protos.contract.samples import Window, encode_window
from scripts.datasets import Example, raw

CHANNELS = ("setting1", "setting2", "setting3", *(f"sensor{i}" for i in range(1, 22)))


def samples(root: Path, *, steps: int = 30, stride: int = 1, engines: int = 100) -> Iterator[RawSample]:
    """Windows that end at every ``stride``-th cycle, labelled with the cycles left; an engine is a source."""
    table = np.loadtxt(root / "cmapss_fd001" / "train_FD001.txt", dtype=np.float64)
    for engine in range(1, engines + 1):
        cycles = table[table[:, 0] == engine, 2:].astype(np.float32)
        for end in range(steps, len(cycles) + 1, stride):
            window = Window(channels=CHANNELS, values=cycles[end - steps : end])
            name = f"engine{engine}@{end}"
            yield raw(encode_window(window), str(len(cycles) - end), name=name, source=f"engine{engine}", group="")


EXAMPLES = (
    Example(
        name="turbofan",
        data="C-MAPSS FD001: windows of 30 cycles, split by engine, life held at 125 cycles",
        samples=samples,
        reference="linear on the same split 18.5; published for another test set: linear 20.8, CNN 18.4, LSTM 16.1",
        figures=("mae", "r2"),
        quick={"teacher": {"epochs": 2}, "student": {"epochs": 2}},
    ),
)
