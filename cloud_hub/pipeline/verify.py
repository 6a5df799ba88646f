"""Each model file in the runtimes devices run it in, with the devices' own code: what it answers, how fast, how surely."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from cloud_hub.core.tasks import Metric
from cloud_hub.pipeline import parity
from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.export import Artifact, Tell
from cloud_hub.pipeline.parity import Parity
from cloud_hub.pipeline.task import Outputs, Score, Task
from cloud_hub.pipeline.timing import Speedup, speedup, time_interleaved
from edge_agent.core.errors import AgentError
from edge_agent.core.ports import Runtime
from edge_agent.infer import golden
from edge_agent.infer.canary import try_model
from edge_agent.infer.inputs import Content, tensor_of
from edge_agent.infer.runtimes import available, load
from protos.contract import codec
from protos.contract.ids import digest_of, model_name
from protos.contract.inputs import Input
from protos.contract.manifest import Blob, GoldenRef, GoldenSet, Manifest, Precision

log = logging.getLogger(__name__)

GOLDEN_SAMPLES = 12
CANARY_TIMEOUT_S = 60.0
_SECOND_RUNTIME_SAMPLES = 256  # tflite-runtime runs int8 ten times slower than LiteRT: enough samples to see that it agrees
# Least tolerance as a share of the largest golden output. A device's processor adds in another order and, in int8, rounds some
# values to the neighbouring level; a wrong kernel or a damaged file is off by far more.
_LEAST_TOLERANCE = {Precision.FP32: 1e-3, Precision.INT8: 0.05}


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeCheck:
    value: float  # of the metric, over ``samples`` of the test split, evenly spread
    best_value: float  # of the best runtime on those same samples
    samples: int
    golden_error: float  # max |output - golden output|
    error: str = ""  # why it does not run there
    peak_bytes: int = 0  # memory of the process that tried it here; 0: not tried


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """One file and what it did. ``problem`` is empty where it ran everywhere it must."""

    artifact: Artifact
    input: Input
    score: Score  # on test, in the best runtime
    outputs: Outputs  # on test
    val_outputs: Outputs
    output_error: float  # |file - network| / |network|, over the outputs for the test split's usual rows
    golden: GoldenSet
    tolerance: float  # max |output - golden output| a device may show
    latency_p50_ms: float  # one thread, this machine
    runtimes: Mapping[str, RuntimeCheck]
    speedup: Speedup | None = None  # of int8
    problem: str = ""
    parity: Parity | None = None  # operator by operator; None: it could not be looked at

    @property
    def where(self) -> str:
        """Its output error begins, in words."""
        return self.parity.line if self.parity else ""

    def as_json(self, metric: Metric) -> dict[str, object]:
        return {
            metric.name: round(self.score.value, 5),
            "output_error": round(self.output_error, 6),
            "latency_p50_ms": round(self.latency_p50_ms, 4),
            "speedup": round(self.speedup.middle, 3) if self.speedup else None,
            "size_bytes": len(self.artifact.data),
            "tolerance": round(self.tolerance, 6),
            "parity": self.parity.as_json() if self.parity else None,
            "runtimes": {
                name: {
                    metric.name: round(c.value, 5),
                    "samples": c.samples,
                    "golden_error": round(c.golden_error, 6),
                    "peak_bytes": c.peak_bytes,
                }
                for name, c in self.runtimes.items()
            },
        }


def verify(
    task: Task,
    artifacts: Sequence[Artifact],
    splits: Splits,
    reference: Outputs,
    folder: Path,
    tell: Tell,
    network: nn.Module | None = None,
) -> tuple[Verified, ...]:
    """``reference`` are the outputs on the test split of ``network``; with it each file is compared operator by operator.

    Raises:
        BadModel, InferenceError: a file does not even run in the best runtime here.
    """
    times = time_interleaved(artifacts, splits)
    done = []
    for number, artifact in enumerate(artifacts, 1):
        verified = _verify(task, artifact, splits, reference, times, folder, network)
        done.append(verified)
        what = f"{artifact.target}: {task.metric.name} {verified.score.value:.4f}, output error {verified.output_error:.4f}"
        tell(number / len(artifacts), f"{what}, {verified.latency_p50_ms:.3f} ms, {len(artifact.data) / 1024:.0f} KiB")
    return tuple(done)


def run(runtime: Runtime, contents: Sequence[Content], input: Input) -> Outputs:
    """(N, size), sample by sample, as a device does."""
    return np.stack([runtime.run(tensor_of(content, input)) for content in contents])


def output_error(outputs: Outputs, exact: Outputs) -> float:
    """``|outputs - exact| / |exact|`` over all rows."""
    return float(np.linalg.norm(outputs - exact)) / max(float(np.linalg.norm(exact)), 1e-12)


def _verify(
    task: Task,
    artifact: Artifact,
    splits: Splits,
    reference: Outputs,
    times: Mapping[str, NDArray[np.float64]],
    folder: Path,
    network: nn.Module | None,
) -> Verified:
    input, test = splits.input_for(artifact.layout), splits.test
    usable = [runtime for runtime in artifact.runtimes if runtime in available()]
    best = load(artifact.format, artifact.data, 1, usable[0] if usable else artifact.runtimes[0])
    outputs = run(best, test.contents, input)
    usual = task.usual_rows(test)
    ours, exact, common = outputs[usual], reference[usual], test.take(usual)
    shown = common.take(task.golden_rows(common, GOLDEN_SAMPLES)).contents
    made = golden.make(shown, best, input)
    expected = np.frombuffer(made.outputs, "<f4").reshape(made.count, made.size)
    checks = {runtime: _check(task, artifact, runtime, splits, outputs, shown, expected) for runtime in usable}
    tolerance = _tolerance(artifact, exact, ours, expected, [c.golden_error for c in checks.values()])
    problem = "; ".join(f"{runtime}: {check.error}" for runtime, check in checks.items() if check.error)
    if not problem:
        problem, peaks = _canary(task, artifact, splits, made, tolerance, folder, usable)
        checks = {runtime: replace(check, peak_bytes=peaks.get(runtime, 0)) for runtime, check in checks.items()}
    return Verified(
        artifact=artifact,
        input=input,
        score=task.score(outputs, test, splits),
        outputs=outputs,
        val_outputs=run(best, splits.val.contents, input),
        output_error=output_error(ours, exact),
        golden=made,
        tolerance=tolerance,
        latency_p50_ms=float(np.median(times[artifact.target])),
        runtimes=checks,
        speedup=speedup(artifact, times),
        problem=problem,
        parity=_parity(task, network, artifact, replace(splits, test=common)) if network is not None else None,
    )


def _parity(task: Task, network: nn.Module, artifact: Artifact, splits: Splits) -> Parity | None:
    """Of int8 by the gate's limit. None where the file cannot be taken apart: it says more, but decides nothing."""
    limit = task.spec.gate.max_output_error if artifact.precision is Precision.INT8 else None
    try:
        return parity.compare(network, artifact, splits, limit=limit)
    except (AgentError, RuntimeError, ValueError, TypeError, KeyError, IndexError) as error:
        log.warning("file cannot be compared by operators", extra={"target": artifact.target, "error": str(error)})
        return None


def _check(
    task: Task, artifact: Artifact, name: str, splits: Splits, best: Outputs, shown: Sequence[Content], expected: Outputs
) -> RuntimeCheck:
    """Every runtime the file is meant for, with one thread and two: the golden set must hold in all of them."""
    test, input = splits.test, splits.input_for(artifact.layout)
    count = len(test) if name == artifact.runtimes[0] else min(len(test), _SECOND_RUNTIME_SAMPLES)
    rows = np.linspace(0, len(test) - 1, count).astype(np.int64)  # the first alone may all be of one class
    part = test.take(rows)
    try:
        error = max(
            float(np.abs(run(load(artifact.format, artifact.data, threads, name), shown, input) - expected).max())
            for threads in (1, 2)
        )
        outputs = run(load(artifact.format, artifact.data, 1, name), part.contents, input)
    except AgentError as problem:
        return RuntimeCheck(value=0.0, best_value=0.0, samples=0, golden_error=0.0, error=str(problem))
    here, there = (task.value(some, part, splits) for some in (outputs, best[rows]))
    return RuntimeCheck(value=here, best_value=there, samples=len(part), golden_error=error)


def _tolerance(artifact: Artifact, reference: Outputs, outputs: Outputs, expected: Outputs, seen: Sequence[float]) -> float:
    """Wide enough for four times the difference between the runs here, and for int8 twice its own distance from the network:

    a processor that rounds differently may be as far from this one as this one is from the exact answer.
    """
    floor = _LEAST_TOLERANCE[artifact.precision] * float(np.abs(expected).max())
    quantization = (
        float(np.quantile(np.abs(outputs - reference).max(axis=1), 0.99)) if artifact.precision is Precision.INT8 else 0
    )
    return float(np.float32(max(floor, 4 * max(seen, default=0.0), 2 * quantization, 1e-6)))


def _canary(
    task: Task,
    artifact: Artifact,
    splits: Splits,
    made: GoldenSet,
    tolerance: float,
    folder: Path,
    runtimes: Sequence[str],
) -> tuple[str, dict[str, int]]:
    """The trial a device gives a new file, in each runtime: what failed, empty where it passes; and the memory it took.

    Its manifest has a stand-in version.
    """
    data = codec.encode_golden(made)
    manifest = Manifest(
        name=model_name(task.spec.name),
        version=1,
        task=task.spec.task,
        artifact=Blob(digest=digest_of(artifact.data), size_bytes=len(artifact.data)),
        format=artifact.format,
        precision=artifact.precision,
        input=splits.input_for(artifact.layout),
        output=task.output(splits),
        golden=GoldenRef(blob=Blob(digest=digest_of(data), size_bytes=len(data)), tolerance=tolerance),
    )
    paths = [folder / f"{artifact.target}.{part}" for part in ("manifest", "model", "golden")]
    for path, content in zip(paths, (codec.encode_manifest(manifest), artifact.data, data), strict=True):
        path.write_bytes(content)
    peaks: dict[str, int] = {}
    for runtime in runtimes:
        try:
            peaks[runtime] = try_model(paths[0], paths[1], paths[2], CANARY_TIMEOUT_S, runtime=runtime).peak_bytes
        except AgentError as error:
            return f"{runtime}: {error}", peaks
    return "", peaks
