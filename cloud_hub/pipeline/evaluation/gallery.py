"""Some samples a model got right and some it got wrong, with what each answer stands on."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.evaluation.answers import Labelled, Numeric
from cloud_hub.pipeline.evaluation.saliency import Saliency, salience
from cloud_hub.pipeline.task import Feeder
from edge_agent.infer.inputs import Content
from protos.contract.inputs import SampleKind
from protos.contract.outputs import Output

SIDE = 128  # pixels of a picture on the page, at least
_MOST_SIDE = 256
_TEXT = 300  # characters of a text that are shown


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shown:
    """One sample."""

    id: str
    right: bool | None  # None: an answer that is neither
    words: str  # what it is and what was said
    content: Content
    saliency: Saliency

    def as_json(self) -> dict[str, object]:
        names = [[name, round(share, 5)] for name, share in self.saliency.names]
        return {"id": self.id, "right": self.right, "says": self.words, "stands_on": names}


def choose(told: Labelled | Numeric | None, count: int, seed: int = 0) -> tuple[list[int], list[int]]:
    """Rows of (right, wrong) answers: some right ones, the surest wrong ones; of numbers the nearest and the furthest."""
    if told is None or not count:
        return [], []
    if isinstance(told, Numeric):
        off = np.abs(told.values - told.truths)[:, told.headline]
        order = np.argsort(np.where(np.isfinite(off), off, np.inf), kind="stable")
        order = order[: int(np.isfinite(off).sum())]
        return [int(row) for row in order[:count]], [int(row) for row in order[::-1][:count]]
    wrong = np.flatnonzero(~told.right)
    surest = wrong[np.argsort(-told.confidence[wrong], kind="stable")][:count]
    right = np.flatnonzero(told.right)
    some = np.random.default_rng(seed).permutation(right)[:count]
    return [int(row) for row in some], [int(row) for row in surest]


def show(
    network: nn.Module, feeder: Feeder, splits: Splits, told: Labelled | Numeric | None, count: int, output: Output
) -> list[Shown]:
    """Of the test split: right ones, then wrong ones. ``network`` and ``feeder`` on one device."""
    right, wrong = choose(told, count)
    rows = [*right, *(row for row in wrong if row not in right)]
    if told is None or not rows:
        return []
    split = splits.test
    found = salience(network, feeder, split, rows, splits, output)
    return [
        Shown(
            id=split.origins[row].id if split.origins else f"row {row}",
            right=bool(told.right[row]) if isinstance(told, Labelled) else None,
            words=_words(told, row),
            content=split.contents[row],
            saliency=each,
        )
        for row, each in zip(rows, found, strict=True)
    ]


def excerpt(content: Content) -> str:
    """What a page shows of a sample that is no picture."""
    if isinstance(content, str):
        return content[:_TEXT] + ("..." if len(content) > _TEXT else "")
    if isinstance(content, dict):
        return ", ".join(f"{name} {cell}" for name, cell in list(content.items())[:12])
    return ""


def picture(shown: Shown, kind: SampleKind) -> bytes | None:
    """PNG: the picture, and beside it what the answer stands on, from dark to bright."""
    if kind is not SampleKind.IMAGE or not isinstance(shown.content, np.ndarray):
        return None
    pixels = shown.content
    grey = pixels.mean(axis=2, keepdims=True)
    heat = (colormaps["inferno"](shown.saliency.map)[..., :3] * 255).astype(np.float32)
    over = np.clip(0.3 * grey + 0.85 * heat, 0, 255).astype(np.uint8)
    return png(np.concatenate([pixels, over], axis=1))


def png(pixels: NDArray[np.uint8]) -> bytes:
    """``(H, W, 3)``, small ones enlarged by whole factors, large ones made small."""
    image = Image.fromarray(pixels)
    times = max(1, SIDE // image.height)
    if times > 1:
        image = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    elif image.height > _MOST_SIDE:
        image.thumbnail((2 * _MOST_SIDE, _MOST_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "png", optimize=True)
    return buffer.getvalue()


def pictures(contents: Sequence[Content], captions: Sequence[str]) -> list[tuple[bytes, str]]:
    """Of those that are pictures."""
    pairs = zip(contents, captions, strict=True)
    return [(png(content), caption) for content, caption in pairs if isinstance(content, np.ndarray)]


def _words(told: Labelled | Numeric, row: int) -> str:
    if isinstance(told, Labelled):
        said, truth = told.labels[told.said[row]], told.labels[told.truths[row]]
        return f"'{said}' at {told.confidence[row]:.2f}" + ("" if said == truth else f", is '{truth}'")
    value, truth_value = told.values[row, told.headline], told.truths[row, told.headline]
    return f"{told.names[told.headline]}: {value:.4g}, is {truth_value:.4g}"
