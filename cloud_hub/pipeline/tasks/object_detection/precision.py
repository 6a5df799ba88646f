"""Average precision of boxes: how well scores part those that are right from those that are not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.model import Box


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Matched:
    """The boxes of one picture against the truth."""

    label: NDArray[np.int64]  # (n,)
    score: NDArray[np.float64]  # (n,)
    right: NDArray[np.bool_]  # (n,)
    truths: NDArray[np.int64]  # (m,) class of each box there is


def match(found: Sequence[Box], truth: NDArray[np.float32], least: float) -> Matched:
    """Boxes, best first, each take the truth of their class they overlap most, where that is ``least`` or more and not taken.

    Args:
        truth: ``(m, 5)`` as in ``boxes``; rows of class NONE are none.
        least: intersection over union.
    """
    truth = truth[truth[:, 0] >= 0]
    taken = np.zeros(len(truth), bool)
    right = np.zeros(len(found), bool)
    for i, box in enumerate(found):
        shares = np.where((truth[:, 0] == box.label) & ~taken, overlaps(box, truth), 0.0)
        if len(truth) and shares.max() >= least:
            taken[shares.argmax()] = right[i] = True
    return Matched(
        label=np.array([box.label for box in found], np.int64),
        score=np.array([box.score for box in found], np.float64),
        right=right,
        truths=truth[:, 0].astype(np.int64),
    )


def overlaps(box: Box, truth: NDArray[np.float32]) -> NDArray[np.float64]:
    """``(m,)`` intersection over union, 0..1."""
    left, top, right, bottom = truth[:, 1:].astype(np.float64).T
    width = np.minimum(right, box.right) - np.maximum(left, box.left)
    height = np.minimum(bottom, box.bottom) - np.maximum(top, box.top)
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    union = (right - left) * (bottom - top) + (box.right - box.left) * (box.bottom - box.top) - shared
    share: NDArray[np.float64] = shared / np.maximum(union, 1e-12)
    return share


def average_precisions(pictures: Sequence[Matched]) -> Mapping[int, float]:
    """Of each class that there is: the area under precision over recall, precision made to fall (PASCAL VOC since 2010).

    Boxes of one score come in together: which comes first must not depend on the order of pictures, and int8 has many alike.
    """
    label = np.concatenate([each.label for each in pictures])
    score = np.concatenate([each.score for each in pictures])
    right = np.concatenate([each.right for each in pictures])
    truths = np.bincount(np.concatenate([each.truths for each in pictures]))
    return {int(kind): _area(score[label == kind], right[label == kind], int(truths[kind])) for kind in np.flatnonzero(truths)}


def mean_precision(pictures: Sequence[Matched]) -> float:
    """Over the classes there are; 0 where nothing is to be found."""
    each = average_precisions(pictures)
    return float(np.mean(list(each.values()))) if each else 0.0


def _area(score: NDArray[np.float64], right: NDArray[np.bool_], truths: int) -> float:
    if not len(score):
        return 0.0
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)  # the last box of each score
    hits = np.cumsum(right[order])[ends]
    recall, precision = hits / truths, hits / (ends + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0.0) * best).sum())
