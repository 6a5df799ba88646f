"""Los-loop (METR-LA): speed at 207 road sensors, every five minutes of a week."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cloud_hub.pipeline.clean import RawSample
from protos.contract.samples import Window, encode_window
from scripts.datasets import Example, raw


def samples(root: Path, *, sensors: int = 207) -> Iterator[RawSample]:
    """One series; miles per hour."""
    path = root / "metr_la_los" / "los_speed.csv"
    with path.open(encoding="utf-8") as file:
        names = tuple(f"s{name}" for name in file.readline().strip().split(","))
        values = np.loadtxt(file, delimiter=",", dtype=np.float32)
    window = Window(channels=names[:sensors], values=np.ascontiguousarray(values[:, :sensors]))
    yield raw(encode_window(window), name="los-loop", source="los-loop")


EXAMPLES = (
    Example(
        name="road-speed",
        data="Los-loop: an hour in, an hour out, 207 sensors, split 70/10/20 % in time",
        samples=samples,
        reference="historical average, rmse/mae up to 3, 6, 9, 12 steps: 7.31/3.88, 7.96/4.17, 8.60/4.48, 9.26/4.83",
        figures=("rmse_up_to", "mae_up_to"),
        quick={"teacher": {"epochs": 1}, "student": {"epochs": 1}},
    ),
)
