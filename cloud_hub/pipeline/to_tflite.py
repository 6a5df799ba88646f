"""PyTorch -> TensorFlow Lite, float32 and static int8 with float32 input and output."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cloud_hub.pipeline.data import Splits
from cloud_hub.pipeline.export import Artifact
from edge_agent.infer.preprocess import preprocess
from protos.contract.manifest import Format, Layout, Precision

os.environ.setdefault("LITERT_TORCH_SHOW_PROGRESS", "0")  # read at import

import litert_torch  # the line above must come first
from ai_edge_quantizer import calibrator, qtyping, quantizer, recipe_manager
from ai_edge_quantizer.algorithm_manager import AlgorithmName
from ai_edge_quantizer.utils import qsv_utils

_LAYOUT = Layout.NHWC  # the format's own: NCHW would start with a transpose


def convert(network: nn.Module, splits: Splits, folder: Path) -> tuple[Artifact, Artifact]:
    """(fp32, int8) of an eval-mode network on the CPU, batch 1; ``folder`` takes the files in between."""
    exported, quantized = folder / "exported.tflite", folder / "int8.tflite"
    spec = splits.preprocess(_LAYOUT)
    turned = litert_torch.to_channel_last_io(network, args=[0]).eval()
    litert_torch.convert(turned, (torch.zeros(spec.shape),)).export(str(exported))
    samples = [{"args_0": preprocess(frame, spec)} for frame in splits.calibration]
    _quantize(exported, samples, quantized)
    return (
        Artifact(
            target="tflite-fp32", format=Format.TFLITE, precision=Precision.FP32, layout=_LAYOUT, data=exported.read_bytes()
        ),
        Artifact(
            target="tflite-int8", format=Format.TFLITE, precision=Precision.INT8, layout=_LAYOUT, data=quantized.read_bytes()
        ),
    )


def _quantize(exported: Path, samples: list[dict[str, Any]], quantized: Path) -> None:
    recipe = recipe_manager.RecipeManager()
    everything = qtyping.TFLOperationName.ALL_SUPPORTED
    recipe.add_static_config(regex=".*", operation_name=everything, activation_num_bits=8, weight_num_bits=8)
    for border in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
        recipe.add_quantization_config(regex=".*", operation_name=border, algorithm_key=AlgorithmName.NO_QUANTIZE)
    # The default update is a moving average, which clips hard: output error 0.05 to 0.24 instead of 0.01 to 0.02.
    ranges = calibrator.Calibrator(exported.read_bytes(), num_threads=1, qsv_update_func=qsv_utils.min_max_update)
    ranges.calibrate({"serving_default": samples}, recipe)
    work = quantizer.Quantizer(str(exported))
    work.load_quantization_recipe(recipe.get_quantization_recipe())
    work.quantize(ranges.get_model_qsvs(), enable_progress_report=False).export_model(str(quantized), overwrite=True)
