"""Driver behaviour (Ferreira et al., 2017): a phone's accelerometer and gyroscope, with the times of aggressive manoeuvres."""

import csv
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloud_hub.pipeline.clean import RawSample
from protos.contract.samples import Window, encode_window
from scripts.datasets import Example, raw

CHANNELS = ("ax", "ay", "az", "gx", "gy", "gz")  # m/s2 and rad/s, axes turned to the Earth's
RATE = 50.0  # per second
LABELS = ("normal", "acceleration", "braking", "left turn", "right turn")
_EVENTS = {
    "aceleracao_agressiva": "acceleration",
    "freada_agressiva": "braking",
    "curva_esquerda_agressiva": "left turn",
    "curva_direita_agressiva": "right turn",
    "evento_nao_agressivo": "normal",
    "troca_faixa_direita_agressiva": "",  # there are two: none could be trained, validated and tested
}
_SPLITS = ("train", "val", "train", "test", "train", "test")  # of the six events of a kind, in the order of time
_NORMAL_S = 12.0  # a stretch in which nothing happens is parted into pieces of this length, which are parted among the splits
_MARGIN_S = 1.0  # around an event, which is neither it nor normal


def samples(root: Path, *, window_s: float = 2.0, stride_s: float = 0.2, turn: int = 0) -> Iterator[RawSample]:
    """Windows that lie in an event, or away from all of them; an event is a source, so that none is in two splits.

    ``turn`` deals the events to other splits: 0..5.
    """
    for trip in ("trip17", "trip20"):
        folder = root / "driver_events" / trip
        times, values = _readings(folder)
        seen: Counter[str] = Counter()
        for label, start, end in _intervals(folder, float(times[-1])):
            if not label:
                continue
            split = _SPLITS[(seen[label] + turn) % len(_SPLITS)]
            source = f"{trip}-{label}-{seen[label]}"
            seen[label] += 1
            steps, stride = round(window_s * RATE), stride_s if label != "normal" else 1.0
            for at in np.arange(start, end - window_s + 1e-6, stride):
                first = int(np.searchsorted(times, at))
                part = values[first : first + steps]
                if len(part) == steps:
                    content = encode_window(Window(channels=CHANNELS, values=part))
                    yield raw(content, label, name=f"{source}@{at:.1f}", source=source, split=split, group=trip)


def _readings(folder: Path) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Seconds since the trip began, at RATE, and ``(N, 6)``: the sensors have clocks of their own."""
    began = json.loads((folder / "viagem.json").read_text(encoding="utf-8"))["firstCollectionUptimeNanos"]
    tables = [
        np.loadtxt(folder / name, delimiter=",", skiprows=1, usecols=(1, 2, 3, 4))
        for name in ("acelerometro_terra.csv", "giroscopio_terra.csv")
    ]
    seconds = [(table[:, 0] - began) / 1e9 for table in tables]
    times = np.arange(max(each[0] for each in seconds), min(each[-1] for each in seconds), 1 / RATE)
    columns = [np.interp(times, at, table[:, i]) for at, table in zip(seconds, tables, strict=True) for i in (1, 2, 3)]
    return times, np.stack(columns, 1).astype(np.float32)


def _intervals(folder: Path, end: float) -> Iterator[tuple[str, float, float]]:
    """(label, start, end) in seconds, in the order of time: the events, and what lies between them."""
    last = 0.0
    with (folder / "groundTruth.csv").open(encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    for name, start, stop in [*rows, ("", str(end), str(end))]:
        begin, until = float(start), float(stop)
        for piece in np.arange(last, begin - _MARGIN_S - 2.0, _NORMAL_S):
            yield "normal", float(piece), min(float(piece) + _NORMAL_S, begin - _MARGIN_S)
        if name:
            middle, half = (begin + until) / 2, max(until - begin, 2.0) / 2 + 0.2
            yield _EVENTS[name], middle - half, middle + half
        last = until + _MARGIN_S


EXAMPLES = (
    Example(
        name="driver-events",
        data="driver events: windows of 2 s at 50 Hz, split by event in the order of time",
        samples=samples,
        labels=LABELS,
        reference="always 'normal': 0.17",
        figures=("accuracy",),
        quick={"teacher": {"epochs": 3}, "student": {"epochs": 3}},
    ),
)
