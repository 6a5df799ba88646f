"""Files against their network: sound ones agree everywhere, and a planted fault is named."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray
from onnx import numpy_helper

from cloud_hub.pipeline import gate, parity
from cloud_hub.pipeline.export import Artifact
from cloud_hub.pipeline.parity import relative_error
from cloud_hub.pipeline.task import Score, predict
from cloud_hub.pipeline.verify import Verified, verify
from edge_agent.infer.golden import make as golden
from edge_agent.infer.runtimes import load
from tests.hub.pipeline.compress.conftest import Student, silent

Change = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@pytest.mark.parametrize("target", ["onnx-fp32", "onnx-int8", "tflite-fp32", "tflite-int8"])
def test_a_sound_file_agrees_operator_by_operator(student: Student, target: str) -> None:
    found = parity.compare(student.network, student.files[target], student.splits)
    assert found.first is None, found.line
    assert found.output_error < (1e-5 if target.endswith("fp32") else 0.1)
    layers = [step.layer for step in found.steps]
    assert {"features.0", "features.3", "features.6", "features.9", "head"} <= set(layers)
    assert layers == sorted(layers, key=["features.0", "features.3", "features.6", "features.9", "head"].index)


@pytest.mark.parametrize(
    ("target", "tensor", "change", "named"),
    [
        ("onnx-fp32", "features.6.weight", lambda w: w + (w == w.max()) * 30, "Conv 'features.6'"),
        ("onnx-int8", "features.6.weight_scale", lambda scale: scale * 2, "Conv 'features.6'"),
        ("onnx-int8", "relu_1_scale", lambda scale: scale / 8, "rounding of Conv 'features.3'"),
        ("onnx-fp32", "head.bias", lambda bias: bias + 5, "Gemm 'head'"),
    ],
)
def test_a_fault_is_named_where_it_begins(student: Student, target: str, tensor: str, change: Change, named: str) -> None:
    found = parity.compare(student.network, _changed(student.files[target], tensor, change), student.splits)
    assert str(found.first) == named
    assert found.line.startswith(f"first parts at {named}: relative error ")
    assert found.as_json()["says"] == found.line


def test_a_fault_in_a_tflite_file_is_named(student: Student) -> None:
    file = student.files["tflite-fp32"]
    weights = _weights(file, (32, 3, 3, 16))
    assert file.data.count(weights) == 1
    broken = replace(file, data=file.data.replace(weights, weights[: len(weights) // 2] + bytes(len(weights) // 2)))
    found = parity.compare(student.network, broken, student.splits)
    assert str(found.first) == "CONV_2D 'features.6'"


def test_the_gates_refusal_says_where_an_output_error_begins(student: Student) -> None:
    broken = _changed(student.files["onnx-int8"], "features.6.weight_scale", lambda scale: scale * 2)
    found = parity.compare(student.network, broken, student.splits, limit=0.1)
    shown = student.splits.test.contents[:2]
    item = Verified(
        artifact=broken,
        input=student.splits.input,
        score=Score(value=0.9, samples=300),
        outputs=np.zeros((1, 10), np.float32),
        val_outputs=np.zeros((1, 10), np.float32),
        output_error=found.output_error,
        golden=golden(shown, load(broken.format, broken.data), student.splits.input),
        tolerance=0.1,
        latency_p50_ms=1.0,
        runtimes={},
        parity=found,
    )
    said = gate.refusal(student.task, item, Score(value=0.9, samples=300))
    assert "is above gate.max_output_error 0.1; first parts at Conv 'features.6'" in said


def test_verification_compares_each_file_with_its_network(student: Student, tmp_path: Path) -> None:
    files = [file for target, file in student.files.items() if target.startswith("onnx")]
    reference = predict(student.network, student.task.feeder(student.splits), student.splits.test.inputs)
    verified = verify(student.task, files, student.splits, reference, tmp_path, silent, student.network)
    assert [item.where for item in verified] == ["no operator parts", "no operator parts"]
    assert all(item.runtimes["onnx"].peak_bytes > 1 << 20 for item in verified)


def test_axes_may_stand_in_another_order() -> None:
    values = np.random.default_rng(0).normal(size=(4, 3, 5, 7)).astype(np.float32)
    assert relative_error(values.transpose(0, 2, 3, 1), values) == 0
    assert relative_error(values.transpose(0, 2, 3, 1).reshape(4, -1), values) == 0
    assert relative_error(values[:, :, :1].reshape(4, 1, 3, 7), values[:, :, :1]) == 0
    assert relative_error(values[:, :2], values) is None
    assert relative_error(values * np.nan, values) == np.inf


def _changed(file: Artifact, tensor: str, change: Change) -> Artifact:
    model = onnx.load_from_string(file.data)
    (found,) = (each for each in model.graph.initializer if each.name == tensor)
    found.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(found)).astype(np.float32), tensor))
    return replace(file, data=model.SerializeToString())


def _weights(file: Artifact, shape: tuple[int, ...]) -> bytes:
    """Of the one float tensor of that shape."""
    interpreter = Interpreter(model_content=file.data)
    interpreter.allocate_tensors()
    (index,) = (each["index"] for each in interpreter.get_tensor_details() if tuple(each["shape"]) == shape)
    return bytes(interpreter.get_tensor(index).tobytes())
