"""Under which conditions is a model worse than on the whole? A split is parted by what can be seen of its samples."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from cloud_hub.core.tasks import Metric
from cloud_hub.pipeline.data import Split, Splits
from cloud_hub.pipeline.evaluation.bootstrap import Drawn, Interval
from cloud_hub.pipeline.task import Outputs, Task
from edge_agent.infer.inputs import Content
from protos.contract.inputs import SampleKind
from protos.contract.samples import Window

LEAST = 20  # samples: the interval of fewer holds almost everything
MOST = 12  # values of one condition, the commonest
Devices = Mapping[str, Mapping[str, str]]  # by id: their labels. What shares one is a group
_NOBODY: Devices = {}
_LUMA = np.array([0.299, 0.587, 0.114])  # as devices make grey
_DAY = ((0, "night, 0 to 6 h"), (6, "morning, 6 to 12 h"), (12, "afternoon, 12 to 18 h"), (18, "evening, 18 to 24 h"))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slice:
    condition: str  # "brightness"
    name: str  # "low: up to 0.31"
    rows: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """How the metric stands on one slice."""

    condition: str
    name: str
    samples: int
    value: Interval
    surely_worse: bool  # its whole interval is on the bad side of the metric over all samples

    def as_json(self) -> dict[str, object]:
        return {
            "condition": self.condition,
            "name": self.name,
            "samples": self.samples,
            **self.value.as_json(),
            "surely_worse": self.surely_worse,
        }


def slices(split: Split, splits: Splits, columns: Sequence[str] = (), devices: Devices = _NOBODY) -> list[Slice]:
    """Each with LEAST samples or more. ``columns``: of rows or channels of windows, by which a user wants to part them."""
    found: list[Slice] = []
    for condition, said in (*_conditions(split, splits, columns), *_device_groups(split, devices)):
        names = Counter(name for name in said if name)
        usual = sorted((name for name, count in names.most_common(MOST) if count >= LEAST), key=_rank)
        if len(names) < 2:
            continue  # what holds for all of them is no condition
        places = np.array(said)
        found += [
            Slice(condition=condition, name=name, rows=np.flatnonzero(places == name)) for name in sorted(usual, key=_rank)
        ]
    return found


def unknown(split: Split, columns: Sequence[str]) -> list[str]:
    """Columns that no sample has a value of."""
    return [column for column in columns if not any(_cell(content, column) != "" for content in split.contents)]


def judge(task: Task, outputs: Outputs, split: Split, splits: Splits, parts: Sequence[Slice], *, seed: int = 0) -> list[Found]:
    """In the order of ``parts``, without those the metric says nothing of."""
    drawn = Drawn(task, split, splits, seed=seed)
    whole = task.value(outputs, split, splits)
    found = []
    for part in parts:
        if not task.comparable(split.take(part.rows), split):
            continue
        value = drawn.interval(outputs, part.rows)
        end = value.high if task.metric.higher_is_better else value.low
        found.append(
            Found(
                condition=part.condition,
                name=part.name,
                samples=len(part.rows),
                value=value,
                surely_worse=bool(task.metric.gain(end, whole) < 0),
            )
        )
    return found


def worst(found: Sequence[Found], metric: Metric) -> Found | None:
    """Of those that are surely worse than the whole, else of all; None where nothing was parted."""
    known = [each for each in found if np.isfinite(each.value.middle)]
    sure = [each for each in known if each.surely_worse]
    sign = 1 if metric.higher_is_better else -1
    return min(sure or known, key=lambda each: sign * each.value.middle, default=None)


def _conditions(split: Split, splits: Splits, columns: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """What is parted by, and for each sample the name of its part; "" where it has none."""
    kind = splits.input.kind
    if kind is SampleKind.IMAGE:
        yield "brightness", _thirds(_each(split, _brightness))
    if kind is SampleKind.TEXT:
        yield (
            "length in characters",
            _thirds(_each(split, _length)),
        )
    if kind in (SampleKind.WINDOW, SampleKind.ROW):
        yield "missing values", _missing(split, splits)
    if any(origin.at_ms for origin in split.origins):
        yield "time of day, UTC", [_span(origin.at_ms) for origin in split.origins]
    yield "device", list(split.groups)
    if len(split.origins) == len(split):
        yield "source", [origin.source for origin in split.origins]
    for column in columns:
        yield column, _column(split, column)


def _device_groups(split: Split, devices: Devices) -> Iterator[tuple[str, list[str]]]:
    """By each label; one that no two devices of the split share says no more than the devices themselves."""
    there = {name: devices[name] for name in sorted(set(split.groups)) if name in devices}
    for key in sorted({key for labels in there.values() for key in labels}):
        shared = Counter(labels[key] for labels in there.values() if key in labels)
        if max(shared.values()) > 1:
            yield f"devices by {key}", [there.get(name, {}).get(key, "") for name in split.groups]


def _rank(name: str) -> tuple[int, str]:
    """Thirds from low to high, spans of the day from midnight on, all else by name."""
    order = ("low:", "middle:", "high:", *(span for _, span in _DAY))
    return next((i for i, start in enumerate(order) if name.startswith(start)), 0), name


def _each(split: Split, measure: Callable[[Content], float]) -> NDArray[np.float64]:
    return np.array([measure(content) for content in split.contents], dtype=np.float64)


def _length(content: Content) -> float:
    return float(len(content)) if isinstance(content, str) else 0.0


def _brightness(content: Content) -> float:
    """Mean luma, 0..1."""
    pixels = content if isinstance(content, np.ndarray) else np.asarray(getattr(content, "pixels", 0), dtype=np.uint8)
    return float(pixels.reshape(-1, 3).mean(axis=0) @ _LUMA / 255) if pixels.ndim == 3 else 0.0


def _missing(split: Split, splits: Splits) -> list[str]:
    columns = [column.name for column in getattr(splits.input, "columns", ())]

    def share(content: Content) -> float:
        if isinstance(content, Window):
            return float(np.isnan(content.values).mean())
        return sum(content.get(name) is None for name in columns) / max(1, len(columns)) if isinstance(content, dict) else 0.0

    return ["nothing" if part == 0 else "up to 10 %" if part <= 0.1 else "over 10 %" for part in _each(split, share)]


def _span(at_ms: int) -> str:
    if not at_ms:
        return ""
    hour = datetime.fromtimestamp(at_ms / 1000, UTC).hour
    return next(name for start, name in reversed(_DAY) if hour >= start)


def _column(split: Split, column: str) -> list[str]:
    """Categories as they are, numbers in thirds."""
    cells = [_cell(content, column) for content in split.contents]
    numbers = [cell for cell in cells if isinstance(cell, float)]
    if len(set(numbers)) <= MOST or len(numbers) < len(cells) / 2:
        return [f"{cell:g}" if isinstance(cell, float) else cell for cell in cells]
    return _thirds(np.array([cell if isinstance(cell, float) else np.nan for cell in cells]))


def _cell(content: Content, column: str) -> str | float:
    if isinstance(content, Window):
        if column not in content.channels:
            return ""
        values = content.values[:, content.channels.index(column)]
        return float(np.nanmean(values)) if np.isfinite(values).any() else ""
    cell = content.get(column) if isinstance(content, dict) else None
    if cell is None:
        return ""
    return float(cell) if isinstance(cell, int | float) else cell if isinstance(cell, str) else ", ".join(cell)


def _thirds(values: NDArray[np.float64]) -> list[str]:
    """NaN is in none."""
    there = values[np.isfinite(values)]
    if len(there) < 3 * LEAST:
        return [""] * len(values)
    first, second = (float(edge) for edge in np.quantile(there, (1 / 3, 2 / 3)))
    names = (f"low: below {first:.3g}", f"middle: {first:.3g} to {second:.3g}", f"high: {second:.3g} or more")
    place = np.searchsorted([first, second], values, side="right")
    return [names[int(at)] if np.isfinite(value) else "" for at, value in zip(place, values, strict=True)]
