"""How far up the item is that was chosen."""

import numpy as np
from numpy.typing import NDArray

from cloud_hub.pipeline.task import Outputs


def ranks(outputs: Outputs, targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """``(N,)`` from 0: how many items a device would name first. Of equal scores, frequent in int8, the first column wins.

    Args:
        outputs: ``(N, items)`` or with more columns, which are items that cannot be right.
        targets: ``(N,)``.
    """
    own = outputs[np.arange(len(targets)), targets][:, None]
    before = np.arange(outputs.shape[1]) < targets[:, None]
    place: NDArray[np.int64] = ((outputs > own) | ((outputs == own) & before)).sum(axis=1)
    return place


def popular_ranks(seen: NDArray[np.bool_], targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same if everybody were told the most popular items they have not seen; items come most popular first.

    Args:
        seen: ``(N, items)``.
    """
    named = ~seen & (np.arange(seen.shape[1]) < targets[:, None])
    place: NDArray[np.int64] = named.sum(axis=1)
    return place


def gain(ranks: NDArray[np.int64], top: int) -> float:
    """NDCG with one right answer: 1 in the first place, less further down, 0 below ``top``."""
    return float(np.where(ranks < top, 1 / np.log2(ranks + 2), 0.0).mean())


def mean_reciprocal(ranks: NDArray[np.int64], top: int) -> float:
    return float(np.where(ranks < top, 1 / (ranks + 1), 0.0).mean())
