"""What the columns of a table and the channels of a window hold, learned from the training split alone: which input a device
makes of them, and what is odd about them, in words."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from cloud_hub.core.errors import Invalid
from protos.contract.inputs import MAX_COLUMNS, CategoryColumn, Column, NumericColumn, RowInput, WindowInput
from protos.contract.samples import Cell, Row, Window, named

OUTLIER = 6.0  # robust standard deviations: 1 in 5e8 of a normal distribution, so what is beyond deserves a look
_MAD = 1.4826  # median absolute deviation -> standard deviation, for a normal distribution
_MIN_STD = 1e-4  # of the largest value: below it a column is constant in 32-bit floats
_MOSTLY = 0.5  # missing share that is worth a note
_NUMBERS = 0.99  # of the values there are: a column with a few typing errors is still one of numbers
_HUGE = 1e29  # as good as infinite: a manifest holds no mean or deviation of 1e30
_NAMED = 8  # columns in one note
_LONGEST = 255  # characters of a category: a manifest has no room for many longer ones


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """How the numbers of one column or channel are spread; ``values`` are those that are there."""

    mean: float
    std: float
    missing: float  # share, 0..1
    infinite: int  # counted as missing
    outliers: int  # further than OUTLIER robust standard deviations from the median
    constant: bool


def spread(values: NDArray[np.float64]) -> Numbers:
    """Of one column, NaN where it is missing."""
    there = values[np.abs(values) < _HUGE]
    infinite = int((np.abs(values) >= _HUGE).sum())
    missing = 1 - len(there) / len(values) if len(values) else 1.0
    if not len(there):
        return Numbers(mean=0.0, std=1.0, missing=1.0, infinite=infinite, outliers=0, constant=True)
    mean, std = float(there.mean()), float(there.std())
    middle = float(np.median(there))
    robust = _MAD * float(np.median(np.abs(there - middle))) or std
    outliers = int((np.abs(there - middle) > OUTLIER * robust).sum()) if robust > 0 else 0
    constant = std <= _MIN_STD * max(1e-2, float(np.abs(there).max()))
    return Numbers(mean=mean, std=std, missing=missing, infinite=infinite, outliers=outliers, constant=constant)


def far_off(names: Sequence[str], targets: NDArray[np.float64]) -> list[str]:
    """Notes on labels ``(N, k)`` that are numbers: one slip of the pen can rule the scale and the loss of all others."""
    counts = {name: spread(column).outliers for name, column in zip(names, targets.T, strict=True)}
    told = [f"{name} ({count} of {len(targets)})" for name, count in counts.items() if count]
    more = f" and {len(told) - _NAMED} more" if len(told) > _NAMED else ""
    beyond = f"beyond {OUTLIER:g} robust standard deviations"
    return [f"labels that train and lie far off the others ({beyond}): {', '.join(told[:_NAMED])}{more}"] if told else []


def fit_rows(rows: Sequence[Row], *, max_categories: int = 64, indicators: bool = True) -> tuple[RowInput, list[str]]:
    """The input of rows, each column numeric or a category as most of its values are.

    Columns that say nothing (always the same, always missing) are left out. A category keeps its most frequent values; with
    ``indicators`` a numeric column of which some are missing says where.

    Args:
        rows: of the training split.
    Returns:
        The input, columns by name, and notes on what is worth a user's attention.
    Raises:
        Invalid: no column is left.
    """
    notes = _Notes()
    columns: list[Column] = []
    names, more = common(rows, MAX_COLUMNS)
    if more:
        notes.say(f"{more} columns are left out, more than {MAX_COLUMNS}: those that the fewest rows have", [])
    for name in names:
        cells = [row.get(name) for row in rows]
        column = (
            _numeric(name, cells, indicators, notes) if is_numeric(cells) else _category(name, cells, max_categories, notes)
        )
        if column is not None:
            columns.append(column)
    if not columns:
        raise Invalid("no column says anything: each is always missing or always the same. " + "; ".join(notes.lines()))
    return RowInput(columns=tuple(columns)), notes.lines()


def fit_windows(windows: Sequence[Window], steps: int, channels: Sequence[str] | None = None) -> tuple[WindowInput, list[str]]:
    """The input of windows.

    Args:
        windows: of the training split, each of ``steps`` or more.
        channels: those to take, in this order; None: all that every window has and that change, as the first has them.
    Raises:
        Invalid: a channel is asked for that a window lacks, or none is left.
    """
    notes = _Notes()
    if not windows:
        raise Invalid("there is no window to learn the channels from")
    shared = set.intersection(*(set(window.channels) for window in windows))
    everywhere = [name for name in windows[0].channels if name in shared]
    if absent := [name for name in channels or () if name not in everywhere]:
        raise Invalid(f"channel {absent[0]!r} is not in every window; those that are: {', '.join(everywhere) or 'none'}")
    if partly := sorted({name for window in windows for name in window.channels} - set(everywhere)):
        notes.say("in some windows only, left out", partly)
    kept: list[str] = []
    scales: list[Numbers] = []
    for name in channels or everywhere:
        facts = spread(channel(windows, name, steps))
        notes.about(name, facts)
        if facts.constant and channels is None:
            notes.say("always missing, left out" if facts.missing == 1.0 else "always the same, left out", [name])
            continue
        kept.append(name)
        scales.append(facts)
    if not kept:
        raise Invalid("no channel says anything: each is always missing or always the same. " + "; ".join(notes.lines()))
    input = WindowInput(
        channels=tuple(kept),
        steps=steps,
        mean=tuple(_float32(facts.mean) for facts in scales),
        std=tuple(_scale(facts) for facts in scales),
    )
    return input, notes.lines()


def channel(windows: Sequence[Window], name: str, steps: int | None = None) -> NDArray[np.float64]:
    """The newest ``steps`` readings (None: all) of one channel in all windows that have it, one after the other."""
    parts = [
        window.values[-(steps or 0) :, window.channels.index(name)].astype(np.float64)
        for window in windows
        if name in window.channels
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


def common(named: Iterable[Iterable[str]], most: int) -> tuple[list[str], int]:
    """Names that most rows or windows have, in their order, and how many others there are: a device could send new ones in
    each, and looking for every name in every row would take days."""
    counts = Counter(chain.from_iterable(named))
    kept = sorted(counts, key=lambda name: (-counts[name], name))[:most]
    return sorted(kept), len(counts) - len(kept)


def is_numeric(cells: Iterable[Cell]) -> bool:
    """Most of the cells that are there are numbers."""
    there = [cell for cell in cells if cell is not None]
    return bool(there) and sum(isinstance(cell, int | float) for cell in there) >= _NUMBERS * len(there)


def numbers(cells: Iterable[Cell]) -> NDArray[np.float64]:
    """NaN for what is missing or no number."""
    return np.array([float(cell) if isinstance(cell, int | float) else math.nan for cell in cells], np.float64)


def categories(cells: Iterable[Cell]) -> Counter[str]:
    """How often each value is there, as a device would read it."""
    counts: Counter[str] = Counter()
    for cell in cells:
        if isinstance(cell, int | float):
            if math.isfinite(cell):
                counts[named(cell)] += 1
        elif isinstance(cell, str):
            counts[cell] += 1
        else:
            counts.update(cell or ())
    return counts


def _numeric(name: str, cells: Sequence[Cell], indicators: bool, notes: "_Notes") -> NumericColumn | None:
    facts = spread(numbers(cells))
    if texts := sum(isinstance(cell, str | tuple | list) for cell in cells):
        notes.say(f"{texts} texts among the numbers, taken as missing", [name])
    notes.about(name, facts)
    flagged = indicators and 0 < facts.missing < 1
    if facts.constant and not flagged:
        notes.say("always missing, left out" if facts.missing == 1.0 else "always the same, left out", [name])
        return None
    return NumericColumn(name=name, mean=_float32(facts.mean), std=_scale(facts), indicator=flagged)


def _category(name: str, cells: Sequence[Cell], most: int, notes: "_Notes") -> CategoryColumn | None:
    counts = categories(cells)
    counts.pop("", None)
    if long := [value for value in counts if len(value) > _LONGEST]:
        notes.say(f"{len(long)} values of more than {_LONGEST} characters, not told apart", [name])
        counts = Counter({value: count for value, count in counts.items() if len(value) <= _LONGEST})
    missing = sum(not categories([cell]) for cell in cells)
    if not counts or (len(counts) == 1 and not missing):
        notes.say("always the same, left out" if counts else "always missing, left out", [name])
        return None
    if missing > _MOSTLY * len(cells):
        notes.say("mostly missing", [name])
    kept = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:most]
    if len(counts) > most:
        share = 1 - sum(count for _, count in kept) / counts.total()
        notes.say(f"more than {most} values: the rarest, {share:.1%} of what is there, are not told apart", [name])
    return CategoryColumn(name=name, values=tuple(sorted(value for value, _ in kept)))


def _scale(facts: Numbers) -> float:
    """A constant that is kept all the same must not blow its noise up."""
    return max(_float32(facts.std), 1e-5) if not facts.constant else max(1.0, _float32(facts.std))


def _float32(value: float) -> float:
    """A manifest holds 32-bit floats: train with what the device will read."""
    return float(np.float32(value))


class _Notes:
    """One line for each thing that is to be said, with the columns it is said of."""

    def __init__(self) -> None:
        self._of: dict[str, list[str]] = {}

    def say(self, what: str, names: Iterable[str]) -> None:
        self._of.setdefault(what, []).extend(names)

    def about(self, name: str, facts: Numbers) -> None:
        if facts.infinite:
            self.say("infinite values, taken as missing", [name])
        if facts.missing == 1.0:
            return
        if facts.missing > _MOSTLY:
            self.say("mostly missing", [name])
        elif facts.missing > 0:
            self.say("sometimes missing", [name])
        if facts.outliers:
            self.say(f"outliers (beyond {OUTLIER:g} robust standard deviations)", [f"{name} ({facts.outliers})"])

    def lines(self) -> list[str]:
        said = []
        for what, names in self._of.items():
            shown = ", ".join(names[:_NAMED]) + (f", ... ({len(names)})" if len(names) > _NAMED else "")
            said.append(f"{what}: {shown}" if names else what)
        return said
