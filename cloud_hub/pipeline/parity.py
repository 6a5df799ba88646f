"""Where a file begins to give other values than the network it was made from: the first operator at which they part."""

import copy
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.export import Artifact
from cloud_hub.pipeline.taps import Tap
from cloud_hub.pipeline.taps import network as own
from edge_agent.infer.inputs import tensor_of, tensors_of
from edge_agent.infer.runtimes import load
from protos.contract.inputs import Layout
from protos.contract.manifest import Format, Precision

SAMPLES = 16
FLOAT_LIMIT = 1e-3  # relative error of fp32: kernels add in another order, which costs about 1e-6
INT8_LIMIT = 0.15  # plain int8 of sound networks has 0.01 to 0.08 on its way
_FORMATS = {Format.ONNX: "onnx", Format.TFLITE: "tflite"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One operator of a file."""

    operator: str  # "Conv"
    name: str  # in the file
    layer: str  # of the network, the module whose weights it has or follows
    error: float  # |file - network| / |network|

    def __str__(self) -> str:
        return f"{self.operator} '{self.layer or self.name}'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """A file against its network, on the same samples."""

    target: str
    limit: float  # error above which values have parted
    output_error: float  # of the outputs, in the device's runtime
    steps: tuple[Step, ...]  # operators that have a counterpart in the network, in the file's order
    first: Step | None  # None: no operator parts

    @property
    def line(self) -> str:
        """Where it begins, in words."""
        if self.first is not None:
            before = [step.error for step in self.steps[: self.steps.index(self.first)]]
            least = f", at most {max(before):.2g} before it" if before else ""
            return f"first parts at {self.first}: relative error {self.first.error:.2g}{least}"
        if not self.output_error <= self.limit:
            return "no operator parts on its own: the runtime's fused kernels do, or what it does to the input"
        return "no operator parts"

    def as_json(self) -> dict[str, object]:
        """With the operators up to the one where they part, else with the worst alone."""
        if self.first is not None:
            shown = self.steps[: self.steps.index(self.first) + 1]
        else:
            shown = tuple(sorted(self.steps, key=lambda step: -step.error)[:1])
        steps = [{"operator": str(step), "name": step.name, "error": round(step.error, 6)} for step in shown]
        return {"says": self.line, "limit": self.limit, "operators": len(self.steps), "steps": steps}


def compare(
    network: nn.Module, artifact: Artifact, splits: Splits, *, limit: float | None = None, samples: int = SAMPLES
) -> Parity:
    """Run both on samples of the test split and compare operator after operator.

    Args:
        network: what the artifact was made from.
        limit: None takes that of the artifact's precision.
    Raises:
        BadModel, InferenceError: the file does not run in the device's runtime.
    """
    if limit is None:
        limit = FLOAT_LIMIT if artifact.precision is Precision.FP32 else INT8_LIMIT
    rows = np.unique(np.linspace(0, len(splits.test) - 1, min(samples, len(splits.test))).astype(np.int64))
    contents = splits.test.take(rows).contents
    plain = copy.deepcopy(network).cpu().eval()
    theirs = own.taps(plain, torch.from_numpy(tensors_of(contents, splits.input_for(Layout.NCHW))))
    input = splits.input_for(artifact.layout)
    # Imported where it is needed: each brings its runtime.
    reader = importlib.import_module(f"cloud_hub.pipeline.taps.{_FORMATS[artifact.format]}")
    ours: list[Tap] = reader.taps(artifact.data, tensors_of(contents, input))
    runtime = load(artifact.format, artifact.data)
    outputs = np.stack([runtime.run(tensor_of(content, input)) for content in contents])
    with torch.inference_mode():
        expected = plain(torch.from_numpy(tensors_of(contents, splits.input_for(Layout.NCHW)))).flatten(1).numpy()
    found = align(ours, theirs)
    steps = _comparable(ours, {position: step for position, step in enumerate(found) if step is not None}, limit)
    return Parity(
        target=artifact.target,
        limit=limit,
        output_error=relative_error(outputs, expected) or 0.0,
        steps=tuple(steps.values()),
        first=next((step for step in steps.values() if step.error > limit), None),
    )


def align(ours: Sequence[Tap], theirs: Sequence[Tap]) -> list[Step | None]:
    """For each of a file's values, how far it is from the network's value that it is nearest to; None: there is none alike.

    Where both have as many layers with weights, values are looked for around the layer of the same number alone.
    """
    here, there = _numbered(ours), _numbered(theirs)
    names = [tap.name for tap in theirs if tap.weighted]
    paired = bool(names) and len(names) == sum(tap.weighted for tap in ours)
    found: list[Step | None] = []
    for tap, number in zip(ours, here, strict=True):
        errors = [
            (error, other.name)
            for other, others in zip(theirs, there, strict=True)
            if (not paired or number == others) and (error := relative_error(tap.values, other.values)) is not None
        ]
        if not errors:
            found.append(None)
            continue
        error, name = min(errors)
        layer = names[number] if paired and number >= 0 else name
        found.append(Step(operator=tap.operator, name=tap.name, layer=layer, error=error))
    return found


def relative_error(values: NDArray[np.float32], expected: NDArray[np.float32]) -> float | None:
    """|values - expected| / |expected| in the order of axes that suits best; None where no order makes shapes alike."""
    ours, wanted = (each.reshape(len(each), *(side for side in each.shape[1:] if side > 1)) for each in (values, expected))
    if ours.size != wanted.size or len(ours) != len(wanted):
        return None
    turned = [wanted.transpose(0, *order) for order in permutations(range(1, wanted.ndim))] if wanted.ndim <= 4 else [wanted]
    if ours.ndim == 2:
        turned = [each.reshape(len(each), -1) for each in turned]
    alike = [each for each in turned if each.shape == ours.shape]
    norm = max(float(np.linalg.norm(wanted)), 1e-12)
    errors = [float(np.linalg.norm(ours - each)) / norm for each in alike]
    return min((error if np.isfinite(error) else np.inf for error in errors), default=None)


def _numbered(taps: Sequence[Tap]) -> list[int]:
    """How many layers with weights came before each value, less one; -1: none."""
    counted = np.cumsum([tap.weighted for tap in taps]) - 1
    return [int(number) for number in counted]


def _comparable(ours: Sequence[Tap], steps: dict[int, Step], limit: float) -> dict[int, Step]:
    """Without those that differ from everything while what is computed from them does not: the network has none alike.

    Such is a product whose sum with the bias the network makes in one. A fault is never one of them: it stays.
    """
    kept: dict[int, Step] = {}
    sound: set[int] = set()  # what something sound is computed from
    for position in range(len(ours) - 1, -1, -1):  # sources come before what is computed from them
        step = steps.get(position)
        if step is not None and (step.error <= limit or position not in sound):
            kept[position] = step
        if position in sound or (step is not None and step.error <= limit):
            sound |= ours[position].sources
    return dict(sorted(kept.items()))
