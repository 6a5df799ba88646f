"""Which runtimes this machine has, and the one way to load a model into one of them."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge_agent.core.errors import BadModel
from edge_agent.infer.onnx import OnnxRuntime
from edge_agent.infer.tflite import TfliteRuntime
from protos.contract.boards import RUNTIMES
from protos.contract.ids import digest_of
from protos.contract.manifest import Blob, Format, Manifest

if TYPE_CHECKING:
    from edge_agent.core.ports import Runtime  # the worker, which starts in a hurry, needs no ports

FORMATS = {"onnx": Format.ONNX, "tflite": Format.TFLITE, "tflite-legacy": Format.TFLITE}  # what each of boards.RUNTIMES runs
_MODULES = {"onnx": "onnxruntime", "tflite": "ai_edge_litert", "tflite-legacy": "tflite_runtime"}


def available() -> tuple[str, ...]:
    """Those of ``boards.RUNTIMES`` that are installed; nothing is imported."""
    return tuple(name for name in RUNTIMES if find_spec(_MODULES[name]) is not None and _usable(name))


def choose(format: Format) -> str:
    """The best runtime installed for ``format``; raises BadModel where there is none."""
    here = available()
    for name in here:
        if FORMATS[name] is format:
            return name
    raise BadModel(f"no runtime installed here runs {format.name} models; there are: {', '.join(here) or 'none'}")


def load(format: Format, model: bytes, threads: int = 1, runtime: str | None = None) -> "Runtime":
    """Load trusted bytes: corrupt ones can crash the process, so untrusted ones go through ``canary.try_model`` first.

    Args:
        runtime: one of ``boards.RUNTIMES``; None takes the best one installed for ``format``.
    Raises:
        BadModel: no such runtime here, or it refuses the bytes.
    """
    match format, runtime:
        case Format.ONNX, None | "onnx":
            return OnnxRuntime(model, threads)
        case Format.TFLITE, None:
            return TfliteRuntime(model, threads)
        case Format.TFLITE, "tflite":
            return TfliteRuntime(model, threads, engine="litert")
        case Format.TFLITE, "tflite-legacy":
            return TfliteRuntime(model, threads, engine="tflite-runtime")
    raise BadModel(f"runtime {runtime!r} does not run {format.name} models; runtimes are {', '.join(RUNTIMES)}")


def read_verified(blob: Blob, path: Path) -> bytes:
    """Exactly the bytes of ``blob``; raises BadModel."""
    try:
        with path.open("rb") as file:
            data = file.read(blob.size_bytes + 1)  # never more than the manifest promised
    except OSError as error:
        raise BadModel(f"cannot read {path}: {error.strerror}") from error
    if len(data) != blob.size_bytes or digest_of(data) != blob.digest:
        raise BadModel(f"{path} is not {blob.digest} of {blob.size_bytes} bytes: fetch it again")
    return data


def check_fit(runtime: "Runtime", manifest: Manifest) -> None:
    """Raises BadModel where the model takes another tensor than the manifest's preprocessing makes."""
    if runtime.input_shape != manifest.input.shape:
        raise BadModel(
            f"{manifest.name} v{manifest.version}: the model takes {runtime.input_shape}, "
            f"its manifest makes {manifest.input.shape}"
        )


def _usable(name: str) -> bool:
    """tflite-runtime imports under numpy 2 and then fails in every ``Interpreter()``."""
    return name != "tflite-legacy" or int(np.__version__.partition(".")[0]) < 2
