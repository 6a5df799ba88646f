"""How well scores order what they are to part: the area under the ROC curve."""

import numpy as np
from numpy.typing import NDArray

from cloud_hub.pipeline.task import Outputs

CHANCE = 0.5


def auc(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """The chance that a positive sample scores above a negative one, equal ones counted half; NaN where one kind is missing."""
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        return float("nan")
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2  # from 1, the mean of those that tie (Mann and Whitney, 1947)
    rank_sum = float(ranks[place][positive].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def one_against_rest(outputs: Outputs, targets: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """``(classes,)`` AUC of each class against all others, NaN where the targets do not have both.

    ``outputs`` are logits ``(N, classes)`` or with more columns, which are no class that can be right.
    """
    return np.array([auc(_odds(outputs, i), targets == i) for i in range(classes)])


def mean_auc(outputs: Outputs, targets: NDArray[np.int64], classes: int) -> float:
    """Over the classes for which there is one; chance where there is none. Of two classes both are the same."""
    each = one_against_rest(outputs, targets, classes)
    return float(np.nanmean(each)) if np.isfinite(each).any() else CHANCE


def _odds(outputs: Outputs, column: int) -> NDArray[np.float64]:
    """Logarithmic, of one class against the rest: probabilities near 1 would tie."""
    rest = np.delete(outputs.astype(np.float64), column, axis=1)
    with np.errstate(invalid="ignore"):  # a champion gives -inf for classes it does not know
        odds = outputs[:, column].astype(np.float64) - np.logaddexp.reduce(rest, axis=1)
    known: NDArray[np.float64] = np.nan_to_num(odds, nan=0.0, posinf=np.inf, neginf=-np.inf)
    return known
