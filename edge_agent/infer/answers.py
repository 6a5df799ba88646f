"""What a model's output says."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.model import Prediction
from edge_agent.infer.boxes import boxes_of
from edge_agent.infer.postprocess import classify
from protos.contract.outputs import Classification, Detection, Output, Ranking, Reconstruction, Values

Answer = Callable[[NDArray[np.float32], NDArray[np.float32], float], Prediction]


def answerer(output: Output) -> Answer:
    """What makes a prediction of ``(outputs, tensor, latency_ms)``: make it once per model.

    ``outputs`` are finite, ``(output.size,)``; ``tensor`` is what the model was run on.
    """
    match output:
        case Classification():
            return lambda outputs, _, latency_ms: classify(outputs, output, latency_ms)
        case Ranking():
            return lambda outputs, _, latency_ms: _rank(outputs, output, latency_ms)
        case Values():
            scale = (np.array(output.mean), np.array(output.std), np.array(output.edges))
            return lambda outputs, _, latency_ms: _values(outputs, *scale, output.headline, latency_ms)
        case Reconstruction():
            return partial(_judge, threshold=output.threshold)
        case Detection():
            return lambda outputs, _, latency_ms: _detect(outputs, output, latency_ms)


def answer(outputs: NDArray[np.float32], tensor: NDArray[np.float32], output: Output, latency_ms: float = 0.0) -> Prediction:
    """Of one run, see ``answerer``."""
    return answerer(output)(outputs, tensor, latency_ms)


def _rank(outputs: NDArray[np.float32], output: Ranking, latency_ms: float) -> Prediction:
    scaled = outputs.astype(np.float64) / output.temperature
    shares = np.exp(scaled - scaled.max())
    shares /= shares.sum()
    least = np.partition(shares, -output.top)[-output.top]  # sorting tens of thousands would take longer than most models
    among = np.flatnonzero(shares >= least)
    best = among[np.argsort(-shares[among], kind="stable")][: output.top]
    ranked = tuple(zip(best.tolist(), np.minimum(shares[best], 1.0).tolist(), strict=True))
    return Prediction(label=ranked[0][0], confidence=ranked[0][1], latency_ms=latency_ms, ranked=ranked)


def _values(
    outputs: NDArray[np.float32],
    mean: NDArray[np.float64],
    std: NDArray[np.float64],
    edges: NDArray[np.float64],
    headline: int,
    latency_ms: float,
) -> Prediction:
    numbers = outputs.astype(np.float64) * std + mean
    value = float(numbers[headline])
    label = int(np.searchsorted(edges, value, side="right"))
    return Prediction(label=label, confidence=1.0, latency_ms=latency_ms, value=value, values=tuple(numbers.tolist()))


def _judge(outputs: NDArray[np.float32], tensor: NDArray[np.float32], latency_ms: float, *, threshold: float) -> Prediction:
    error = reconstruction_error(outputs, tensor)
    share = error / (error + threshold) if math.isfinite(error) else 1.0
    anomaly = error > threshold
    return Prediction(label=int(anomaly), confidence=share if anomaly else 1.0 - share, latency_ms=latency_ms, value=error)


def reconstruction_error(outputs: NDArray[np.float32], tensor: NDArray[np.float32]) -> float:
    """Mean squared, in units of the tensor."""
    difference = outputs.reshape(-1).astype(np.float64) - tensor.reshape(-1)
    return float(difference @ difference / difference.size)


def _detect(outputs: NDArray[np.float32], output: Detection, latency_ms: float) -> Prediction:
    boxes, best = boxes_of(outputs, output)
    if not boxes:
        return Prediction(label=len(output.classes), confidence=1.0 - best, latency_ms=latency_ms, value=0.0)
    first = boxes[0]
    return Prediction(label=first.label, confidence=first.score, latency_ms=latency_ms, value=float(len(boxes)), boxes=boxes)
