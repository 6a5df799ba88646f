"""Each model file in the runtimes devices run it in, with the devices' own code: what it answers, how fast, how surely."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloud_hub.pipeline.data import Split, Splits
from cloud_hub.pipeline.evaluate import Logits, Score, score
from cloud_hub.pipeline.export import Artifact, Tell
from edge_agent.core.errors import AgentError
from edge_agent.core.ports import Runtime
from edge_agent.infer import golden
from edge_agent.infer.canary import try_model
from edge_agent.infer.preprocess import preprocess
from edge_agent.infer.runtimes import available, load
from protos.contract import codec
from protos.contract.ids import ModelName, digest_of
from protos.contract.manifest import (
    Blob,
    ClassificationSpec,
    GoldenRef,
    GoldenSet,
    Manifest,
    Precision,
    PreprocessSpec,
)

GOLDEN_FRAMES = 12
CANARY_TIMEOUT_S = 60.0
_SECOND_RUNTIME_FRAMES = 256  # tflite-runtime runs int8 ten times slower than LiteRT: enough frames to see that it agrees
_TIMED_ROUNDS = 150
_TIMED_S = 4.0
# Least tolerance as a share of the largest golden output. A device's processor adds in another order and, in int8, rounds some
# values to the neighbouring level; a wrong kernel or a damaged file is off by far more.
_LEAST_TOLERANCE = {Precision.FP32: 1e-3, Precision.INT8: 0.05}


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeCheck:
    accuracy: float  # 0..1, over the first ``samples`` test frames
    best_accuracy: float  # 0..1, of the best runtime on those same frames
    samples: int
    golden_error: float  # max |output - golden output|
    error: str = ""  # why it does not run there

    @property
    def fall(self) -> float:
        """Accuracy lost by running here and not in the best runtime, -1..1."""
        return self.best_accuracy - self.accuracy


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """One file and what it did. ``problem`` is empty where it ran everywhere it must."""

    artifact: Artifact
    preprocess: PreprocessSpec
    score: Score  # on test, in the best runtime
    val_logits: Logits
    output_error: float  # |file - network| / |network|, over the test split's logits
    golden: GoldenSet
    tolerance: float  # max |output - golden output| a device may show
    latency_p50_ms: float  # one thread, this machine
    runtimes: Mapping[str, RuntimeCheck]
    problem: str = ""

    def as_json(self) -> dict[str, object]:
        return {
            "accuracy": round(self.score.accuracy, 5),
            "output_error": round(self.output_error, 6),
            "latency_p50_ms": round(self.latency_p50_ms, 4),
            "size_bytes": len(self.artifact.data),
            "tolerance": round(self.tolerance, 6),
            "runtimes": {
                name: {"accuracy": round(c.accuracy, 5), "samples": c.samples, "golden_error": round(c.golden_error, 6)}
                for name, c in self.runtimes.items()
            },
        }


def verify(
    artifacts: Sequence[Artifact], splits: Splits, reference: Logits, name: ModelName, task: str, folder: Path, tell: Tell
) -> tuple[Verified, ...]:
    """``reference`` are the network's own logits on the test split.

    Raises:
        BadModel, InferenceError: a file does not even run in the best runtime here.
    """
    latency = time_interleaved(artifacts, splits)
    done = []
    for number, artifact in enumerate(artifacts, 1):
        verified = _verify(artifact, splits, reference, latency[artifact.target], name, task, folder)
        done.append(verified)
        what = f"{artifact.target}: accuracy {verified.score.accuracy:.4f}, output error {verified.output_error:.4f}"
        tell(number / len(artifacts), f"{what}, {verified.latency_p50_ms:.3f} ms, {len(artifact.data) / 1024:.0f} KiB")
    return tuple(done)


def time_interleaved(artifacts: Sequence[Artifact], splits: Splits) -> dict[str, float]:
    """p50 milliseconds by target, one thread each, run in turns so that a busy moment of the machine hits all of them."""
    runs = [(load(a.format, a.data), preprocess(splits.test.frames[0], splits.preprocess(a.layout))) for a in artifacts]
    samples: list[list[float]] = [[] for _ in runs]
    end = time.monotonic() + _TIMED_S
    for round_ in range(_TIMED_ROUNDS + 5):
        for (runtime, tensor), kept in zip(runs, samples, strict=True):
            started = time.perf_counter()
            runtime.run(tensor)
            if round_ >= 5:  # the first runs pay for lazy allocation
                kept.append((time.perf_counter() - started) * 1e3)
        if round_ >= 5 and time.monotonic() > end:
            break
    return {artifact.target: float(np.median(kept)) for artifact, kept in zip(artifacts, samples, strict=True)}


def run(runtime: Runtime, frames: NDArray[np.uint8], spec: PreprocessSpec) -> Logits:
    """(N, classes), frame by frame, as a device does."""
    return np.stack([runtime.run(preprocess(frame, spec)) for frame in frames])


def golden_frames(split: Split) -> NDArray[np.uint8]:
    """Frames of as many classes as fit, one of each class in turn."""
    order = np.lexsort((np.arange(len(split)), _turn(split.labels)))
    chosen: NDArray[np.uint8] = split.frames[order[:GOLDEN_FRAMES]]
    return chosen


def _turn(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many frames of the same class come before each."""
    turns = np.empty_like(labels)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        turns[rows] = np.arange(len(rows))
    return turns


def _verify(
    artifact: Artifact, splits: Splits, reference: Logits, latency_ms: float, name: ModelName, task: str, folder: Path
) -> Verified:
    spec = splits.preprocess(artifact.layout)
    usable = [runtime for runtime in artifact.runtimes if runtime in available()]
    best = load(artifact.format, artifact.data, 1, usable[0] if usable else artifact.runtimes[0])
    logits = run(best, splits.test.frames, spec)
    made = golden.make(list(golden_frames(splits.test)), best, spec)
    expected = np.frombuffer(made.outputs, "<f4").reshape(made.count, made.classes)
    checks = {runtime: _check(artifact, runtime, splits, logits, expected, spec) for runtime in usable}
    tolerance = _tolerance(artifact, splits, reference, logits, expected, [c.golden_error for c in checks.values()])
    problem = "; ".join(f"{runtime}: {check.error}" for runtime, check in checks.items() if check.error)
    if not problem:
        problem = _canary(artifact, spec, made, tolerance, splits.labels, name, task, folder, usable)
    return Verified(
        artifact=artifact,
        preprocess=spec,
        score=score(logits, splits.test, splits.labels),
        val_logits=run(best, splits.val.frames, spec),
        output_error=float(np.linalg.norm(logits - reference) / max(float(np.linalg.norm(reference)), 1e-12)),
        golden=made,
        tolerance=tolerance,
        latency_p50_ms=latency_ms,
        runtimes=checks,
        problem=problem,
    )


def _check(artifact: Artifact, name: str, splits: Splits, best: Logits, expected: Logits, spec: PreprocessSpec) -> RuntimeCheck:
    """Every runtime the file is meant for, with one thread and two: the golden set must hold in all of them."""
    count = len(splits.test) if name == artifact.runtimes[0] else min(len(splits.test), _SECOND_RUNTIME_FRAMES)
    frames = golden_frames(splits.test)
    try:
        error = max(
            float(np.abs(run(load(artifact.format, artifact.data, threads, name), frames, spec) - expected).max())
            for threads in (1, 2)
        )
        logits = run(load(artifact.format, artifact.data, 1, name), splits.test.frames[:count], spec)
    except AgentError as problem:
        return RuntimeCheck(accuracy=0.0, best_accuracy=0.0, samples=0, golden_error=0.0, error=str(problem))
    here, there = (float((some.argmax(1) == splits.test.labels[:count]).mean()) for some in (logits, best[:count]))
    return RuntimeCheck(accuracy=here, best_accuracy=there, samples=count, golden_error=error)


def _tolerance(
    artifact: Artifact, splits: Splits, reference: Logits, logits: Logits, expected: Logits, seen: Sequence[float]
) -> float:
    """Wide enough for four times the difference between the runs here, and for int8 twice its own distance from the network:

    a processor that rounds differently may be as far from this one as this one is from the exact answer.
    """
    floor = _LEAST_TOLERANCE[artifact.precision] * float(np.abs(expected).max())
    quantization = (
        float(np.quantile(np.abs(logits - reference).max(axis=1), 0.99)) if artifact.precision is Precision.INT8 else 0
    )
    return float(np.float32(max(floor, 4 * max(seen, default=0.0), 2 * quantization, 1e-6)))


def _canary(
    artifact: Artifact,
    spec: PreprocessSpec,
    made: GoldenSet,
    tolerance: float,
    labels: tuple[str, ...],
    name: ModelName,
    task: str,
    folder: Path,
    runtimes: Sequence[str],
) -> str:
    """The trial a device gives a new file, in each runtime; empty where it passes. Its manifest has a stand-in version."""
    data = codec.encode_golden(made)
    manifest = Manifest(
        name=name,
        version=1,
        task=task,
        artifact=Blob(digest=digest_of(artifact.data), size_bytes=len(artifact.data)),
        format=artifact.format,
        precision=artifact.precision,
        preprocess=spec,
        classification=ClassificationSpec(labels=labels),
        golden=GoldenRef(blob=Blob(digest=digest_of(data), size_bytes=len(data)), tolerance=tolerance),
    )
    paths = [folder / f"{artifact.target}.{part}" for part in ("manifest", "model", "golden")]
    for path, content in zip(paths, (codec.encode_manifest(manifest), artifact.data, data), strict=True):
        path.write_bytes(content)
    for runtime in runtimes:
        try:
            try_model(paths[0], paths[1], paths[2], CANARY_TIMEOUT_S, runtime=runtime)
        except AgentError as error:
            return f"{runtime}: {error}"
    return ""
