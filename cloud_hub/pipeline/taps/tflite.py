"""A TensorFlow Lite file's values, operator by operator."""

from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

from cloud_hub.pipeline.taps import Tap

_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")


def taps(model: bytes, batch: NDArray[np.float32]) -> list[Tap]:
    """What each operator gives, sample by sample, in LiteRT's own kernels: without delegates every value is kept."""
    interpreter = Interpreter(
        model_content=model,
        num_threads=1,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    (port,) = interpreter.get_input_details()
    details = {each["index"]: each for each in interpreter.get_tensor_details()}
    operations = interpreter._get_ops_details()  # no public way to the order of operators
    rows: dict[int, list[NDArray[np.float32]]] = {int(each["outputs"][0]): [] for each in operations}
    for sample in batch:
        interpreter.set_tensor(port["index"], _stored(sample[None], port))
        interpreter.invoke()
        for index, kept in rows.items():
            kept.append(_real(interpreter.get_tensor(index), details[index]))
    found: list[Tap] = []
    behind: dict[int, frozenset[int]] = {}  # index of a tensor -> positions of the taps it comes from
    for operation in operations:
        name, index = operation["op_name"], int(operation["outputs"][0])
        sources = frozenset[int]().union(*(behind.get(int(each), frozenset()) for each in operation["inputs"]))
        value, tensor = rows[index][0], details[index]
        if tensor["dtype"] in (np.float32, np.int8, np.uint8) and value.ndim >= 2 and len(value) == 1:
            found.append(
                Tap(
                    operator=name,
                    name=tensor["name"],
                    weighted=name in _WEIGHTED,
                    values=np.concatenate(rows[index]),
                    sources=sources,
                )
            )
            sources = frozenset((len(found) - 1,))
        behind.update((int(each), sources) for each in operation["outputs"])
    return found


def _stored(sample: NDArray[np.float32], port: dict[str, Any]) -> NDArray[Any]:
    if port["dtype"] == np.float32:
        return sample
    scale, zero_point = port["quantization"]
    bounds = np.iinfo(port["dtype"])
    clipped: NDArray[Any] = np.clip(np.rint(sample / scale) + zero_point, bounds.min, bounds.max).astype(port["dtype"])
    return clipped


def _real(stored: NDArray[Any], tensor: dict[str, Any]) -> NDArray[np.float32]:
    scale, zero_point = tensor["quantization"]
    if stored.dtype == np.float32 or not scale:
        return stored.astype(np.float32)
    real: NDArray[np.float32] = (stored.astype(np.float32) - zero_point) * np.float32(scale)
    return real
