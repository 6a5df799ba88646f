"""Frames that are already in memory."""

from collections.abc import Iterator
from threading import Event

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.clock import Clock, SystemClock
from edge_agent.core.model import Observation


class ArraySource:
    """The rows of ``(N, H, W, 3)`` uint8, once or in a loop, as fast as they are taken."""

    def __init__(
        self, frames: NDArray[np.uint8], *, clock: Clock | None = None, source: str = "array", loop: bool = False
    ) -> None:
        self._frames = frames
        self._clock = clock or SystemClock()
        self._source = source
        self._loop = loop
        self._closed = Event()

    def observations(self) -> Iterator[Observation]:
        while True:
            for pixels in self._frames:
                if self._closed.is_set():
                    return
                yield Observation(content=pixels, captured_at=self._clock.now(), source=self._source)
            if not self._loop or len(self._frames) == 0:
                return

    def close(self) -> None:
        self._closed.set()
