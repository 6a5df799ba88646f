"""A small model of each kind but the usual one, with samples it takes: dense layers as ONNX, made in milliseconds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_agent.core.model import Content
from edge_agent.infer import golden
from edge_agent.infer.runtimes import load
from protos.contract.inputs import (
    CategoryColumn,
    ImageInput,
    Input,
    Layout,
    NumericColumn,
    RowInput,
    TextInput,
    WindowInput,
)
from protos.contract.manifest import Format
from protos.contract.outputs import Classification, Detection, Output, Ranking, Reconstruction, Values
from protos.contract.samples import Window
from tests.agent.models import ModelFiles, bundle, serialize

CHANNELS, STEPS = ("rpm", "speed"), 12
GOLDEN = 6  # samples
ROWS = RowInput(
    columns=(
        NumericColumn(name="age", mean=40.0, std=12.0),
        CategoryColumn(name="job", values=("clerk", "driver", "teacher")),
        NumericColumn(name="sum", mean=2000.0, std=900.0, indicator=True),
    )
)
TEXTS = TextInput(buckets=128, words=1, chars=(2, 3))
WINDOWS = WindowInput(channels=CHANNELS, steps=STEPS, mean=(1500.0, 50.0), std=(400.0, 15.0))
PICTURES = ImageInput(width=16, height=16, channels=1, layout=Layout.NCHW, mean=(0.5,), std=(0.25,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    task: str
    input: Input
    output: Output
    contents: tuple[Content, ...]

    def files(self, version: int = 1) -> ModelFiles:
        """Verified as the hub does it: what the runtime gives for samples is what a device must give."""
        model = dense(self.input.shape, self.output.size)
        expected = golden.make(self.contents[:GOLDEN], load(Format.ONNX, model), self.input)
        return bundle(model, Format.ONNX, expected, spec=self.input, output=self.output, task=self.task, version=version)


def dense(shape: Sequence[int], outputs: int, *, hidden: int = 4, seed: int = 7) -> bytes:
    """Two layers with a ReLU between them, whatever the shape of the input."""
    rng = np.random.default_rng(seed)

    def matrix(*sides: int) -> NDArray[Any]:
        return rng.normal(0, 1 / np.sqrt(sides[-1]), sides).astype(np.float32)

    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "a", "b"], ["inner"], transB=1),
        helper.make_node("Relu", ["inner"], ["rectified"]),
        helper.make_node("Gemm", ["rectified", "c", "d"], ["output"], transB=1),
    ]
    weights = {
        "a": matrix(hidden, int(np.prod(shape[1:]))), "b": matrix(hidden), "c": matrix(outputs, hidden), "d": matrix(outputs),
    }  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "dense",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ("batch", *shape[1:]))],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ("batch", outputs))],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    return serialize(graph)


def _rows(rng: np.random.Generator) -> tuple[Content, ...]:
    jobs = ("clerk", "driver", "teacher", "king")
    return tuple(
        {"age": float(rng.integers(18, 80)), "job": jobs[i % 4]} | ({"sum": float(rng.integers(0, 5000))} if i % 3 else {})
        for i in range(8)
    )


def _windows(rng: np.random.Generator) -> tuple[Content, ...]:
    walk = np.cumsum(rng.normal(0, 1, (8, STEPS, 2)), axis=1) * (100.0, 5.0) + (1500.0, 50.0)
    return tuple(Window(channels=CHANNELS, values=each.astype(np.float32)) for each in walk)


def _pictures(rng: np.random.Generator) -> tuple[Content, ...]:
    return tuple(rng.integers(0, 256, (8, 20, 24, 3), np.uint8))


_RNG = np.random.default_rng(5)
_TEXTS: tuple[Content, ...] = (
    "WINNER!! claim your prize now", "see you at five", "free entry in a weekly draw", "ok", "call me at home", "£100 txt",
)  # fmt: skip

KINDS = {
    "rows": Kind(
        task="tabular-classification",
        input=ROWS,
        output=Classification(labels=("good", "bad"), min_confidence=0.6),
        contents=_rows(_RNG),
    ),
    "texts": Kind(
        task="text-classification",
        input=TEXTS,
        output=Classification(labels=("ham", "spam"), min_confidence=0.6),
        contents=_TEXTS,
    ),
    "anomalies": Kind(
        task="anomaly-detection",
        input=WINDOWS,
        output=Reconstruction(values=STEPS * len(CHANNELS), threshold=1.0),
        contents=_windows(_RNG),
    ),
    "forecasts": Kind(
        task="forecasting",
        input=WINDOWS,
        output=Values(names=("speed+1", "speed+2"), mean=(50.0, 50.0), std=(15.0, 15.0), edges=(40.0, 50.0, 60.0), headline=1),
        contents=_windows(_RNG),
    ),
    "rankings": Kind(
        task="recommendation",
        input=RowInput(columns=(CategoryColumn(name="seen", values=tuple(f"item-{i}" for i in range(9))),)),
        output=Ranking(labels=tuple(f"item-{i}" for i in range(9)), top=3),
        contents=tuple({"seen": (f"item-{i}", f"item-{i + 2}")} for i in range(6)),
    ),
    "detections": Kind(
        task="object-detection",
        input=PICTURES,
        output=Detection(classes=("car", "person"), rows=2, columns=2, stride=8),
        contents=_pictures(_RNG),
    ),
}
