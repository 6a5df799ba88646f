"""Series -> windows of what was seen and what came after, parted without letting what is tested be trained."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cloud_hub.core.errors import Invalid
from cloud_hub.core.spec_sections.data import DataSpec
from cloud_hub.pipeline import split
from cloud_hub.pipeline.clean import Item
from cloud_hub.pipeline.split import SPLITS, TEST, TRAIN, VAL
from cloud_hub.pipeline.windows import window_of


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """The steps of one series in which targets of one split may lie; what is seen before them may reach further back."""

    item: Item
    split: str
    first: int
    end: int

    def starts(self, lookback: int, horizon: int, stride: int) -> range:
        """Steps at which targets begin."""
        return range(max(self.first, lookback), self.end - horizon + 1, stride)


def parts_of(items: Sequence[Item], spec: DataSpec, lookback: int, horizon: int) -> tuple[list[Part], list[str]]:
    """Each series parted in time, or whole where a pin says so or a part would hold no window; with notes.

    Raises:
        Invalid: nothing is left for a split.
    """
    found: list[Part] = []
    whole: list[Item] = []
    for item in items:
        parted = [] if item.split else _parted(item, spec, lookback, horizon)
        found += parted
        if not parted:
            whole.append(item)
    notes: list[str] = []
    if whole:
        places, notes = _placed(whole, spec, alone=not found)
        found += [Part(item=item, split=at, first=0, end=_steps(item)) for item, at in zip(whole, places, strict=True)]
    present = {part.split for part in found}
    if missing := [name for name in SPLITS if name not in present]:
        raise Invalid(f"no window is left for '{missing[0]}': give longer series, or more of them")
    return found, notes


def fingerprinted(parts: Sequence[Part]) -> dict[str, list[Item]]:
    """By split, each series with its steps for a label: what ``data.fingerprint`` takes."""
    rows: dict[str, list[Item]] = {name: [] for name in SPLITS}
    for part in parts:
        rows[part.split].append(replace(part.item, label=f"{part.first}..{part.end}"))
    return rows


def windows(parts: Sequence[Part], lookback: int, horizon: int, stride: int) -> Iterator[tuple[Item, int]]:
    """(series, step at which the targets begin)."""
    for part in parts:
        for start in part.starts(lookback, horizon, stride):
            yield part.item, start


def whole_targets(values: NDArray[np.float32], columns: Sequence[int], horizon: int) -> NDArray[np.bool_]:
    """``(steps,)``: nothing is missing in the ``horizon`` steps from each step on."""
    there = np.isfinite(values[:, list(columns)]).all(1)
    sums = np.concatenate([[0], np.cumsum(there)])
    complete = np.zeros(len(values), np.bool_)
    if len(values) >= horizon:
        complete[: len(values) - horizon + 1] = sums[horizon:] - sums[:-horizon] == horizon
    return complete


def _parted(item: Item, spec: DataSpec, lookback: int, horizon: int) -> list[Part]:
    steps = _steps(item)
    test = steps - round(steps * spec.test_share)
    val = test - round(steps * spec.val_share)
    parts = [
        Part(item=item, split=TRAIN, first=0, end=val),
        Part(item=item, split=VAL, first=val, end=test),
        Part(item=item, split=TEST, first=test, end=steps),
    ]
    return parts if all(part.starts(lookback, horizon, 1) for part in parts) else []


def _placed(items: Sequence[Item], spec: DataSpec, *, alone: bool) -> tuple[list[str], list[str]]:
    """``alone``: these are all there are, so every split must get some."""
    if alone:
        return split.assign(items, spec, classes=False)
    pins = [item.split or TRAIN for item in items]
    short = sum(not item.split for item in items)
    return pins, [f"{short} series are too short to be parted in time: they train"] if short else []


def _steps(item: Item) -> int:
    return len(window_of(item).values)
