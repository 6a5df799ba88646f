"""What can be counted of samples of any kind: columns of numbers and of categories."""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cloud_hub.pipeline import columns, images
from cloud_hub.pipeline.clean import CleaningReport, Decode, RawSample
from edge_agent.infer.inputs import Content, decode_content
from protos.contract.errors import InvalidMessage
from protos.contract.inputs import SampleKind
from protos.contract.samples import Row, Window

SIDE = 48  # pixels of a picture here: for brightness, contrast and an example that shows something
BINS = 10
_FLOOR = 1e-3  # share of a bin at least: an empty one must not make the distance infinite
_COLUMNS = 512  # or channels: no page shows more
_READINGS = 512  # of one channel of one window
_EDGE = 1e-6


def decoder(kind: SampleKind) -> Decode:
    """From a stored sample to its content, with the key that two have in common that are the same."""
    if kind is SampleKind.IMAGE:
        return images.decoder(SIDE, SIDE, 3)

    def decode(sample: RawSample, report: CleaningReport) -> tuple[bytes, Content] | None:
        try:
            return hashlib.sha256(sample.content).digest(), decode_content(sample.content, kind)
        except InvalidMessage:
            report.drop(f"not a readable {kind.name.lower()}", sample.name or sample.id)
            return None

    return decode


@dataclass(slots=True, eq=False)
class Measured:
    """Of several samples; readings of one sample stand one after the other."""

    numbers: dict[str, NDArray[np.float64]] = field(default_factory=dict)  # NaN: missing
    categories: dict[str, Counter[str]] = field(default_factory=dict)
    missing: dict[str, float] = field(default_factory=dict)  # share, of categories


def measured(kind: SampleKind, contents: Sequence[Content]) -> Measured:
    """Pictures: brightness, contrast, sharpness and colour; windows: channels; rows: columns; texts: lengths."""
    match kind:
        case SampleKind.IMAGE:
            return Measured(numbers=_of_pictures([each for each in contents if isinstance(each, np.ndarray)]))
        case SampleKind.WINDOW:
            return Measured(numbers=_of_windows([each for each in contents if isinstance(each, Window)]))
        case SampleKind.ROW:
            return _of_rows([each for each in contents if isinstance(each, dict)])
    texts = [each for each in contents if isinstance(each, str)]
    lengths = {"characters": [float(len(text)) for text in texts], "words": [float(len(text.split())) for text in texts]}
    capitals = [sum(c.isupper() for c in text) / max(1, len(text)) for text in texts]
    digits = [sum(c.isdigit() for c in text) / max(1, len(text)) for text in texts]
    numbers = {**lengths, "share of capitals": capitals, "share of digits": digits}
    return Measured(numbers={name: np.array(values, np.float64) for name, values in numbers.items()})


def distance(before: NDArray[np.float64], after: NDArray[np.float64]) -> float:
    """Population stability index over the deciles of ``before``: above 0.1 a change, above 0.25 a large one. NaN: too few."""
    before, after = before[np.isfinite(before)], after[np.isfinite(after)]
    if len(before) < BINS or len(after) < BINS:
        return math.nan
    edges = np.unique(np.quantile(before, np.linspace(0, 1, BINS + 1)[1:-1]))
    there = [np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1) for values in (before, after)]
    return _index(there[0] / len(before), there[1] / len(after))


def category_distance(before: Mapping[str, int], after: Mapping[str, int]) -> float:
    """The same over categories. NaN: too few."""
    first, second = sum(before.values()), sum(after.values())
    if first < BINS or second < BINS:
        return math.nan
    names = sorted(set(before) | set(after))
    shares = [np.array([counts.get(name, 0) / total for name in names]) for counts, total in ((before, first), (after, second))]
    return _index(shares[0], shares[1])


def histogram(values: NDArray[np.float64], bins: int = 24) -> tuple[list[float], list[int]]:
    """Edges and counts over what lies within 0.5 % of the ends: one typing error must not flatten the rest."""
    there = values[np.isfinite(values)]
    if not len(there):
        return [], []
    low, high = np.quantile(there, (0.005, 0.995))
    if high - low < _EDGE * max(1.0, abs(float(high))):
        low, high = float(there.min()) - 0.5, float(there.max()) + 0.5
    counts, edges = np.histogram(there, bins=bins, range=(float(low), float(high)))
    return [float(edge) for edge in edges], [int(count) for count in counts]


def steps_of(window: Window) -> set[bytes]:
    """What tells whether two windows share readings: each step with three channels or more, or each run of three."""
    values = np.ascontiguousarray(np.nan_to_num(window.values, nan=-1e30))
    run = max(1, math.ceil(3 / values.shape[1]))
    if len(values) < run or not np.isfinite(values).all():
        return set()
    return {hashlib.sha256(values[i : i + run].tobytes()).digest()[:12] for i in range(len(values) - run + 1)}


def look(frame: NDArray[np.uint8]) -> bytes:
    """What pictures share that differ in size or noise alone: 64 bits, each whether a part is brighter than the next."""
    grey = frame.astype(np.float64).mean(2)
    rows, cols = (np.linspace(0, side, count + 1).astype(int) for side, count in zip(grey.shape, (8, 9), strict=True))
    parts = np.array([[grey[a:b, c:d].mean() for c, d in _pairs(cols)] for a, b in _pairs(rows)])
    return np.packbits(parts[:, 1:] > parts[:, :-1] + 1).tobytes()


def _pairs(edges: NDArray[np.int64]) -> Iterable[tuple[int, int]]:
    return zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)


def _of_pictures(frames: Sequence[NDArray[np.uint8]]) -> dict[str, NDArray[np.float64]]:
    found: dict[str, list[float]] = {"brightness": [], "contrast": [], "sharpness": [], "colour": []}
    for frame in frames:
        light = frame.astype(np.float64) / 255
        grey = light.mean(2)
        found["brightness"].append(float(grey.mean()))
        found["contrast"].append(float(grey.std()))
        found["sharpness"].append(float(np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean()))
        found["colour"].append(float((light.max(2) - light.min(2)).mean()))
    return {name: np.array(values, np.float64) for name, values in found.items()}


def _of_windows(windows: Sequence[Window]) -> dict[str, NDArray[np.float64]]:
    names, _ = columns.common((window.channels for window in windows), _COLUMNS)
    return {name: columns.channel(windows, name, _READINGS) for name in names}


def _of_rows(rows: Sequence[Row]) -> Measured:
    found = Measured()
    for name in columns.common(rows, _COLUMNS)[0]:
        cells = [row.get(name) for row in rows]
        if columns.is_numeric(cells):
            found.numbers[name] = columns.numbers(cells)
        else:
            found.categories[name] = columns.categories(cells)
            found.missing[name] = sum(cell is None for cell in cells) / max(1, len(cells))
    return found


def _index(before: NDArray[np.float64], after: NDArray[np.float64]) -> float:
    before, after = np.maximum(before, _FLOOR), np.maximum(after, _FLOOR)
    return float(((after - before) * np.log(after / before)).sum())
