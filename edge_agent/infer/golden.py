"""Known frames and the outputs they must give: the proof that a model does here what it did when it was verified."""

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.errors import AgentError, BadModel, Unfit
from edge_agent.core.ports import Runtime
from edge_agent.infer.preprocess import preprocess
from edge_agent.infer.runtimes import check_fit
from edge_agent.infer.timing import timed
from protos.contract.manifest import GoldenSet, Manifest, PreprocessSpec
from protos.contract.twin import Fit

_TIMED_RUNS = 40  # few golden frames give no percentile: they are run again until there are this many
_TIMED_S = 5.0  # but no longer than this
_MOST_ERROR = 1e9  # tolerances: beyond it a number tells nothing any more


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


def check(runtime: Runtime, manifest: Manifest, golden: GoldenSet, *, peak_bytes: Callable[[], int] = lambda: 0) -> Fit:
    """Run every golden frame, then time the runtime alone.

    ``peak_bytes``: the most memory so far of the process that runs it, asked for at the end; by default it is not known, and 0.

    Raises:
        Unfit: an output is further off than the manifest tolerates.
        BadModel: a run failed, or an output has another shape.
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
    max_error, tolerance = _error(outputs, expected), manifest.golden.tolerance
    p50_ms, p95_ms = np.percentile(latencies, (50, 95))
    fit = Fit(
        p50_ms=float(p50_ms),
        p95_ms=float(p95_ms),
        peak_bytes=peak_bytes(),
        error=max_error / tolerance if max_error <= tolerance * _MOST_ERROR else _MOST_ERROR,
        agreement=float(np.mean(np.stack(outputs).argmax(axis=1) == expected.argmax(axis=1))),
    )
    if not max_error <= tolerance:  # "not <=": NaN in the expected outputs must not pass
        named = f"{manifest.name} v{manifest.version}"
        raise Unfit(f"{named}: golden outputs are off by {max_error:.4g}, tolerated are {tolerance:.4g}", fit)
    return fit


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
