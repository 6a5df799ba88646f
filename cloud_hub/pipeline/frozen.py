"""An int8 file made with the scales of an earlier one, so that what was not trained has the same bytes in both.

Every scale of the earlier file is kept that still fits: by name of the tensor, and for weights channel by channel. A patch from
one file to the other then holds little but the layers that were trained.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray
from onnx import numpy_helper

BASE = {"onnx": "champion.onnx", "tflite": "champion.tflite"}  # in a job's folder, by converter: the file to keep scales of

_CUT = 0.1  # of a range may lie outside the kept one: ranges are extremes, and differ so much between two draws of samples
_CUT_WEIGHTS = 0.01
_WASTE = 2.0  # times as wide as needed, at most: one bit of eight

Floats = NDArray[Any]


def fits(low: Floats, high: Floats, kept_low: Floats, kept_high: Floats, *, cut: float = _CUT) -> NDArray[np.bool_]:
    """Whether values in ``low..high`` may be coded in the kept range, elementwise."""
    width = high - low
    inside = (kept_low <= low + cut * width) & (kept_high >= high - cut * width)
    return np.asarray(inside & (kept_high - kept_low <= _WASTE * width + 1e-12))


# -- ONNX -----------------------------------------------------------------------------------------------------------------


def onnx_overrides(plain: Path, base: Path) -> dict[str, list[dict[str, Any]]]:
    """``TensorQuantOverrides`` of onnxruntime's quantizer; ``plain`` is the new model quantized with ranges of its own."""
    new, old = _onnx_scales(plain), _onnx_scales(base)
    kept: dict[str, list[dict[str, Any]]] = {}
    for name, (scale, zero, axis) in new.items():
        if name not in old or old[name][0].shape != scale.shape or old[name][1].dtype != zero.dtype or old[name][2] != axis:
            continue
        scales, zeros = _chosen(scale, zero, *old[name][:2])
        rows = zip(np.atleast_1d(scales), np.atleast_1d(zeros), strict=True)
        place = {} if axis is None else {"axis": axis}
        kept[name] = [{"scale": np.array(s, scale.dtype), "zero_point": np.array(z, zero.dtype), **place} for s, z in rows]
    return kept


def _chosen(scale: Floats, zero: Floats, old_scale: Floats, old_zero: Floats) -> tuple[Floats, Floats]:
    """The old ones where they fit."""
    levels = np.iinfo(zero.dtype)
    bounds = [
        ((edge - z.astype(np.float64)) * s.astype(np.float64))
        for z, s in ((zero, scale), (old_zero, old_scale))
        for edge in (levels.min, levels.max)
    ]
    good = fits(*bounds, cut=_CUT_WEIGHTS if scale.ndim else _CUT)
    return np.where(good, old_scale, scale), np.where(good, old_zero, zero)


def _onnx_scales(path: Path) -> dict[str, tuple[Floats, Floats, int | None]]:
    """By the name of the tensor: scale, zero point, axis of channels. Biases are left out: theirs follow from the others."""
    graph = onnx.load(path).graph
    constants = {each.name: each for each in graph.initializer}
    found: dict[str, tuple[Floats, Floats, int | None]] = {}
    for node in graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or len(node.input) < 3:
            continue
        name = node.input[0].removesuffix("_quantized")
        weight = node.op_type == "DequantizeLinear"
        if weight and node.input[0] not in constants:
            continue
        if not {node.input[1], node.input[2]} <= constants.keys():
            continue
        scale, zero = (numpy_helper.to_array(constants[each]) for each in node.input[1:3])
        if zero.dtype.itemsize == 1:
            axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), None)
            found[name] = (scale, zero, axis if scale.ndim else None)
    return found


# -- TensorFlow Lite ------------------------------------------------------------------------------------------------------


def tflite_ranges(ranges: Mapping[str, Any], base: bytes) -> dict[str, Any]:
    """What a calibration has found, by tensor; where the scales of ``base`` fit, changed so that they come out again."""
    scales = _tflite_scales(base)
    changed = dict(ranges)
    for name, found in ranges.items():
        scale, zero = scales.get(name) or scales.get(f"{name}_quantized") or (None, None)
        if scale is None or zero is None or not {"min", "max"} <= found.keys():
            continue
        low, high = np.asarray(found["min"], np.float32), np.asarray(found["max"], np.float32)
        if low.size == scale.size:
            changed[name] = {**found, **_range(low, high, scale.reshape(low.shape), zero.reshape(low.shape))}
    return changed


def _range(low: Floats, high: Floats, scale: Floats, zero: Floats) -> dict[str, Floats]:
    if scale.size > 1:  # of weights: symmetric
        bound = np.maximum(np.abs(low), np.abs(high))
        kept = _exact(scale * np.float32(127), lambda at: at / np.float32(127), scale)
        good = fits(-bound, bound, -kept, kept, cut=_CUT_WEIGHTS)
        return {"min": np.where(good, -kept, low), "max": np.where(good, kept, high)}
    bottom = ((-128 - zero) * scale.astype(np.float64)).astype(np.float32)
    top = _exact(((127 - zero) * scale.astype(np.float64)).astype(np.float32), lambda at: (at - bottom) / 255, scale)
    if not fits(np.minimum(low, 0), np.maximum(high, 0), bottom, top).all():
        return {"min": low, "max": high}
    return {"min": bottom, "max": top}


def _exact(start: Floats, scale_of: Any, wanted: Floats) -> Floats:
    """The float next to ``start`` from which the quantizer computes the very scale, where there is one."""
    best = start.astype(np.float32)
    for side in (np.inf, -np.inf):
        at = start.astype(np.float32)
        for _ in range(4):
            at = np.where(scale_of(at).astype(np.float32) == wanted, at, np.nextafter(at, np.float32(side)))
        best = np.where(scale_of(at).astype(np.float32) == wanted, at, best)
    return best


def _tflite_scales(data: bytes) -> dict[str, tuple[Floats, Floats]]:
    found = {}
    for tensor in Interpreter(model_content=data).get_tensor_details():
        about = tensor["quantization_parameters"]
        if len(about["scales"]) and np.dtype(tensor["dtype"]).itemsize == 1:
            found[tensor["name"]] = (np.asarray(about["scales"]), np.asarray(about["zero_points"]))
    return found
