"""Figures of a report. Nothing here decides anything: what is drawn is handed over."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from cloud_hub.pipeline.evaluation.bootstrap import Interval
from cloud_hub.pipeline.evaluation.calibration import Calibration
from cloud_hub.pipeline.evaluation.curves import Curve, Floats
from protos.contract.samples import Window

_BLUE, _ORANGE, _GREY, _RED = "#2563a8", "#c96a12", "#8a94a3", "#b3261e"
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "tideline",  # the same figure gives the same bytes
    "text.parse_math": False,  # a label with two dollar signs is no formula
    "svg.fonttype": "none",  # texts stay texts: smaller, and they can be searched
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
}
_NAMED = 32  # values under an axis
_CHANNELS = 3  # of a window that are drawn
_LETTERED = 16  # classes of a confusion matrix whose cells hold figures


@contextmanager
def styled() -> Iterator[None]:
    """Around drawing and saving."""
    with rc_context(_STYLE):
        yield


def training(histories: Mapping[str, Sequence[Mapping[str, float]]], metric: str) -> Figure:
    """By network, one entry an epoch: ``loss``, ``val_loss``, ``value``."""
    figure, (left, right) = _axes(2)
    for (name, epochs), colour in zip(histories.items(), (_GREY, _BLUE, _ORANGE), strict=False):
        numbers = np.arange(1, len(epochs) + 1)
        for key, line in (("loss", "-"), ("val_loss", ":")):
            if values := [epoch[key] for epoch in epochs if key in epoch]:
                label = name if key == "loss" else f"{name}, validation"
                left.plot(numbers[: len(values)], values, line, color=colour, label=label)
        right.plot(numbers, [epoch.get("value", np.nan) for epoch in epochs], color=colour, label=name)
    _finish(left, "epoch", "loss")
    _finish(right, "epoch", f"validation {metric}")
    return figure


def reliability(found: Mapping[str, Calibration]) -> Figure:
    """By name, as "before" and "after"."""
    figure, (left, right) = _axes(2)
    left.plot([0, 1], [0, 1], "--", color=_GREY, linewidth=1)
    for (name, each), colour in zip(found.items(), (_ORANGE, _BLUE), strict=False):
        bins = [one for one in each.bins if one.count]
        left.plot(
            [one.confidence for one in bins], [one.accuracy for one in bins], "o-", color=colour, label=name, markersize=4
        )
        right.step([one.low for one in each.bins], [one.count for one in each.bins], where="post", color=colour, label=name)
    _finish(left, "confidence", "share that is right")
    _finish(right, "confidence", "samples")
    right.set_yscale("symlog")
    right.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))  # the default one writes formulas
    return figure


def lines(curves: Mapping[str, Curve], across: str, up: str, *, diagonal: bool = False) -> Figure:
    """By name, which becomes the legend's entry together with the area."""
    figure, (axes,) = _axes(1)
    if diagonal:
        axes.plot([0, 1], [0, 1], "--", color=_GREY, linewidth=1)
    for name, curve in curves.items():
        small = curve.thinned()
        axes.plot(small.x, small.y, linewidth=1.3, label=f"{name} ({curve.area:.3f})" if name else None)
    _finish(axes, across, up)
    return figure


def forest(found: Sequence[tuple[str, Interval, int]], whole: Interval, metric: str) -> Figure:
    """Name, interval and samples of each part, one a line, beside the interval of the whole."""
    figure = Figure(figsize=(7, 0.6 + 0.22 * len(found)))
    axes = figure.subplots()
    places = np.arange(len(found))[::-1]
    if np.isfinite(whole.low):
        axes.axvspan(whole.low, whole.high, color=_BLUE, alpha=0.12, linewidth=0)
    axes.axvline(whole.middle, color=_BLUE, linewidth=1)
    for place, (_, each, _) in zip(places, found, strict=True):
        if np.isfinite(each.low):
            axes.plot([each.low, each.high], [place, place], color=_GREY, linewidth=1.5)
        axes.plot([each.middle], [place], "o", color=_GREY if not np.isfinite(each.low) else _ORANGE, markersize=4)
    axes.set_yticks(places, [f"{name} ({count})" for name, _, count in found])
    axes.set_xlabel(metric)
    axes.grid(axis="x", linewidth=0.3)
    return figure


def confusion(counts: NDArray[np.int64], labels: Sequence[str]) -> Figure:
    """``(K, K)``, truth down, prediction across; coloured by the share of its row."""
    size = min(9.0, 2.2 + 0.28 * len(labels))
    figure = Figure(figsize=(size, size))
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=7)
    axes.set_yticks(range(len(labels)), labels, fontsize=7)
    axes.set_xlabel("said")
    axes.set_ylabel("is")
    for row, column in np.argwhere(counts) if len(labels) <= _LETTERED else ():
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=7)
    return figure


def residuals(off: Floats, truths: Floats, unit: str) -> Figure:
    """Answers minus truths, how often and against the truth; both ``(N,)``."""
    figure, (left, right) = _axes(2)
    left.hist(off, bins=40, color=_BLUE)
    left.axvline(0, color=_GREY, linewidth=1)
    shown = np.unique(np.linspace(0, len(off) - 1, min(len(off), 600)).astype(np.int64))  # more only makes the page heavy
    right.plot(truths[shown], off[shown], ".", color=_BLUE, markersize=2)
    right.axhline(0, color=_GREY, linewidth=1)
    _finish(left, f"error of {unit}", "samples")
    _finish(right, f"true {unit}", "error")
    return figure


def horizons(names: Sequence[str], mae: Sequence[float], rmse: Sequence[float]) -> Figure:
    """The error of each value that is told, in their order; of very many some."""
    figure, (axes,) = _axes(1)
    shown = np.unique(np.linspace(0, len(names) - 1, min(len(names), _NAMED)).astype(np.int64))
    names, mae, rmse = ([each[i] for i in shown] for each in (names, mae, rmse))
    for values, label, colour in ((mae, "mean absolute", _BLUE), (rmse, "root mean square", _ORANGE)):
        axes.plot(range(len(names)), values, "o-", color=colour, label=label, markersize=4)
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=7)
    axes.set_ylim(bottom=0)
    _finish(axes, "", "error")
    return figure


def window(content: Window, moved: NDArray[np.float32], channels: Sequence[str]) -> Figure:
    """The channels that moved the answer most, over what spoke for it, orange; ``moved`` ``(steps, channels)``."""
    order = [column for column in np.argsort(-np.abs(moved).sum(axis=0)) if channels[column] in content.channels][:_CHANNELS]
    figure = Figure(figsize=(4.4, 0.5 + 0.8 * len(order)))
    top = float(np.abs(moved).max()) or 1.0
    for axes, column in zip(figure.subplots(max(1, len(order)), 1, sharex=True, squeeze=False)[:, 0], order, strict=False):
        values = content.values[-len(moved) :, content.channels.index(channels[column])]
        there = values[np.isfinite(values)] if np.isfinite(values).any() else np.zeros(1, np.float32)
        pad = 0.1 * float(np.ptp(there)) or 1.0
        box = (0, len(moved), float(there.min()) - pad, float(there.max()) + pad)
        colours = {"cmap": "PuOr_r", "vmin": -top, "vmax": top, "interpolation": "nearest"}
        axes.imshow(moved[None, :, column], extent=box, aspect="auto", alpha=0.7, **colours)
        axes.plot(np.arange(len(moved) - len(values), len(moved)) + 0.5, values, color="black", linewidth=0.8)
        axes.set_ylabel(channels[column], rotation=0, ha="right", fontsize=7)
        axes.tick_params(labelsize=6)
    return figure


def _axes(count: int) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(4.2 * count, 3.0), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def _finish(axes: Axes, across: str, up: str) -> None:
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(linewidth=0.3)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=7, frameon=False)
