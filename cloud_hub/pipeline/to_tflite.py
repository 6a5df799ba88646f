"""PyTorch -> TensorFlow Lite, float32 and static int8 with float32 input and output."""

import os
import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cloud_hub.core.errors import Invalid
from cloud_hub.pipeline import frozen
from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.export import Artifact
from cloud_hub.pipeline.int8 import PLAIN, Int8, calibration
from protos.contract.inputs import ImageInput, Layout
from protos.contract.manifest import Format, Precision

os.environ.setdefault("LITERT_TORCH_SHOW_PROGRESS", "0")  # read at import

import litert_torch  # the line above must come first
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import calibrator, qtyping, quantizer, recipe_manager
from ai_edge_quantizer.algorithm_manager import AlgorithmName
from ai_edge_quantizer.utils import qsv_utils

_LAYOUT = Layout.NHWC  # the format's own: NCHW would start with a transpose
_EXPORTED = "exported.tflite"
_WITH_WEIGHTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")
_QUANTIZERS_NAMES = {"TRANSPOSE_CONV": "CONV_2D_TRANSPOSE"}  # where they differ from the file's


def convert(network: nn.Module, splits: Splits, folder: Path) -> tuple[Artifact, Artifact]:
    """(fp32, int8) of an eval-mode network on the CPU, batch 1; ``folder`` takes the files in between."""
    return exported(network, splits, folder), quantized(splits, folder)


def exported(network: nn.Module, splits: Splits, folder: Path) -> Artifact:
    """In fp32; ``folder`` then holds what ``quantized`` starts from."""
    path, input = folder / _EXPORTED, splits.input_for(_LAYOUT)
    turned = litert_torch.to_channel_last_io(network, args=[0]).eval() if isinstance(input, ImageInput) else network
    litert_torch.convert(turned, (torch.zeros(input.shape),)).export(str(path))
    return Artifact(
        target="tflite-fp32", format=Format.TFLITE, precision=Precision.FP32, layout=_LAYOUT, data=path.read_bytes()
    )


def quantized(splits: Splits, folder: Path, how: Int8 = PLAIN) -> Artifact:
    """In int8, of what ``exported`` has left in the folder; with the scales of ``frozen.BASE``, where that lies there.

    Raises:
        Invalid: the format has not what is asked for.
    """
    if how.calibration != "minmax" or how.signed:
        raise Invalid(f"TFLite is quantized by minmax, its activations have a sign anyway; asked for {how}")
    path, quantized = folder / _EXPORTED, folder / "int8.tflite"
    samples = [{"args_0": tensor[None]} for tensor in calibration(splits, _LAYOUT)]
    _quantize(path, samples, quantized, how)
    return Artifact(
        target="tflite-int8", format=Format.TFLITE, precision=Precision.INT8, layout=_LAYOUT, data=quantized.read_bytes()
    )


def _quantize(exported: Path, samples: list[dict[str, Any]], quantized: Path, how: Int8) -> None:
    recipe = recipe_manager.RecipeManager()
    names, granularities = qtyping.TFLOperationName, qtyping.QuantGranularity
    recipe.add_static_config(
        regex=".*",
        operation_name=names.ALL_SUPPORTED,
        activation_num_bits=8,
        weight_num_bits=8,
        weight_granularity=granularities.CHANNELWISE if how.per_channel else granularities.TENSORWISE,
    )
    for border in (names.INPUT, names.OUTPUT):
        recipe.add_quantization_config(regex=".*", operation_name=border, algorithm_key=AlgorithmName.NO_QUANTIZE)
    for operation, output in _ends(exported, how):
        kept = names[_QUANTIZERS_NAMES.get(operation, operation)]
        recipe.add_quantization_config(
            regex=f"^{re.escape(output)};", operation_name=kept, algorithm_key=AlgorithmName.NO_QUANTIZE
        )
    # The default update is a moving average, which clips hard: output error 0.05 to 0.24 instead of 0.01 to 0.02.
    ranges = calibrator.Calibrator(exported.read_bytes(), num_threads=1, qsv_update_func=qsv_utils.min_max_update)
    ranges.calibrate({"serving_default": samples}, recipe)
    work = quantizer.Quantizer(str(exported))
    work.load_quantization_recipe(recipe.get_quantization_recipe())
    found, base = ranges.get_model_qsvs(), exported.parent / frozen.BASE["tflite"]
    if base.exists():
        found = frozen.tflite_ranges(found, base.read_bytes())
    work.quantize(found, enable_progress_report=False).export_model(str(quantized), overwrite=True)


def _ends(exported: Path, how: Int8) -> list[tuple[str, str]]:
    """(operation, name of its output) of the first and the last one with weights, where they are to stay in float."""
    interpreter = Interpreter(model_content=exported.read_bytes())
    names = {tensor["index"]: tensor["name"] for tensor in interpreter.get_tensor_details()}
    found = [
        (operation["op_name"], names[operation["outputs"][0]])
        for operation in interpreter._get_ops_details()
        if operation["op_name"] in _WITH_WEIGHTS
    ]
    return found[: int(how.float_first)] + found[len(found) - int(how.float_last) :]
