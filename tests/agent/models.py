"""Real model files, made in milliseconds: one linear layer as ONNX, float TFLite and integer TFLite, with the same weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_agent.infer import golden
from edge_agent.infer.runtimes import load
from protos.contract import codec
from protos.contract.ids import digest_of, model_name
from protos.contract.inputs import ImageInput, Input, Layout
from protos.contract.manifest import Blob, Format, GoldenRef, GoldenSet, Manifest, Precision
from protos.contract.outputs import Classification, Output

LABELS = ("none", "car", "bicycle", "person")
SIDE = 12
SPEC = ImageInput(width=SIDE, height=SIDE, channels=3, layout=Layout.NCHW, mean=(0.5, 0.4, 0.3), std=(0.5, 0.25, 0.2))

OUTPUT = Classification(labels=LABELS, min_confidence=0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """A manifest with its artifact and golden set, in memory and, after ``write``, on disk."""

    manifest: Manifest
    manifest_bytes: bytes
    model: bytes
    golden: GoldenSet
    golden_bytes: bytes

    def write(self, folder: Path) -> tuple[Path, Path, Path]:
        """(manifest, model, golden)."""
        paths = (folder / "manifest.pb", folder / "model.bin", folder / "golden.pb")
        for path, data in zip(paths, (self.manifest_bytes, self.model, self.golden_bytes), strict=True):
            path.write_bytes(data)
        return paths


def weights(seed: int = 0, inputs: int = 3 * SIDE * SIDE, classes: int = len(LABELS)) -> tuple[NDArray[Any], NDArray[Any]]:
    """(classes, inputs) and (classes,) float32."""
    rng = np.random.default_rng(seed)
    return rng.normal(0, 0.05, (classes, inputs)).astype(np.float32), rng.normal(0, 0.1, classes).astype(np.float32)


def onnx_model(
    shape: tuple[int | str, ...] = ("batch", 3, SIDE, SIDE), *, seed: int = 0, classes: int = len(LABELS), poison: bool = False
) -> bytes:
    """logits = W x + b; ``poison`` makes them NaN."""
    matrix, bias = weights(seed, int(np.prod([side for side in shape[1:] if isinstance(side, int)])), classes)
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "matrix", "bias"], ["output"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, (shape[0], classes))],
        [numpy_helper.from_array(matrix, "matrix"), numpy_helper.from_array(bias * np.float32("nan" if poison else 1), "bias")],
    )
    return serialize(graph)


def serialize(graph: onnx.GraphProto) -> bytes:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())


def tflite_model(
    shape: tuple[int, ...] = (1, 3, SIDE, SIDE), *, seed: int = 0, dtype: type[np.generic] = np.float32, poison: bool = False
) -> bytes:
    """The same layer; with int8 or uint8 its input spans -4..4 and its output -8..8, and weights are int8 or uint8 too."""
    matrix, bias = weights(seed, int(np.prod(shape)))
    if poison:
        bias[0] = np.nan
    if dtype is np.float32:
        tensors = [("input", shape, None, 1.0, 0), ("matrix", matrix.shape, matrix, 1.0, 0), ("bias", bias.shape, bias, 1.0, 0)]
    else:
        zero = 128 if dtype is np.uint8 else 0
        scale_in, scale_w = 8 / 255, float(np.abs(matrix).max()) / 127
        stored = (np.rint(matrix / scale_w) + zero).astype(dtype)
        stored_bias = np.rint(bias / (scale_in * scale_w)).astype(np.int32)
        tensors = [
            ("input", shape, None, scale_in, zero),
            ("matrix", matrix.shape, stored, scale_w, zero),
            ("bias", bias.shape, stored_bias, scale_in * scale_w, 0),
        ]
    tensors.append(("output", (1, len(bias)), None, 16 / 255, 128 if dtype is np.uint8 else 0))
    return _flatbuffer(tensors, dtype)


def files(format: Format = Format.ONNX, *, model: bytes | None = None, seed: int = 0, version: int = 1) -> ModelFiles:
    """A whole and honest model; with ``model`` its golden outputs are still those of the default one."""
    honest = onnx_model(seed=seed) if format is Format.ONNX else tflite_model(seed=seed)
    frames = np.random.default_rng(1).integers(0, 256, (6, SIDE, SIDE, 3), np.uint8)
    expected = golden.make(list(frames), load(format, honest), SPEC)
    return bundle(honest if model is None else model, format, expected, version=version)


def bundle(
    model: bytes,
    format: Format,
    expected: GoldenSet,
    *,
    spec: Input = SPEC,
    output: Output = OUTPUT,
    task: str = "image-classification",
    tolerance: float = 1e-4,
    version: int = 1,
) -> ModelFiles:
    golden_bytes = codec.encode_golden(expected)
    manifest = Manifest(
        name=model_name("street"),
        version=version,
        task=task,
        artifact=Blob(digest=digest_of(model), size_bytes=len(model)),
        format=format,
        precision=Precision.FP32,
        input=spec,
        output=output,
        golden=GoldenRef(blob=Blob(digest=digest_of(golden_bytes), size_bytes=len(golden_bytes)), tolerance=tolerance),
    )
    return ModelFiles(
        manifest=manifest,
        manifest_bytes=codec.encode_manifest(manifest),
        model=model,
        golden=expected,
        golden_bytes=golden_bytes,
    )


def _flatbuffer(tensors: list[tuple[str, tuple[int, ...], NDArray[Any] | None, float, int]], dtype: type[np.generic]) -> bytes:
    kinds = {np.float32: schema.TensorType.FLOAT32, np.int8: schema.TensorType.INT8, np.uint8: schema.TensorType.UINT8}
    graph, model = schema.SubGraphT(), schema.ModelT()
    graph.tensors, model.buffers = [], [schema.BufferT()]
    for name, shape, data, scale, zero_point in tensors:
        tensor, buffer = schema.TensorT(), schema.BufferT()
        tensor.name, tensor.shape, tensor.buffer = name.encode(), list(shape), len(model.buffers)
        tensor.type = schema.TensorType.INT32 if data is not None and data.dtype == np.int32 else kinds[dtype]
        if data is not None:
            buffer.data = np.frombuffer(data.tobytes(), np.uint8)
        if dtype is not np.float32:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [zero_point]
        graph.tensors.append(tensor)
        model.buffers.append(buffer)
    code, operator, options = schema.OperatorCodeT(), schema.OperatorT(), schema.FullyConnectedOptionsT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    code.version = 1 if dtype is np.float32 else 4
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 1, 2], [3]
    operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.FullyConnectedOptions, options
    graph.inputs, graph.outputs, graph.operators = [0], [3], [operator]
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
