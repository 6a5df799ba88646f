"""What a model's answers look like when the point at which it says yes is moved, or when it answers only what it is sure of."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Scores = NDArray[np.float32] | NDArray[np.float64]
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_POINTS = 200  # of a curve that is drawn


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """Points in the order in which they are drawn, and the area under them."""

    x: Floats
    y: Floats
    area: float

    def thinned(self) -> "Curve":
        """The same to the eye."""
        if len(self.x) <= _POINTS:
            return self
        rows = np.unique(np.linspace(0, len(self.x) - 1, _POINTS).astype(np.int64))
        return Curve(x=self.x[rows], y=self.y[rows], area=self.area)

    def as_json(self) -> dict[str, object]:
        small = self.thinned()
        points = [[round(float(a), 4), round(float(b), 4)] for a, b in zip(small.x, small.y, strict=True)]
        return {"area": round(self.area, 5), "points": points}


def roc(scores: Scores, positive: NDArray[np.bool_]) -> Curve | None:
    """False against true positive rate; the area is the chance that a positive scores above a negative. None: one kind only."""
    good, bad = _running(scores, positive)
    if good[-1] == 0 or bad[-1] == 0:
        return None
    x, y = np.append(0.0, bad / bad[-1]), np.append(0.0, good / good[-1])
    return Curve(x=x, y=y, area=float((np.diff(x) * (y[1:] + y[:-1]) / 2).sum()))


def precision_recall(scores: Scores, positive: NDArray[np.bool_], there: int | None = None) -> Curve | None:
    """Recall against precision, and average precision: the steps' area, not the straight lines'. None: no positive.

    ``there``: how many positives there are, where some have no score because they were not found.
    """
    if not len(scores) or not positive.any():
        return None
    good, bad = _running(scores, positive)
    recall, precision = good / (good[-1] if there is None else max(there, good[-1])), good / (good + bad)
    area = float((np.diff(np.append(0.0, recall)) * precision).sum())
    return Curve(x=np.append(0.0, recall), y=np.append(precision[0], precision), area=area)


def risk_coverage(confidence: Scores, right: NDArray[np.bool_]) -> Curve:
    """Share answered, surest first, against the share of wrong ones among them; a small area says that confidence tells.

    (Geifman and El-Yaniv, Selective Classification for Deep Neural Networks, 2017.)
    """
    good, bad = _running(confidence, right)
    answered = good + bad
    risk = bad / answered
    steps = np.diff(np.append(0.0, answered)) / answered[-1]
    return Curve(x=answered / answered[-1], y=risk, area=float((steps * risk).sum()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Residuals:
    """Of one value that is told: answer minus truth, in the unit of the value."""

    name: str
    samples: int
    mae: float
    rmse: float
    bias: float  # mean
    quantiles: tuple[float, ...]  # of QUANTILES

    def as_json(self) -> dict[str, object]:
        figures = {name: round(getattr(self, name), 6) for name in ("mae", "rmse", "bias")}
        return {"name": self.name, "samples": self.samples, **figures, "quantiles": [round(q, 6) for q in self.quantiles]}


def residuals(answers: Floats, truths: Floats, names: Sequence[str]) -> list[Residuals]:
    """``(N, k)`` both; of forecasts one for each horizon. A missing truth (NaN) counts for nothing."""
    found = []
    for i, name in enumerate(names):
        off = answers[:, i] - truths[:, i]
        off = off[np.isfinite(off)]
        if len(off):
            found.append(
                Residuals(
                    name=name,
                    samples=len(off),
                    mae=float(np.abs(off).mean()),
                    rmse=float(np.sqrt((off**2).mean())),
                    bias=float(off.mean()),
                    quantiles=tuple(float(q) for q in np.quantile(off, QUANTILES)),
                )
            )
    return found


def _running(scores: Scores, positive: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """(positives, negatives) among the best n, after each distinct score, best first: equal scores are one step."""
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    good = np.cumsum(positive[order], dtype=np.float64)[ends]
    return good, ends + 1 - good
