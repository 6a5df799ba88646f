"""Tensors that are mostly 0, as a data set of them fits in memory."""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cloud_hub.pipeline.task import Feeder


class SparseFeeder(Feeder):
    """What ``sparse`` packed -> the tensors a device makes."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def light(self, inputs: Tensor) -> Tensor:
        """``(B, 2, most)`` -> ``(B, size)``; what is of that shape already stays as it is."""
        if inputs.ndim == 2:
            return inputs.float()
        tensors = torch.zeros(len(inputs), self._size, device=inputs.device)
        return tensors.scatter_add_(1, inputs[:, 0].long(), inputs[:, 1].float())


def sparse(tensors: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
    """``(size,)`` each -> ``(N, 2, most)``: the places of what is not 0, then what it is; the rest is 0 at place 0.

    Places are exact: a float32 holds every whole number up to 16 million.
    """
    held = [(places, tensor[places]) for tensor in tensors for places in [np.flatnonzero(tensor)]]
    packed = np.zeros((len(held), 2, max((len(places) for places, _ in held), default=0)), np.float32)
    for row, (places, values) in zip(packed, held, strict=True):
        row[0, : len(places)], row[1, : len(places)] = places, values
    return packed
