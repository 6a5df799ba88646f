"""A datasheet as a page."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from cloud_hub.core.html import Cell, Mark, Page
from protos.contract.samples import Window

if TYPE_CHECKING:
    from cloud_hub.pipeline.datasheet import Example

_SPLIT_COLOURS = {"train": "#3a6ea5", "val": "#e0a33b", "test": "#8a4f9e", "left out": "#b0b7c0"}
_BARS = 60  # labels or days in one figure
_GRID = 24  # histograms
_ROWS = 30  # of a table of sources or devices
_LARGE, _CHANGED = 0.25, 0.1
_CURVES = 8  # channels of an example


def draw(facts: Mapping[str, Any], examples: Sequence["Example"]) -> str:
    """HTML that loads nothing."""
    counts = facts["counts"]
    page = Page(f"Data set {facts['dataset']}", f"{facts['samples']:,} labelled {facts['kind']}s, as of {facts['made_at']}")
    page.facts(
        {
            "kind": facts["kind"],
            "annotation": facts["annotation"],
            "samples": facts["samples"],
            "of them read for the figures below": facts["read"],
            "sources": counts["sources"]["number"],
            "largest source": counts["sources"]["largest"],
            **{f"split {name}": count for name, count in counts["split"].items()},
        }
    )
    page.section("Worth a look")
    page.items(facts["notes"] or ["nothing stands out"])
    _counted(page, counts)
    _cleaned(page, facts["cleaning"])
    _values(page, {**counts["values"], **facts["columns"]})
    _leaked(page, facts["leaks"])
    _drifted(page, facts["drift"])
    page.section("Examples")
    _examples(page, examples)
    return page.html()


def _counted(page: Page, counts: Mapping[str, Any]) -> None:
    page.section("Counts", "By the split that a job with default settings would make.")
    if counts["label"]:
        page.figure(_stacked(counts["label"], "samples"), "By label")
    if len(counts["day"]) > 1:
        page.figure(_stacked(counts["day"], "samples"), "By day of capture, or of arrival where no capture is known (UTC)")
    splits = [name for name in _SPLIT_COLOURS if name in counts["split"]]
    for what in ("device", "source", "origin"):
        rows = sorted(counts[what].items(), key=lambda pair: -sum(pair[1].values()))[:_ROWS]
        table: list[list[Cell]] = [[name, *(parts.get(split, 0) for split in splits)] for name, parts in rows]
        more = f" (the largest {_ROWS})" if len(counts[what]) > _ROWS else ""
        page.table([what if what != "origin" else "label from", *splits], table, f"By {what}{more}")


def _cleaned(page: Page, cleaning: Mapping[str, Any]) -> None:
    page.section("Cleaning", f"{cleaning['kept']:,} of {cleaning['given']:,} samples that were read can be used.")
    dropped = sorted(cleaning["dropped"].items(), key=lambda pair: -pair[1])
    if dropped:
        page.table(["left out", "samples", "for example"], [[r, n, ", ".join(cleaning["examples"][r][:5])] for r, n in dropped])


def _values(page: Page, columns: Mapping[str, Any]) -> None:
    if not columns:
        return
    page.section("Values", "Outliers lie beyond 6 robust standard deviations of the median.")
    numbers = {name: facts for name, facts in columns.items() if facts["type"] == "number"}
    others = {name: facts for name, facts in columns.items() if facts["type"] == "category"}
    if numbers:
        rows = [_number_row(name, facts) for name, facts in numbers.items()]
        page.table(["column", "mean", "std", "least", "median", "most", "missing", "infinite", "outliers"], rows)
        shown = {name: facts for name, facts in numbers.items() if facts["counts"]}
        page.figure(_histograms(dict(list(shown.items())[:_GRID])), "Distributions, 99 % of the values")
    if others:
        table: list[list[Cell]] = [
            [
                name,
                facts["values"],
                _share(facts["missing"]),
                ", ".join(f"{v} ({n})" for v, n in list(facts["top"].items())[:8]),
            ]
            for name, facts in others.items()
        ]
        page.table(["column", "different values", "missing", "most frequent"], table)


def _number_row(name: str, facts: Mapping[str, Any]) -> list[Cell]:
    quantiles = facts["quantiles"]
    outliers: Cell = Mark(str(facts["outliers"]), good=False) if facts["outliers"] else 0
    marked: Cell = Mark(f"{name} (always the same)", good=False) if facts["constant"] else name
    ends = [quantiles.get(which) for which in ("least", "median", "most")]
    return [marked, facts["mean"], facts["std"], *ends, _share(facts["missing"]), facts["infinite"], outliers]


def _leaked(page: Page, leaks: Mapping[str, Any]) -> None:
    page.section("Leaks between splits")
    good = not leaks["sources"]
    page.text(f"{leaks['sources']} sources are in more than one split.", good=good)
    page.items(leaks["source_examples"])
    if "alike" in leaks:
        share = leaks["alike"] / max(1, leaks["compared"])
        told = f"{leaks['alike']} of {leaks['compared']} held-out samples ({share:.1%})"
        page.text(f"{told} share readings with one that trains, or look like it.", good=share < 0.01)
        page.items(leaks["alike_examples"])


def _drifted(page: Page, drift: Mapping[str, Any]) -> None:
    page.section(
        "Drift",
        f"The newest {drift['newest']} samples that were read, since {drift['since']}, against those that train: population "
        f"stability index, above {_CHANGED:g} a change, above {_LARGE:g} a large one.",
    )
    found = {"label": drift["labels"], **drift["columns"]}
    rows = sorted(((name, value) for name, value in found.items() if math.isfinite(value)), key=lambda pair: -pair[1])
    table: list[list[Cell]] = [[name, Mark(f"{value:.3f}", good=value <= _CHANGED)] for name, value in rows[:_ROWS]]
    if table:
        page.table(["column", "index"], table)
    else:
        page.text("Too few samples to say.")


def _examples(page: Page, examples: Sequence["Example"]) -> None:
    pictures = [each for each in examples if isinstance(each.content, np.ndarray)]
    if pictures:
        page.pictures((_png(each.content), f"{_short(each.label)}, {each.split or 'left out'}") for each in pictures)
        return
    windows = [each for each in examples if isinstance(each.content, Window)]
    if windows:
        for each in windows[:6]:
            page.figure(_curves(each.content), f"{_short(each.label) or 'a window'}, {each.split or 'left out'}")
        return
    rows: list[list[Cell]] = [
        [_short(each.label), each.split or "left out", _short(_told(each.content), 400)] for each in examples
    ]
    page.table(["label", "split", "content"], rows)


def _stacked(counts: Mapping[str, Mapping[str, int]], unit: str) -> Figure:
    names = list(counts)[:_BARS]
    figure = Figure(figsize=(min(11, 2.5 + 0.28 * len(names)), 3))
    axes = figure.subplots()
    floor = np.zeros(len(names))
    for split, colour in _SPLIT_COLOURS.items():
        heights = np.array([counts[name].get(split, 0) for name in names])
        if heights.any():
            axes.bar(range(len(names)), heights, bottom=floor, color=colour, label=split)
        floor += heights
    axes.set_xticks(range(len(names)), [_short(name, 24) for name in names], rotation=90 if len(names) > 4 else 0, fontsize=7)
    axes.set_ylabel(unit)
    axes.legend(fontsize=7, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _histograms(columns: Mapping[str, Any]) -> Figure:
    wide = min(6, len(columns))
    high = math.ceil(len(columns) / wide)
    figure = Figure(figsize=(1.9 * wide, 1.5 * high))
    grid = figure.subplots(high, wide, squeeze=False)
    for axes in grid.flat:
        axes.set_visible(False)
    for axes, (name, facts) in zip(grid.flat, columns.items(), strict=False):
        axes.set_visible(True)
        axes.stairs(facts["counts"], facts["edges"], fill=True, color=_SPLIT_COLOURS["train"])
        axes.set_title(_short(name, 26), fontsize=7)
        axes.tick_params(labelsize=6)
        axes.set_yticks([])
        axes.spines[["top", "right", "left"]].set_visible(False)
    figure.tight_layout()
    return figure


def _curves(window: Window) -> Figure:
    figure = Figure(figsize=(3.6, 2.2))
    axes = figure.subplots()
    for i, name in enumerate(window.channels[:_CURVES]):
        values = window.values[:, i]
        there = values[np.isfinite(values)]
        scale = float(there.std()) or 1.0 if len(there) else 1.0
        axes.plot((values - (there.mean() if len(there) else 0.0)) / scale - 4.0 * i, linewidth=0.8, label=_short(name, 20))
    axes.set_yticks([])
    axes.tick_params(labelsize=6)
    axes.legend(fontsize=5, frameon=False, loc="upper right")
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def _png(frame: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "PNG")
    return file.getvalue()


def _told(content: Any) -> str:
    if isinstance(content, str):
        return content
    return ", ".join(f"{name} = {cell:g}" if isinstance(cell, float) else f"{name} = {cell}" for name, cell in content.items())


def _top(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{value} ({count})" for value, count in list(counts.items())[:8])


def _share(share: float) -> Cell:
    return Mark(f"{share:.1%}", good=False) if share > 0 else "0 %"


def _short(text: str, most: int = 60) -> str:
    """Names come from anybody: dollars would be formulas to matplotlib."""
    text = text.replace("$", "＄")
    return text if len(text) <= most else text[: most - 1] + "…"
