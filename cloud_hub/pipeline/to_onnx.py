"""PyTorch -> ONNX, float32 and static int8 in QDQ form."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from cloud_hub.pipeline import frozen
from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.export import Artifact
from cloud_hub.pipeline.int8 import PLAIN, Int8, calibration
from protos.contract.inputs import Layout
from protos.contract.manifest import Format, Precision

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read at import: from 1.29 on it opens connections otherwise

from onnxruntime.quantization import (  # the line above must come first
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

_INPUT = "input"
_PREPARED = "prepared.onnx"
_WITH_WEIGHTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
}
_BATCH = 32  # samples per calibration step


def convert(network: nn.Module, splits: Splits, folder: Path) -> tuple[Artifact, Artifact]:
    """(fp32, int8) of an eval-mode network on the CPU; ``folder`` takes the files in between."""
    return exported(network, splits, folder), quantized(splits, folder)


def exported(network: nn.Module, splits: Splits, folder: Path) -> Artifact:
    """In fp32; ``folder`` then holds what ``quantized`` starts from."""
    exported = folder / "exported.onnx"
    input = splits.input_for(Layout.NCHW)
    example = torch.zeros(2, *input.shape[1:])  # a batch of 1 would be taken for a constant
    torch.onnx.export(
        network,
        (example,),
        exported,
        dynamo=True,
        input_names=[_INPUT],
        output_names=["output"],
        dynamic_shapes=({0: "batch"},),
        external_data=False,  # else the weights go to a second file, which cannot be loaded from bytes
        opset_version=18,
        verbose=False,
    )
    quant_pre_process(str(exported), str(folder / _PREPARED))
    return Artifact(
        target="onnx-fp32", format=Format.ONNX, precision=Precision.FP32, layout=Layout.NCHW, data=_stripped(exported)
    )


def quantized(splits: Splits, folder: Path, how: Int8 = PLAIN) -> Artifact:
    """In int8, of what ``exported`` has left in the folder; with the scales of ``frozen.BASE``, where that lies there."""
    prepared, quantized, base = folder / _PREPARED, folder / "int8.onnx", folder / frozen.BASE["onnx"]
    tensors = calibration(splits, Layout.NCHW)
    _quantize(prepared, quantized, tensors, how)
    if base.exists():
        _quantize(prepared, quantized, tensors, how, frozen.onnx_overrides(quantized, base))
    return Artifact(
        target="onnx-int8", format=Format.ONNX, precision=Precision.INT8, layout=Layout.NCHW, data=_stripped(quantized)
    )


def _quantize(
    prepared: Path, quantized: Path, tensors: NDArray[np.float32], how: Int8, overrides: Mapping[str, Any] | None = None
) -> None:
    quantize_static(
        str(prepared),
        str(quantized),
        _Calibration(tensors),
        quant_format=QuantFormat.QDQ,
        per_channel=how.per_channel,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QInt8 if how.signed else QuantType.QUInt8,
        calibrate_method=_METHODS[how.calibration],
        nodes_to_exclude=_ends(prepared, how),
        extra_options={"TensorQuantOverrides": dict(overrides)} if overrides else {},
    )


def _ends(path: Path, how: Int8) -> list[str]:
    """Names of the first and the last node with weights, where they are to stay in float."""
    names = [node.name for node in onnx.load(path).graph.node if node.op_type in _WITH_WEIGHTS]
    return names[: int(how.float_first)] + names[len(names) - int(how.float_last) :]


class _Calibration(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    def __init__(self, tensors: NDArray[np.float32]) -> None:
        self._batches: Iterator[NDArray[np.float32]] = iter(np.array_split(tensors, -(-len(tensors) // _BATCH)))

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {_INPUT: batch}


def _stripped(path: Path) -> bytes:
    """Without what the exporter adds for people who debug it: stack traces with this server's file names."""
    model: Any = onnx.load(path)
    model.doc_string = ""
    del model.metadata_props[:]
    graph = model.graph
    graph.doc_string = ""
    del graph.metadata_props[:]
    for part in (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))
