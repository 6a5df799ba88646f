"""ONNX Runtime on the CPU."""

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.errors import BadModel, InferenceError
from edge_agent.infer.tensors import batch_of_one, checked_input, checked_output

_NAME = "onnxruntime"


class OnnxRuntime:
    """One ONNX model with one float32 input ``(1 or free, ...)`` and one float32 output ``(1 or free, classes)``.

    Raises:
        BadModel: onnxruntime is not installed, refuses the bytes, or the model has other inputs or outputs.
    """

    def __init__(self, model: bytes, threads: int = 1) -> None:
        self._session = _session(model, threads)
        try:
            inputs = [(tensor.name, tensor.type, tensor.shape) for tensor in self._session.get_inputs()]
            outputs = [(tensor.name, tensor.type, tensor.shape) for tensor in self._session.get_outputs()]
        except Exception as error:  # a name need not be text
            raise BadModel(f"{_NAME} refuses the model: {error}") from error
        if len(inputs) != 1 or len(outputs) != 1:
            raise BadModel(f"{_NAME}: the model must have 1 input and 1 output, got {len(inputs)} and {len(outputs)}")
        for name, kind, _ in (inputs[0], outputs[0]):
            if kind != "tensor(float)":
                raise BadModel(f"{_NAME}: '{name}' must be float32, got {kind}")
        self._input_name, _, input_shape = inputs[0]
        output_name, _, output_shape = outputs[0]
        self._output_names = [output_name]
        self._shape = batch_of_one(input_shape, runtime=_NAME, what="input")
        if len(batch_of_one(output_shape, runtime=_NAME, what="output")) != 2:
            raise BadModel(f"{_NAME}: the model's output must be (1, classes), got {output_shape}")

    inner_ms: float | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self._shape

    def run(self, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        feed = {self._input_name: checked_input(tensor, self._shape)}
        try:
            (output,) = self._session.run(self._output_names, feed)
        except Exception as error:  # the runtime's own types, which must not leak; whatever it is, this run failed
            raise InferenceError(f"{_NAME}: {error}") from error
        return checked_output(output)


def _session(model: bytes, threads: int) -> Any:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read at import: from 1.29 on it opens connections otherwise
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise BadModel("this model needs onnxruntime: pip install 'tideline[onnx]'") from error
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # spinning burned 57 % CPU at 20 frames/s
    options.log_severity_level = 4  # fatal only: what matters comes back as an exception
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # hostile bytes surface as any type, UnicodeDecodeError included
        raise BadModel(f"{_NAME} refuses the model: {error}") from error
