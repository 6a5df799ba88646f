"""How far a figure may be off because the test split is only a sample: by drawing it again, many times.

What is drawn are sources, whole: frames of one camera or windows of one engine resemble each other, so that a hundred of them
say less than a hundred strangers would (the cluster bootstrap). Where there are few sources the interval is made wider, as
Student's t does for the normal one (Hesterberg, What Teachers Should Know about the Bootstrap, 2014, section 5.3).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from cloud_hub.pipeline.data import Split, Splits
from cloud_hub.pipeline.task import Outputs, Task

ROUNDS = 1000  # the ends of a 95 % interval stand on 25 draws each
LEAST_ROUNDS = 200  # where a metric is slow, and of parts of the split
_MOST_ROWS = 200_000  # over all rounds of a metric that is no mean: some seconds for boxes in pictures
_FEW_SOURCES = 5  # fewer say nothing of how sources differ: samples are drawn instead, and ``Interval.unit`` says so
_CELLS = 8_000_000  # of one block of draws: 64 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    low: float
    middle: float  # of the rows as they are
    high: float
    level: float = 0.95
    unit: str = "samples"  # what was drawn: "samples" or "sources"
    units: int = 0  # how many there are

    def above(self, bound: float) -> bool:
        """Surely more than ``bound``: chance alone gives that in (1 - level) / 2 of all cases. NaN is never sure."""
        return self.low > bound

    def as_json(self) -> dict[str, object]:
        ends = {name: _figure(getattr(self, name)) for name in ("low", "middle", "high")}
        return {**ends, "level": self.level, "unit": self.unit, "units": self.units}


def interval(
    task: Task, outputs: Outputs, split: Split, splits: Splits, *, rounds: int = ROUNDS, seed: int = 0, level: float = 0.95
) -> Interval:
    """Of the metric. Raises ValueError where there are no rows."""
    return Drawn(task, split, splits, rounds=rounds, seed=seed, level=level).interval(outputs)


def paired_gain(
    task: Task,
    ours: Outputs,
    theirs: Outputs,
    split: Split,
    splits: Splits,
    *,
    rounds: int = ROUNDS,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Of ``Metric.gain`` of ours over theirs, both judged on the same rows in every round: what is hard is hard for both."""
    return Drawn(task, split, splits, rounds=rounds, seed=seed, level=level).gain(ours, theirs)


class Drawn:
    """One split, drawn again; for several outputs, and for some of its rows."""

    def __init__(
        self, task: Task, split: Split, splits: Splits, *, rounds: int = ROUNDS, seed: int = 0, level: float = 0.95
    ) -> None:
        if not len(split):
            raise ValueError("no rows to draw from")
        self._task, self._split, self._splits = task, split, splits
        self._rounds, self._seed, self._level = rounds, seed, level

    def interval(self, outputs: Outputs, rows: NDArray[np.int64] | None = None) -> Interval:
        """Of the metric on ``rows``; None: on all."""
        (values,), (middle,), units = self._values((outputs,), rows)
        found = self._between(values, middle, units)
        if found.low == found.high and middle in (0.0, 1.0) and self._is_share(outputs):
            unseen = ((1 - self._level) / 2) ** (1 / units.count)  # all right, or all wrong: Clopper and Pearson, 1934
            return replace(found, low=unseen) if middle == 1.0 else replace(found, high=1 - unseen)
        return found

    def gain(self, ours: Outputs, theirs: Outputs, rows: NDArray[np.int64] | None = None) -> Interval:
        (own, other), (mine, beaten), units = self._values((ours, theirs), rows)
        gain = self._task.metric.gain
        gains = np.array([gain(float(a), float(b)) for a, b in zip(own, other, strict=True)])
        found = self._between(gains, gain(mine, beaten), units)
        if mine == beaten:
            return found
        # A few samples that all speak for one side: no draw shows one that speaks for the other, but there may well be one.
        unseen = 1 / units.count
        return replace(found, low=found.low or -unseen, high=found.high or unseen)

    def _is_share(self, outputs: Outputs) -> bool:
        """Each sample is right or wrong, and the metric the share of right ones."""
        each = self._task.each(outputs, self._split, self._splits)
        return _is_mean(each, self._task.value(outputs, self._split, self._splits)) and set(np.unique(each)) <= {0.0, 1.0}

    def _values(
        self, several: tuple[Outputs, ...], rows: NDArray[np.int64] | None
    ) -> tuple[list[NDArray[np.float64]], list[float], "Units"]:
        """For each outputs: the metric of every round, and as it is."""
        whole = rows is None
        split = self._split if rows is None else self._split.take(rows)
        given = several if rows is None else tuple(outputs[rows] for outputs in several)
        units = units_of(split)
        middles = [self._task.value(outputs, split, self._splits) for outputs in given]
        each = [self._task.each(outputs, split, self._splits) for outputs in given]
        draw = np.random.default_rng((self._seed, len(split), int(whole)))
        if all(_is_mean(one, middle) for one, middle in zip(each, middles, strict=True)):
            return means([one for one in each if one is not None], units, self._rounds, draw), middles, units
        rounds = max(LEAST_ROUNDS, min(self._rounds, _MOST_ROWS // len(split))) if whole else LEAST_ROUNDS

        def value(outputs: Outputs, taken: NDArray[np.int64]) -> float:
            part = split.take(taken)
            comparable = self._task.comparable(part, self._split)
            return self._task.value(outputs[taken], part, self._splits) if comparable else math.nan

        return _again(given, units, rounds, draw, value), middles, units

    def _between(self, values: NDArray[np.float64], middle: float, units: "Units") -> Interval:
        finite = values[np.isfinite(values)]  # a draw without one of the classes may have no value
        low = high = math.nan
        if len(finite) >= len(values) / 2 and units.count > 1 and math.isfinite(middle):
            tail = tail_of(self._level, units.count)
            low, high = (float(end) for end in np.quantile(finite, (tail, 1 - tail)))
            low, high = min(low, middle), max(high, middle)
        return Interval(low=low, middle=middle, high=high, level=self._level, unit=units.name, units=units.count)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Units:
    """What is drawn whole."""

    name: str
    of: NDArray[np.int64]  # (N,) the unit of each row, 0..count - 1
    count: int


def units_of(split: Split) -> Units:
    """Sources where they are known and there are enough of them, else samples."""
    if split.origins:
        names, of = np.unique([origin.source for origin in split.origins], return_inverse=True)
        if _FEW_SOURCES <= len(names) < len(split):
            return Units(name="sources", of=of.astype(np.int64), count=len(names))
    return Units(name="samples", of=np.arange(len(split)), count=len(split))


def means(each: list[NDArray[np.float64]], units: Units, rounds: int, draw: np.random.Generator) -> list[NDArray[np.float64]]:
    """Of each array ``(N,)`` the mean in every round ``(rounds,)``, all on the same draws."""
    sums = np.stack([np.bincount(units.of, one, units.count) for one in (*each, np.ones(len(units.of)))], axis=1)
    parts = []
    block = max(1, _CELLS // units.count)
    for start in range(0, rounds, block):
        many = min(block, rounds - start)
        picks = draw.integers(0, units.count, (many, units.count))
        picks += np.arange(many)[:, None] * units.count
        times = np.bincount(picks.reshape(-1), minlength=many * units.count).reshape(many, units.count)
        parts.append(times @ sums)
    drawn = np.concatenate(parts)
    return [drawn[:, i] / drawn[:, -1] for i in range(len(each))]


def tail_of(level: float, units: int) -> float:
    """The share of draws beyond each end of an interval of ``level``, from so many units."""
    normal = NormalDist()
    z = normal.inv_cdf(0.5 + level / 2)
    wide = student(z, units - 1) * math.sqrt(units / (units - 1))
    return 1 - normal.cdf(wide)


def student(z: float, freedom: int) -> float:
    """Student's t at the probability of the normal ``z`` (Abramowitz and Stegun, 26.7.5)."""
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + math.fsum(term / float(freedom) ** power for power, term in enumerate(terms, 1))


def _again(
    several: tuple[Outputs, ...],
    units: Units,
    rounds: int,
    draw: np.random.Generator,
    value: Callable[[Outputs, NDArray[np.int64]], float],
) -> list[NDArray[np.float64]]:
    order = np.argsort(units.of, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(units.of, minlength=units.count))[:-1])
    found = np.empty((len(several), rounds))
    for i in range(rounds):
        taken = np.concatenate([members[unit] for unit in draw.integers(0, units.count, units.count)])
        found[:, i] = [value(outputs, taken) for outputs in several]
    return list(found)


def _is_mean(each: NDArray[np.float64] | None, value: float) -> TypeGuard[NDArray[np.float64]]:
    """A task that inherits ``each`` but has a metric of its own is found out here."""
    return each is not None and bool(np.isfinite(each).all()) and abs(float(each.mean()) - value) <= 1e-6 * max(1.0, abs(value))


def _figure(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
