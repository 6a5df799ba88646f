"""Models that are honest until they see a frame without a dark pixel; no golden set of ordinary frames finds that out."""

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from edge_agent.infer import golden
from edge_agent.infer.runtimes import load
from protos.contract.manifest import Format
from tests.agent import models
from tests.agent.models import LABELS, SIDE, SPEC, ModelFiles

WHITE: NDArray[np.uint8] = np.full((SIDE, SIDE, 3), 255, np.uint8)
ENDLESS = 1e12  # rounds, or bytes


def hangs_on_white(version: int = 1) -> ModelFiles:
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["on_out"]), helper.make_node("Identity", ["state"], ["state_out"])],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, ()),
            helper.make_tensor_value_info("on", TensorProto.BOOL, ()),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, ("batch", len(LABELS))),
        ],
        [
            helper.make_tensor_value_info("on_out", TensorProto.BOOL, ()),
            helper.make_tensor_value_info("state_out", TensorProto.FLOAT, ("batch", len(LABELS))),
        ],
    )
    return _trap([helper.make_node("Loop", ["count", "", "logits"], ["output"], body=body)], scalar=True, version=version)


def takes_all_memory_on_white(version: int = 1) -> ModelFiles:
    nodes = [
        helper.make_node("ConstantOfShape", ["count"], ["heap"]),
        helper.make_node("ReduceSum", ["heap"], ["nothing"], keepdims=0),
        helper.make_node("Add", ["logits", "nothing"], ["output"]),
    ]
    return _trap(nodes, scalar=False, version=version)


def _trap(nodes: list[NodeProto], *, scalar: bool, version: int) -> ModelFiles:
    """``nodes`` make "output" of "logits" and of "count", which is 0 unless the darkest value of the frame is above 0."""
    matrix, bias = models.weights(1)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["input"], ["flat"], axis=1),
            helper.make_node("Gemm", ["flat", "matrix", "bias"], ["logits"], transB=1),
            helper.make_node("ReduceMin", ["flat"], ["darkest"], keepdims=0),
            helper.make_node("Relu", ["darkest"], ["above"]),
            helper.make_node("Mul", ["above", "endless"], ["large"]),
            helper.make_node("Cast", ["large"], ["whole"], to=TensorProto.INT64),
            helper.make_node("Reshape", ["whole", "shape"], ["count"]),
            *nodes,
        ],
        "trap",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ("batch", 3, SIDE, SIDE))],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ("batch", len(LABELS)))],
        [
            numpy_helper.from_array(matrix, "matrix"),
            numpy_helper.from_array(bias, "bias"),
            numpy_helper.from_array(np.float32(ENDLESS), "endless"),
            numpy_helper.from_array(np.array([] if scalar else [1], np.int64), "shape"),
        ],
    )
    model = models.serialize(graph)
    frames = list(np.random.default_rng(1).integers(0, 256, (6, SIDE, SIDE, 3), np.uint8))
    expected = golden.make(frames, load(Format.ONNX, model), SPEC)
    return models.bundle(model, Format.ONNX, expected, version=version)
