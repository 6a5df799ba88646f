"""The checks that keep every runtime's promise the same."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.errors import BadModel, InferenceError


def batch_of_one(shape: Sequence[object], *, runtime: str, what: str) -> tuple[int, ...]:
    """``shape`` with a free first dimension set to 1; raises BadModel where another one is free or the batch is not 1."""
    first, *rest = shape if shape else (None,)
    fixed = all(isinstance(side, int | np.integer) and side > 0 for side in rest)
    free = not isinstance(first, int | np.integer) or first in (1, -1)
    if not rest or not fixed or not free:
        raise BadModel(f"{runtime}: the model's {what} must be (1, ...) with fixed sides, got {tuple(shape)}")
    return (1, *(int(side) for side in rest if isinstance(side, int | np.integer)))


def checked_input(tensor: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """C-contiguous; raises InferenceError for another shape or dtype, and for NaN: int8 models make an answer of it."""
    if tensor.shape != shape or tensor.dtype != np.float32:
        raise InferenceError(f"the model takes {shape} float32, got {tensor.shape} {tensor.dtype}")
    if not np.isfinite(tensor).all():
        raise InferenceError("the input tensor holds NaN or infinity")
    return np.ascontiguousarray(tensor)


def checked_output(output: NDArray[np.float32]) -> NDArray[np.float32]:
    """``(1, classes)`` -> ``(classes,)``; raises InferenceError for NaN or infinity."""
    logits = output.reshape(-1)
    if not np.isfinite(logits).all():
        raise InferenceError("the model's output holds NaN or infinity")
    return logits
