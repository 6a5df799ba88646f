"""Known samples and the outputs they must give: the proof that a model does here what it did when it was verified."""

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.errors import AgentError, BadModel, Unfit
from edge_agent.core.ports import Runtime
from edge_agent.infer.answers import answerer
from edge_agent.infer.inputs import Content, decode_content, encode_content, encoder
from edge_agent.infer.runtimes import check_fit
from edge_agent.infer.timing import timed
from protos.contract.errors import InvalidMessage
from protos.contract.inputs import ImageInput, Input
from protos.contract.manifest import GoldenSet, Manifest
from protos.contract.twin import Fit

_TIMED_RUNS = 40  # few golden frames give no percentile: they are run again until there are this many
_TIMED_S = 5.0  # but no longer than this
_MOST_ERROR = 1e9  # tolerances: beyond it a number tells nothing any more


def make(contents: Sequence[Content], runtime: Runtime, input: Input) -> GoldenSet:
    """Record what ``runtime`` gives for ``contents``; frames are ``(H, W, 3)`` uint8 RGB and all of one size.

    Raises:
        BadFrame, InferenceError: a sample cannot be used or run.
        ValueError: no samples, or frames of different sizes.
    """
    encode = encoder(input)
    outputs = np.stack([runtime.run(encode(content)) for content in contents])
    count, size = outputs.shape
    recorded = outputs.astype("<f4").tobytes()
    if isinstance(input, ImageInput):
        frames = np.stack([content for content in contents if isinstance(content, np.ndarray)])
        _, height, width, _ = frames.shape
        return GoldenSet(count=count, size=size, outputs=recorded, height=height, width=width, frames=frames.tobytes())
    return GoldenSet(count=count, size=size, outputs=recorded, samples=tuple(encode_content(each) for each in contents))


def check(runtime: Runtime, manifest: Manifest, golden: GoldenSet, *, peak_bytes: Callable[[], int] = lambda: 0) -> Fit:
    """Run every golden sample, then time the runtime alone.

    ``peak_bytes``: the most memory so far of the process that runs it, asked for at the end; by default it is not known, and 0.

    Raises:
        Unfit: an output is further off than the manifest tolerates.
        BadModel: a run failed, or an output has another shape.
    """
    check_fit(runtime, manifest)
    if golden.size != manifest.output.size:
        raise BadModel(f"the golden set has outputs of {golden.size} values, the manifest of {manifest.output.size}")
    expected = np.frombuffer(golden.outputs, "<f4").reshape(golden.count, golden.size)
    try:
        tensors = list(map(encoder(manifest.input), _contents(golden, manifest)))
        outputs = [runtime.run(tensor) for tensor in tensors]
        latencies = _time(runtime, tensors)
    except AgentError as error:
        raise BadModel(f"{manifest.name} v{manifest.version} fails on its golden set: {error}") from error
    max_error, tolerance = _error(outputs, expected), manifest.golden.tolerance
    p50_ms, p95_ms = np.percentile(latencies, (50, 95))
    fit = Fit(
        p50_ms=float(p50_ms),
        p95_ms=float(p95_ms),
        peak_bytes=peak_bytes(),
        error=max_error / tolerance if max_error <= tolerance * _MOST_ERROR else _MOST_ERROR,
        agreement=_agreement(outputs, expected, tensors, manifest),
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


def _agreement(
    outputs: list[NDArray[np.float32]], expected: NDArray[np.float32], tensors: list[NDArray[np.float32]], manifest: Manifest
) -> float:
    """Share of the answers with the label that was expected, 0..1."""
    answer = answerer(manifest.output)
    same = [
        answer(here, tensor, 0.0).label == answer(there, tensor, 0.0).label
        for here, there, tensor in zip(outputs, expected, tensors, strict=True)
    ]
    return sum(same) / len(same)


def _contents(golden: GoldenSet, manifest: Manifest) -> list[Content]:
    """Raises BadModel where they are no samples of the manifest's kind."""
    if isinstance(manifest.input, ImageInput) != bool(golden.frames):
        raise BadModel(f"the golden set does not hold what the manifest's input takes: {manifest.input.kind.name.lower()}")
    if golden.frames:
        return list(np.frombuffer(golden.frames, np.uint8).reshape(golden.count, golden.height, golden.width, 3))
    try:
        return [decode_content(sample, manifest.input.kind) for sample in golden.samples]
    except InvalidMessage as error:
        raise BadModel(f"golden set: {error}") from error


def _time(runtime: Runtime, tensors: list[NDArray[np.float32]]) -> list[float]:
    """Milliseconds per run."""
    latencies: list[float] = []
    end = time.monotonic() + _TIMED_S
    while len(latencies) < _TIMED_RUNS and (not latencies or time.monotonic() < end):
        latencies.append(timed(runtime, tensors[len(latencies) % len(tensors)])[1])
    return latencies
