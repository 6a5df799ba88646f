"""Does confidence mean accuracy? Of answers given with 0.9, nine in ten should be right."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32] | NDArray[np.float64]

BINS = 15  # as in Guo et al., On Calibration of Modern Neural Networks, 2017
_FEW = 5  # answers: a bin of fewer does not make the maximum


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    low: float  # of confidence, 0..1
    high: float
    count: int
    confidence: float  # mean of those in the bin; 0 where there are none
    accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    ece: float  # expected calibration error: mean |confidence - accuracy| over all answers, by bins
    mce: float  # the largest such gap of a bin that holds enough answers to say so
    brier: float  # mean squared distance of confidence from being right
    bins: tuple[Bin, ...]

    def as_json(self) -> dict[str, object]:
        return {
            "ece": round(self.ece, 5),
            "mce": round(self.mce, 5),
            "brier": round(self.brier, 5),
            "bins": [
                {name: round(getattr(each, name), 4) for name in ("low", "count", "confidence", "accuracy")}
                for each in self.bins
                if each.count
            ],
        }


def calibration(confidence: Scores, right: NDArray[np.bool_], bins: int = BINS) -> Calibration:
    """``confidence`` ``(N,)`` in 0..1 of each answer, and whether it was right; N of 1 or more."""
    confidence = confidence.astype(np.float64)
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    counts = np.bincount(place, minlength=bins)
    least = np.maximum(counts, 1)
    sure = np.bincount(place, confidence, bins) / least
    good = np.bincount(place, right.astype(np.float64), bins) / least
    gaps = np.abs(sure - good)
    return Calibration(
        ece=float((gaps * counts).sum() / len(confidence)),
        mce=float(gaps[counts >= _FEW].max(initial=0.0)),
        brier=float(((confidence - right) ** 2).mean()),
        bins=tuple(
            Bin(low=i / bins, high=(i + 1) / bins, count=int(counts[i]), confidence=float(sure[i]), accuracy=float(good[i]))
            for i in range(bins)
        ),
    )
