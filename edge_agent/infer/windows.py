"""Windows of readings -> tensors."""

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.errors import BadFrame
from protos.contract.inputs import CLIP, WindowInput
from protos.contract.samples import Window


class WindowEncoder:
    """``WindowInput`` as code."""

    def __init__(self, input: WindowInput) -> None:
        self._channels, self._steps = input.channels, input.steps
        self._mean, self._std = np.array(input.mean), np.array(input.std)

    def __call__(self, window: Window) -> NDArray[np.float32]:
        """``(1, steps, channels)``. Raises BadFrame naming the channel that is missing, or how many steps are."""
        values = self._picked(window)
        if len(values) < self._steps:
            raise BadFrame(f"a window of {len(values)} steps, the model takes {self._steps}")
        tensor = values[-self._steps :].astype(np.float64, order="C")  # picked columns lie in another order
        tensor -= self._mean
        tensor /= self._std
        _fill(tensor)
        return np.clip(tensor, -CLIP, CLIP, out=tensor).astype(np.float32)[None]

    def _picked(self, window: Window) -> NDArray[np.float32]:
        if window.channels == self._channels:
            return window.values
        index = {name: i for i, name in enumerate(window.channels)}
        if missing := [name for name in self._channels if name not in index]:
            raise BadFrame(f"the window has no channel {missing[0]!r}")
        picked: NDArray[np.float32] = window.values[:, [index[name] for name in self._channels]]
        return picked


def _fill(tensor: NDArray[np.float64]) -> None:
    """In place: a missing value takes the one before it, at the start the mean, which is 0 here."""
    there = np.isfinite(tensor)
    if there.all():
        return
    last = np.maximum.accumulate(np.where(there, np.arange(len(tensor))[:, None], -1), axis=0)
    filled = np.take_along_axis(tensor, np.maximum(last, 0), axis=0)
    tensor[...] = np.where(last >= 0, filled, 0.0)
