"""How good logits are: overall, by class, by device; and how sure."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud_hub.pipeline.data import Split

Logits = NDArray[np.float32]  # (N, classes)

UNCERTAIN_SHARE = 0.05  # of the validation split: what a device flags (and captures first) while nothing drifts
_SMALL_GROUP = 5  # samples: an accuracy of fewer says nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    accuracy: float  # 0..1
    samples: int
    by_class: Mapping[str, float]  # recall of the classes there are
    by_group: Mapping[str, float]  # accuracy per device, of those with enough samples
    confusion: tuple[tuple[int, ...], ...]  # (classes, classes): truth down, prediction across
    confidence: float  # mean, 0..1

    def as_json(self) -> dict[str, object]:
        return {
            "accuracy": round(self.accuracy, 5),
            "samples": self.samples,
            "by_class": {name: round(value, 4) for name, value in self.by_class.items()},
            "by_group": {name: round(value, 4) for name, value in self.by_group.items()},
            "confusion": [list(row) for row in self.confusion],
            "confidence": round(self.confidence, 4),
        }


def score(logits: Logits, split: Split, labels: tuple[str, ...], *, temperature: float = 1.0) -> Score:
    predicted = logits.argmax(1)
    right = predicted == split.labels
    classes = len(labels)
    confusion = np.bincount(split.labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)
    groups = np.array(split.groups)
    by_group = {
        str(name): float(right[groups == name].mean())
        for name in np.unique(groups)
        if name and (groups == name).sum() >= _SMALL_GROUP
    }
    return Score(
        accuracy=float(right.mean()),
        samples=len(split),
        by_class={
            name: float(row[i] / row.sum()) for i, (name, row) in enumerate(zip(labels, confusion, strict=True)) if row.sum()
        },
        by_group=by_group,
        confusion=tuple(tuple(int(n) for n in row) for row in confusion),
        confidence=float(probabilities(logits, temperature).max(1).mean()),
    )


def probabilities(logits: Logits, temperature: float) -> NDArray[np.float32]:
    """(N, classes), each row sums to 1; the device's formula."""
    powers: Logits = np.exp((logits - logits.max(axis=1, keepdims=True)) / np.float32(temperature))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers


def fit_temperature(logits: Logits, labels: NDArray[np.int64]) -> float:
    """The temperature under which confidence means accuracy: least negative log-likelihood (Guo et al., 2017)."""
    candidates = np.exp(np.linspace(np.log(0.1), np.log(10.0), 141))  # 3.3 % apart: finer is noise on a validation split
    rows = np.arange(len(labels))
    losses = [-np.log(np.maximum(probabilities(logits, t)[rows, labels], 1e-12)).mean() for t in candidates]
    return float(np.float32(candidates[int(np.argmin(losses))]))


def uncertain_below(logits: Logits, temperature: float) -> float:
    """The confidence below which UNCERTAIN_SHARE of the validation split falls."""
    return float(np.float32(np.quantile(probabilities(logits, temperature).max(1), UNCERTAIN_SHARE)))
