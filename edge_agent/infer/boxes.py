"""Cells of a detector's grid -> boxes."""

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.model import Box
from protos.contract.outputs import Detection

_CANDIDATES = 1000  # that go on to be compared: a model that sees things everywhere must not cost seconds


def boxes_of(outputs: NDArray[np.float32], output: Detection) -> tuple[tuple[Box, ...], float]:
    """The boxes, best first, and the best score of any cell, 0..1."""
    cells = outputs.reshape(output.rows * output.columns, 4 + len(output.classes)).astype(np.float64)
    scores = 1.0 / (1.0 + np.exp(-np.clip(cells[:, 4:] / output.temperature, -60, 60)))
    cell, label = np.nonzero(scores >= output.min_score)
    found = scores[cell, label]
    order = np.argsort(-found, kind="stable")[:_CANDIDATES]
    cell, label, found = cell[order], label[order], found[order]
    corners = _corners(cells[cell, :4], cell, output)
    kept = _best(corners, label, found, output)
    boxes = tuple(
        Box(label=int(label[i]), score=float(found[i]), left=left, top=top, right=right, bottom=bottom)
        for i, (left, top, right, bottom) in zip(kept, corners[kept].tolist(), strict=True)
    )
    return boxes, float(scores.max())


def _corners(distances: NDArray[np.float64], cell: NDArray[np.intp], output: Detection) -> NDArray[np.float64]:
    """``(n, 4)`` left, top, right, bottom as shares of the picture, within it."""
    middle = np.stack([cell % output.columns, cell // output.columns], axis=1) + 0.5
    sides = np.maximum(distances, 0.0)
    corners = np.concatenate([middle - sides[:, :2], middle + sides[:, 2:]], axis=1)
    shares: NDArray[np.float64] = np.clip(corners / np.array([output.columns, output.rows] * 2), 0.0, 1.0)
    return shares


def _best(corners: NDArray[np.float64], label: NDArray[np.intp], score: NDArray[np.float64], output: Detection) -> list[int]:
    """Indices, best first, without boxes that overlap a better one of their class."""
    area = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    left = np.arange(len(score))[area > 0]
    kept: list[int] = []
    while len(left) and len(kept) < output.max_boxes:
        best, rest = int(left[0]), left[1:]
        kept.append(best)
        low, high = np.maximum(corners[best, :2], corners[rest, :2]), np.minimum(corners[best, 2:], corners[rest, 2:])
        shared = np.prod(np.maximum(high - low, 0.0), axis=1)
        overlap = shared / (area[best] + area[rest] - shared)
        left = rest[(overlap <= output.max_overlap) | (label[rest] != label[best])]
    return kept
