"""An ONNX file's values, node by node."""

import os
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from cloud_hub.pipeline.taps import Tap

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read at import: from 1.29 on it opens connections otherwise

import onnxruntime  # the line above must come first

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_QUANTIZE, _DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"


def taps(model: bytes, batch: NDArray[np.float32]) -> list[Tap]:
    """What each node gives that depends on the input, one by one: nothing is fused, int8 is computed on its real values.

    The rounding of a node's output to eight bits is a value of its own, named after that node.
    """
    graph = onnx.load_from_string(model)
    constants = {each.name for each in graph.graph.initializer}
    nodes = []
    for node in graph.graph.node:
        if all(name in constants or not name for name in node.input):  # weights on their way out of int8
            constants.update(node.output)
        else:
            nodes.append(node)
    shown = [node for node in nodes if node.op_type != _QUANTIZE]  # integers: its DequantizeLinear shows the real values
    wanted = [node.output[0] for node in shown]
    known = {output.name for output in graph.graph.output}
    graph.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in wanted if name not in known)
    values = _run(graph.SerializeToString(), batch, wanted)
    given = dict(zip(wanted, values, strict=True))
    producers = {output: node for node in nodes for output in node.output}
    found: list[Tap] = []
    behind: dict[str, frozenset[int]] = {}  # name of a value -> positions of the taps it comes from
    for node in nodes:
        sources = frozenset[int]().union(*(behind.get(name, frozenset()) for name in node.input))
        value = given.get(node.output[0])
        if value is not None and value.dtype.kind == "f" and value.ndim >= 2 and len(value) == len(batch):
            found.append(_tap(node, value, sources, constants, producers))
            sources = frozenset((len(found) - 1,))
        behind.update(dict.fromkeys(node.output, sources))
    return found


def _tap(node: Any, value: NDArray[Any], sources: frozenset[int], constants: set[str], producers: dict[str, Any]) -> Tap:
    source = _before_rounding(node, producers)
    return Tap(
        operator=node.op_type if source is node else "rounding of " + (source.op_type if source is not None else "input"),
        name=source.name if source is not None else producers[node.input[0]].input[0],
        weighted=node.op_type in _WEIGHTED and any(name in constants for name in node.input[:2]),
        values=value.astype(np.float32),
        sources=sources,
    )


def _run(model: bytes, batch: NDArray[np.float32], wanted: list[str]) -> list[NDArray[Any]]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    values: list[NDArray[Any]] = session.run(wanted, {session.get_inputs()[0].name: batch})
    return values


def _before_rounding(node: Any, producers: dict[str, Any]) -> Any:
    """The node whose output this one shows in eight bits; None: it is the file's input; any other node: itself."""
    if node.op_type != _DEQUANTIZE:
        return node
    rounded = producers.get(node.input[0])
    return producers.get(rounded.input[0]) if rounded is not None and rounded.op_type == _QUANTIZE else node
