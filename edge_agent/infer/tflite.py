"""TensorFlow Lite models on the CPU, in LiteRT or in the older tflite-runtime (the only one on armv7l)."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.errors import BadModel, InferenceError
from edge_agent.infer.tensors import batch_of_one, checked_input, checked_output

Engine = Literal["litert", "tflite-runtime"]
_EXTRAS: dict[Engine, str] = {"litert": "tflite", "tflite-runtime": "tflite-legacy"}


class TfliteRuntime:
    """One TFLite model with one input ``(1, ...)`` and one output ``(1, classes)``: float32, int8 or uint8 each.

    Integer tensors are quantized and dequantized here with the model's own scale and zero point. Load only bytes that passed
    the canary: both engines crash the process on some corrupt files.

    Args:
        engine: None takes LiteRT, or tflite-runtime where LiteRT is not installed.
    Raises:
        BadModel: the engine is not installed or refuses the bytes, or the model has other inputs or outputs.
    """

    def __init__(self, model: bytes, threads: int = 1, engine: Engine | None = None) -> None:
        interpreter_class, self.engine = _interpreter_class(engine)
        try:
            # Never a path: a mapped file that is overwritten later gives SIGBUS or silently wrong answers.
            self._interpreter = interpreter_class(model_content=model, num_threads=threads)
            self._interpreter.allocate_tensors()
            inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        except Exception as error:  # hostile bytes surface as any type
            raise BadModel(f"{self.engine} refuses the model: {error}") from error
        if len(inputs) != 1 or len(outputs) != 1:
            raise BadModel(f"{self.engine}: the model must have 1 input and 1 output, got {len(inputs)} and {len(outputs)}")
        self._input, self._output = _port(inputs[0], self.engine), _port(outputs[0], self.engine)
        self._shape = batch_of_one(inputs[0]["shape"].tolist(), runtime=self.engine, what="input")
        if len(batch_of_one(outputs[0]["shape"].tolist(), runtime=self.engine, what="output")) != 2:
            raise BadModel(f"{self.engine}: the model's output must be (1, classes), got {tuple(outputs[0]['shape'])}")

    inner_ms: float | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self._shape

    def run(self, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        value = self._input.quantize(checked_input(tensor, self._shape))
        try:
            self._interpreter.set_tensor(self._input.index, value)
            self._interpreter.invoke()
            output = self._interpreter.get_tensor(self._output.index)  # a copy
        except Exception as error:  # the runtime's own types, which must not leak; whatever it is, this run failed
            raise InferenceError(f"{self.engine}: {error}") from error
        return checked_output(self._output.dequantize(output))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Port:
    """One end of the model; real = scale * (stored - zero_point) where it is an integer."""

    index: int
    dtype: np.dtype[Any]
    scale: float
    zero_point: int

    def quantize(self, tensor: NDArray[np.float32]) -> NDArray[Any]:
        if self.dtype == np.float32:
            return tensor
        bounds = np.iinfo(self.dtype)
        stored = np.rint(tensor / np.float32(self.scale)) + self.zero_point
        clipped: NDArray[Any] = np.clip(stored, bounds.min, bounds.max).astype(self.dtype)
        return clipped

    def dequantize(self, output: NDArray[Any]) -> NDArray[np.float32]:
        if self.dtype == np.float32:
            return output
        return (output.astype(np.float32) - self.zero_point) * np.float32(self.scale)


def _port(details: dict[str, Any], engine: str) -> _Port:
    dtype = np.dtype(details["dtype"])
    scale, zero_point = details["quantization"]
    if dtype not in (np.float32, np.int8, np.uint8):
        raise BadModel(f"{engine}: '{details['name']}' must be float32, int8 or uint8, got {dtype}")
    if dtype != np.float32 and not 0 < scale < np.inf:
        raise BadModel(f"{engine}: '{details['name']}' is {dtype} without a scale")
    return _Port(index=int(details["index"]), dtype=dtype, scale=float(scale), zero_point=int(zero_point))


def _interpreter_class(engine: Engine | None) -> tuple[Any, Engine]:
    if engine in (None, "litert"):
        try:
            from ai_edge_litert.interpreter import Interpreter as LiteRt

            return LiteRt, "litert"
        except ImportError as error:
            if engine == "litert":
                raise _missing("litert") from error
    try:
        from tflite_runtime.interpreter import Interpreter

        return Interpreter, "tflite-runtime"
    except ImportError as error:
        raise _missing(engine or "litert") from error


def _missing(engine: Engine) -> BadModel:
    return BadModel(f"this model needs {engine}: pip install 'tideline[{_EXTRAS[engine]}]'")
