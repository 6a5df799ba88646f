"""Known frames and the outputs they must give: the proof that a model does here what it did when it was verified."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.errors import AgentError, BadModel
from edge_agent.core.ports import Runtime
from edge_agent.infer.preprocess import preprocess
from edge_agent.infer.runtimes import check_fit
from edge_agent.infer.timing import timed
from protos.contract.manifest import GoldenSet, Manifest, PreprocessSpec

_TIMED_RUNS = 40  # few golden frames give no percentile: they are run again until there are this many
_TIMED_S = 5.0  # but no longer than this


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenResult:
    max_error: float  # max |output - expected|, in the model's output units
    latency_p50_ms: float  # of the runtime alone, on this machine
    latency_p95_ms: float


def make(frames: Sequence[NDArray[np.uint8]], runtime: Runtime, spec: PreprocessSpec) -> GoldenSet:
    """Record what ``runtime`` gives for ``frames``, which are ``(H, W, 3)`` uint8 RGB and all of one size.

    Raises:
        BadFrame, InferenceError: a frame cannot be used or run.
        ValueError: no frames, or frames of different sizes.
    """
    stacked = np.stack(frames)
    outputs = np.stack([runtime.run(preprocess(frame, spec)) for frame in stacked])
    return GoldenSet(
        count=len(stacked),
        height=stacked.shape[1],
        width=stacked.shape[2],
        classes=outputs.shape[1],
        frames=stacked.tobytes(),
        outputs=outputs.astype("<f4").tobytes(),
    )


def check(runtime: Runtime, manifest: Manifest, golden: GoldenSet) -> GoldenResult:
    """Run every golden frame, then time the runtime.

    Raises:
        BadModel: a run failed, or an output has another shape or is further off than the manifest tolerates.
    """
    check_fit(runtime, manifest)
    if golden.classes != len(manifest.classification.labels):
        raise BadModel(f"the golden set has {golden.classes} classes, the manifest {len(manifest.classification.labels)}")
    frames = np.frombuffer(golden.frames, np.uint8).reshape(golden.count, golden.height, golden.width, 3)
    expected = np.frombuffer(golden.outputs, "<f4").reshape(golden.count, golden.classes)
    try:
        outputs = [runtime.run(preprocess(frame, manifest.preprocess)) for frame in frames]
        latencies = _time(runtime, frames, manifest.preprocess)
    except AgentError as error:
        raise BadModel(f"{manifest.name} v{manifest.version} fails on its golden set: {error}") from error
    max_error = _error(outputs, expected)
    if not max_error <= manifest.golden.tolerance:  # "not <=": NaN in the expected outputs must not pass
        raise BadModel(
            f"{manifest.name} v{manifest.version}: golden outputs are off by {max_error:.4g}, tolerated are "
            f"{manifest.golden.tolerance:.4g}"
        )
    return GoldenResult(
        max_error=max_error,
        latency_p50_ms=float(np.percentile(latencies, 50)),
        latency_p95_ms=float(np.percentile(latencies, 95)),
    )


def _error(outputs: list[NDArray[np.float32]], expected: NDArray[np.float32]) -> float:
    if any(output.shape != expected.shape[1:] for output in outputs):
        raise BadModel(f"the model gives {outputs[0].shape} values, its golden set has {expected.shape[1:]}")
    with np.errstate(over="ignore"):  # a damaged model may be off by more than float32 holds
        return float(np.abs(np.stack(outputs) - expected).max())


def _time(runtime: Runtime, frames: NDArray[np.uint8], spec: PreprocessSpec) -> list[float]:
    """Milliseconds per run."""
    latencies: list[float] = []
    end = time.monotonic() + _TIMED_S
    while len(latencies) < _TIMED_RUNS and (not latencies or time.monotonic() < end):
        tensor = preprocess(frames[len(latencies) % len(frames)], spec)
        latencies.append(timed(runtime, tensor)[1])
    return latencies
