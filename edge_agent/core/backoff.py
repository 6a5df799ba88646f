"""Pauses between tries."""

import random
from collections.abc import Callable


class Backoff:
    """Doubling pauses with jitter, so that a fleet does not come back in step. Not thread-safe."""

    def __init__(self, first_s: float, longest_s: float, jitter: Callable[[], float] = random.random) -> None:
        self._first_s, self._longest_s, self._jitter = first_s, longest_s, jitter
        self._failures = 0

    def next(self) -> float:
        """Seconds to wait after one more failure: half to all of the doubled pause."""
        pause = min(self._longest_s, self._first_s * 2.0 ** min(self._failures, 20))
        self._failures += 1
        return pause * (0.5 + self._jitter() / 2)

    def after_loss(self) -> float:
        """Forget the failures; seconds to wait before the first try after something held that many lost at the same moment:
        anything from none to twice the first pause."""
        self.reset()
        return 2 * self._first_s * self._jitter()

    def reset(self) -> None:
        self._failures = 0
