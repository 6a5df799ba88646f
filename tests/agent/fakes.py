"""Fakes that keep the promises of ``edge_agent.core.ports``; the port suites run over them too."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from threading import Event

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.errors import InferenceError
from edge_agent.core.model import Capture, Observation
from protos.contract.ids import Digest

Answer = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class FakeRuntime:
    """Answers every tensor with ``answer(tensor)``: by default the sums of as many equal parts as there are classes."""

    def __init__(self, input_shape: tuple[int, ...] = (1, 3, 12, 12), classes: int = 4, answer: Answer | None = None) -> None:
        self.runs = 0
        self._shape = input_shape
        self._answer: Answer = answer or (
            lambda tensor: np.array([part.sum() for part in np.array_split(tensor.reshape(-1), classes)], np.float32)
        )

    inner_ms: float | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self._shape

    def run(self, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        self.runs += 1
        if tensor.shape != self._shape or tensor.dtype != np.float32 or not np.isfinite(tensor).all():
            raise InferenceError("not a finite tensor of the input shape")
        logits = self._answer(tensor).copy()
        if not np.isfinite(logits).all():
            raise InferenceError("the output holds NaN or infinity")
        return logits


class FakeSource:
    """Gives ``frames``, then ends, or with ``stay`` waits to be closed; what is not pixels is raised instead."""

    def __init__(self, frames: Sequence[NDArray[np.uint8] | Exception], *, stay: bool = False) -> None:
        self._frames = frames
        self._stay = stay
        self._closed = Event()

    def observations(self) -> Iterator[Observation]:
        for item in self._frames:
            if self._closed.is_set():
                return
            if isinstance(item, Exception):
                raise item
            yield Observation(content=item, captured_at=datetime.now(UTC), source="fake")
        if self._stay:
            self._closed.wait()

    def close(self) -> None:
        self._closed.set()


class FakeCaptures:
    """Captures in memory, bounded by the bytes of their pictures."""

    def __init__(self, max_bytes: int = 1 << 20) -> None:
        self._max_bytes = max_bytes
        self._kept: dict[Digest, Capture] = {}

    def add(self, capture: Capture) -> bool:
        if capture.digest in self._kept:
            return True
        if sum(len(kept.content) for kept in self._kept.values()) + len(capture.content) > self._max_bytes:
            return False
        self._kept[capture.digest] = capture
        return True

    def pending(self, limit: int) -> Sequence[Capture]:
        return sorted(self._kept.values(), key=lambda capture: capture.captured_at)[:limit]

    def remove(self, digest: Digest) -> None:
        self._kept.pop(digest, None)

    def count(self) -> int:
        return len(self._kept)
