"""PyTorch -> ONNX, float32 and static int8 in QDQ form."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.export import Artifact
from edge_agent.infer.preprocess import preprocess_batch
from protos.contract.manifest import Format, Layout, Precision

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
_BATCH = 32  # images per calibration step


def convert(network: nn.Module, splits: Splits, folder: Path) -> tuple[Artifact, Artifact]:
    """(fp32, int8) of an eval-mode network on the CPU; ``folder`` takes the files in between."""
    exported, prepared, quantized = (folder / f"{name}.onnx" for name in ("exported", "prepared", "int8"))
    spec = splits.preprocess(Layout.NCHW)
    example = torch.zeros(2, *spec.shape[1:])  # a batch of 1 would be taken for a constant
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
    quant_pre_process(str(exported), str(prepared))
    quantize_static(
        str(prepared),
        str(quantized),
        _Calibration(preprocess_batch(list(splits.calibration), spec)),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QUInt8,  # 1.7 times as fast as fp32 on x86 with VNNI; signed activations are slower than fp32
        calibrate_method=CalibrationMethod.MinMax,
    )
    return (
        Artifact(
            target="onnx-fp32", format=Format.ONNX, precision=Precision.FP32, layout=Layout.NCHW, data=_stripped(exported)
        ),
        Artifact(
            target="onnx-int8", format=Format.ONNX, precision=Precision.INT8, layout=Layout.NCHW, data=_stripped(quantized)
        ),
    )


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
