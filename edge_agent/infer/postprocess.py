"""Logits -> prediction."""

import math

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.model import Prediction
from protos.contract.outputs import Classification


def classify(logits: NDArray[np.float32], spec: Classification, latency_ms: float) -> Prediction:
    """The label of the largest logit, and its softmax at ``temperature``; ``logits`` are finite, ``(classes,)`` float32.

    In plain Python: for tens of classes NumPy's many small calls cost more, most of all right after a network has
    had the caches to itself.
    """
    values = logits.tolist()
    largest = max(values)
    total = sum([math.exp((value - largest) / spec.temperature) for value in values])
    return Prediction(label=values.index(largest), confidence=1 / total, latency_ms=latency_ms)
