"""Logits -> prediction."""

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.model import Prediction
from protos.contract.manifest import ClassificationSpec


def classify(logits: NDArray[np.float32], spec: ClassificationSpec, latency_ms: float) -> Prediction:
    """Softmax of ``logits / temperature`` and the label of the largest entry; ``logits`` are finite, ``(classes,)`` float32."""
    label = int(logits.argmax())
    with np.errstate(over="ignore"):  # towards -inf, whose exp is the 0 it should be
        probabilities = np.exp((logits - logits[label]) / np.float32(spec.temperature))
    probabilities /= probabilities.sum()
    return Prediction(
        logits=logits,
        probabilities=probabilities,
        label=label,
        confidence=min(1.0, float(probabilities[label])),
        latency_ms=latency_ms,
    )
