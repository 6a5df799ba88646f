"""Pairs of files as updates make them."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.agent.models import onnx_model, serialize, tflite_model

WIDE = (1, 3, 24, 24)


def noise(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def network(weights: Mapping[str, NDArray[np.generic]], *, extra_nodes: int = 0) -> bytes:
    """An ONNX file with these initializers and a constant node; nothing that runs."""
    nodes = [helper.make_node("Identity", ["input"], ["output"])]
    nodes += [
        helper.make_node("Constant", [], [f"constant-{i}"], value=numpy_helper.from_array(np.arange(40, dtype=np.float32) + i))
        for i in range(1 + extra_nodes)
    ]
    value = helper.make_tensor_value_info("input", TensorProto.FLOAT, (1,))
    out = helper.make_tensor_value_info("output", TensorProto.FLOAT, (1,))
    initializers = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    return serialize(helper.make_graph(nodes, "network", [value], [out], initializers))


def weights_of(seed: int) -> dict[str, NDArray[np.generic]]:
    """Of every type that a model file of ours holds, and some that it does not."""
    rng = np.random.default_rng(seed)
    return {
        "conv": rng.normal(0, 0.1, (64, 3, 3, 8)).astype(np.float32),
        "int8": rng.integers(-128, 128, (64, 200), np.int8),
        "uint8": rng.integers(0, 256, (64, 50), np.uint8),
        "bias": rng.integers(-(1 << 31), 1 << 31, 300, np.int32),
        "half": rng.normal(0, 1, 500).astype(np.float16),
        "double": rng.normal(0, 1, 100).astype(np.float64),
        "shape": rng.integers(-(1 << 62), 1 << 62, 20, np.int64),
        "odd": np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, 1e-45, -1e-45] * 9, np.float32),
    }


def tuned(weights: Mapping[str, NDArray[np.generic]], seed: int = 1) -> dict[str, NDArray[np.generic]]:
    """A few steps further: every number moved a little."""
    rng = np.random.default_rng(seed)
    moved: dict[str, NDArray[np.generic]] = {}
    for name, array in weights.items():
        if array.dtype.kind == "f":
            scale = rng.normal(1, 1e-3, array.shape)
            with np.errstate(all="ignore"):
                moved[name] = (array.astype(np.float64) * scale).astype(array.dtype)
        else:
            moved[name] = array + rng.integers(-1, 2, array.shape).astype(array.dtype)
    return moved


def pairs() -> dict[str, tuple[bytes, bytes]]:
    """Name -> (base, target)."""
    plain = weights_of(0)
    one = {**plain, "conv": tuned(plain)["conv"]}
    renamed = {f"{name}-2": array for name, array in tuned(plain).items()}
    return {
        "every number moved": (network(plain), network(tuned(plain))),
        "one layer moved": (network(plain), network(one)),
        "the same": (network(plain), network(plain)),
        "other names": (network(plain), network(renamed)),
        "more nodes": (network(plain), network(tuned(plain), extra_nodes=3)),
        "less weights": (network(plain), network({"conv": tuned(plain)["conv"]})),
        "an fp32 tflite file": (tflite_model(WIDE), tflite_model(WIDE, seed=0, poison=True)),
        "an int8 tflite file": (tflite_model(WIDE, dtype=np.int8), tflite_model(WIDE, dtype=np.int8, seed=1)),
        "from onnx to tflite": (onnx_model(WIDE), tflite_model(WIDE)),
        "no model": (noise(5000), noise(2500) + b"new" + noise(5000)[2500:]),
        "from one byte": (b"x", noise(3000)),
        "to one byte": (noise(3000), b"x"),
    }
