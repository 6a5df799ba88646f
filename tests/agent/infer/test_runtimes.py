"""Every runtime keeps the promises of ``ports.Runtime``, and refuses what it cannot run."""

import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from PIL import Image

from edge_agent.core.errors import BadModel, InferenceError
from edge_agent.core.ports import Runtime
from edge_agent.infer import runtimes, warmup
from edge_agent.infer.onnx import OnnxRuntime
from edge_agent.infer.remote import RemoteRuntime
from edge_agent.infer.runtimes import available, choose, load
from edge_agent.infer.tflite import TfliteRuntime
from protos.contract.manifest import Format
from tests.agent.fakes import FakeRuntime
from tests.agent.models import SIDE, SPEC, bundle, files, onnx_model, serialize, tflite_model, weights

SHAPE = (1, 3, SIDE, SIDE)
LOADERS = {
    "onnx": lambda: load(Format.ONNX, onnx_model()),
    "onnx, fixed batch": lambda: load(Format.ONNX, onnx_model(SHAPE), threads=2),
    "litert": lambda: load(Format.TFLITE, tflite_model(), runtime="tflite"),
    "litert, int8": lambda: load(Format.TFLITE, tflite_model(dtype=np.int8), runtime="tflite"),
    "litert, uint8": lambda: load(Format.TFLITE, tflite_model(dtype=np.uint8), runtime="tflite"),
    "tflite-runtime": lambda: load(Format.TFLITE, tflite_model(), runtime="tflite-legacy"),
    "tflite-runtime, int8": lambda: load(Format.TFLITE, tflite_model(dtype=np.int8), runtime="tflite-legacy"),
    "tflite-runtime, uint8": lambda: load(Format.TFLITE, tflite_model(dtype=np.uint8), runtime="tflite-legacy"),
}


REMOTE = {
    "onnx in a worker": (Format.ONNX, "onnx"),
    "litert in a worker": (Format.TFLITE, "tflite"),
    "tflite-runtime in a worker": (Format.TFLITE, "tflite-legacy"),
}


@pytest.fixture(params=[*LOADERS, *REMOTE, "fake"])
def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Runtime]:
    if request.param not in REMOTE:
        yield FakeRuntime(SHAPE) if request.param == "fake" else LOADERS[request.param]()
        return
    format, name = REMOTE[request.param]
    model = files(format)
    remote = RemoteRuntime(model.manifest, model.write(tmp_path)[1], threads=2, runtime=name)
    yield remote
    remote.close()
    assert remote.crashes == 0


@pytest.fixture
def tensor() -> NDArray[np.float32]:
    return np.random.default_rng(3).normal(0, 1, SHAPE).astype(np.float32)


# -- the port's suite ---------------------------------------------------------------------------------------------------


def test_the_input_shape_is_that_of_batch_one(runtime: Runtime) -> None:
    assert runtime.input_shape == SHAPE


def test_a_tensor_gives_one_finite_float_per_class(runtime: Runtime, tensor: NDArray[np.float32]) -> None:
    logits = runtime.run(tensor)
    assert logits.shape == (4,)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()


def test_the_same_tensor_gives_the_same_answer_and_is_left_alone(runtime: Runtime, tensor: NDArray[np.float32]) -> None:
    kept = tensor.copy()
    assert np.array_equal(runtime.run(tensor), runtime.run(tensor))
    assert np.array_equal(tensor, kept)


def test_an_answer_is_the_callers_own(runtime: Runtime, tensor: NDArray[np.float32]) -> None:
    first = runtime.run(tensor)
    kept = first.copy()
    runtime.run(-tensor)
    assert np.array_equal(first, kept)
    first[:] = 0
    assert np.array_equal(runtime.run(tensor), kept)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_a_poisoned_input_is_an_error_and_not_an_answer(runtime: Runtime, tensor: NDArray[np.float32], poison: float) -> None:
    poisoned = tensor.copy()
    poisoned[0, 1, 2, 3] = poison
    with pytest.raises(InferenceError, match="NaN|finite"):
        runtime.run(poisoned)
    assert np.isfinite(runtime.run(tensor)).all()


def test_another_shape_or_depth_is_an_error(runtime: Runtime, tensor: NDArray[np.float32]) -> None:
    for wrong in (tensor[:, :1], tensor[0], np.concatenate((tensor, tensor)), tensor.astype(np.float64)):
        with pytest.raises(InferenceError):
            runtime.run(wrong)


# -- values -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOADERS)
def test_every_runtime_computes_the_layer_it_was_given(name: str, tensor: NDArray[np.float32]) -> None:
    matrix, bias = weights()
    expected = tensor.reshape(-1) @ matrix.T + bias
    tolerance = 0.2 if "int8" in name else 1e-4  # one int8 step of the output is 0.06
    np.testing.assert_allclose(LOADERS[name]().run(tensor), expected, atol=tolerance)


@pytest.mark.parametrize("engine", ["litert", "tflite-runtime"])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_values_beyond_an_integer_models_range_saturate(engine: str, dtype: type[np.generic]) -> None:
    runtime = TfliteRuntime(tflite_model(dtype=dtype), engine=engine)  # type: ignore[arg-type]
    largest, larger = (np.full(SHAPE, value, np.float32) for value in (4.0, 1e9))
    assert np.array_equal(runtime.run(larger), runtime.run(largest))


@pytest.mark.parametrize("format", Format)
def test_a_model_that_gives_nan_raises(format: Format, tensor: NDArray[np.float32]) -> None:
    model = onnx_model(poison=True) if format is Format.ONNX else tflite_model(poison=True)
    with pytest.raises(InferenceError, match="output holds NaN"):
        load(format, model).run(tensor)


# -- refusals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"not a model", onnx_model()[:200], b"\xff" * 64])
def test_bytes_that_are_no_onnx_model_are_refused(data: bytes) -> None:
    with pytest.raises(BadModel, match="onnxruntime"):
        OnnxRuntime(data)


def test_an_onnx_model_whose_names_are_no_text_is_refused() -> None:
    data = onnx_model().replace(b"\x05input", b"\x05inp\xff\xfe")
    with pytest.raises(BadModel, match="onnxruntime refuses the model"):
        OnnxRuntime(data)


@pytest.mark.parametrize("engine", ["litert", "tflite-runtime"])
def test_bytes_that_are_no_tflite_model_are_refused(engine: str) -> None:
    with pytest.raises(BadModel, match=f"{engine} refuses"):
        TfliteRuntime(b"not a model", engine=engine)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [("b", 3, "h", "w"), (2, 3, SIDE, SIDE), ()])
def test_an_onnx_model_with_free_sides_or_another_batch_is_refused(shape: tuple[int | str, ...]) -> None:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["input"], ["output"])],
        "identity",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, shape)],
    )
    with pytest.raises(BadModel, match="input must be"):
        OnnxRuntime(serialize(graph))


def test_an_onnx_model_with_two_inputs_another_type_or_a_map_as_output_is_refused() -> None:
    def graph(inputs: int, kind: int, shape: tuple[int, ...]) -> bytes:
        names = [f"input{i}" for i in range(inputs)]
        return serialize(
            helper.make_graph(
                [
                    helper.make_node(
                        "Concat" if inputs > 1 else "Identity", names, ["output"], **({"axis": 1} if inputs > 1 else {})
                    )
                ],
                "g",
                [helper.make_tensor_value_info(name, kind, shape) for name in names],
                [helper.make_tensor_value_info("output", kind, (shape[0], shape[1] * inputs, *shape[2:]))],
            )
        )

    with pytest.raises(BadModel, match="1 input and 1 output, got 2"):
        OnnxRuntime(graph(2, TensorProto.FLOAT, (1, 4)))
    with pytest.raises(BadModel, match="float32, got tensor\\(double\\)"):
        OnnxRuntime(graph(1, TensorProto.DOUBLE, (1, 4)))
    with pytest.raises(BadModel, match="output must be \\(1, classes\\)"):
        OnnxRuntime(graph(1, TensorProto.FLOAT, (1, 4, 5, 5)))


def test_a_runtime_that_does_not_run_the_format_is_named() -> None:
    with pytest.raises(BadModel, match="'tflite' does not run ONNX models"):
        load(Format.ONNX, onnx_model(), runtime="tflite")
    with pytest.raises(BadModel, match="'gpu' does not run TFLITE"):
        load(Format.TFLITE, tflite_model(), runtime="gpu")


@pytest.mark.parametrize(
    ("format", "runtime", "module", "extra"),
    [
        (Format.ONNX, None, "onnxruntime", "onnx"),
        (Format.TFLITE, "tflite", "ai_edge_litert.interpreter", "tflite"),
        (Format.TFLITE, "tflite-legacy", "tflite_runtime.interpreter", "tflite-legacy"),
    ],
)
def test_a_missing_runtime_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch, format: Format, runtime: str | None, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # makes the import fail
    with pytest.raises(BadModel, match=rf"pip install 'tideline\[{extra}\]'"):
        load(format, b"", runtime=runtime)


def test_tflite_runtime_steps_in_where_litert_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert TfliteRuntime(tflite_model()).engine == "litert"
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    assert TfliteRuntime(tflite_model()).engine == "tflite-runtime"


# -- what is here -------------------------------------------------------------------------------------------------------


def test_all_runtimes_are_available_here() -> None:
    assert available() == ("onnx", "tflite", "tflite-legacy")


def test_a_runtime_that_is_not_installed_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "find_spec", lambda module: None if module == "ai_edge_litert" else object())
    assert available() == ("onnx", "tflite-legacy")


def test_the_best_runtime_installed_is_chosen_and_a_format_without_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (choose(Format.ONNX), choose(Format.TFLITE)) == ("onnx", "tflite")
    monkeypatch.setattr(runtimes, "available", lambda: ("tflite-legacy",))
    assert choose(Format.TFLITE) == "tflite-legacy"
    with pytest.raises(BadModel, match="no runtime installed here runs ONNX models; there are: tflite-legacy"):
        choose(Format.ONNX)


@pytest.mark.parametrize("name", runtimes.FORMATS)
def test_the_models_that_runtimes_warm_up_with_swap_two_values(name: str) -> None:
    format = runtimes.FORMATS[name]
    assert load(format, warmup.MODELS[format], 1, name).run(np.array([[1, 2]], np.float32)).tolist() == [2, 1]


def test_asking_what_is_available_imports_nothing_heavy() -> None:
    code = (
        "import sys; from edge_agent.infer import canary, golden, model, onnx, preprocess, runtimes, tflite;"
        "runtimes.available(); print(*{name.partition('.')[0] for name in sys.modules})"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"onnxruntime", "ai_edge_litert", "tflite_runtime", "cv2", "torch", "grpc"}.isdisjoint(out.stdout.split())


def test_onnxruntime_is_told_to_be_silent_before_it_is_imported() -> None:
    code = """
import os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "onnxruntime":
            print(os.environ.get("ORT_DISABLE_TELEMETRY"))
sys.meta_path.insert(0, Watch())
from edge_agent.core.errors import BadModel
from edge_agent.infer.onnx import OnnxRuntime
try:
    OnnxRuntime(b"")
except BadModel:
    pass
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={})
    assert out.stdout.split() == ["1"]


# -- from the file ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", Format)
def test_a_verified_model_is_loaded(format: Format, tmp_path: Path) -> None:
    model = files(format)
    _, path, _ = model.write(tmp_path)
    runtime = RemoteRuntime(model.manifest, path)
    assert runtime.input_shape == SPEC.shape
    runtime.close()


@pytest.mark.parametrize("damage", ["flipped", "short", "long", "missing"])
def test_a_file_that_is_not_the_manifests_is_never_loaded(damage: str, tmp_path: Path) -> None:
    model = files()
    _, path, _ = model.write(tmp_path)
    if damage == "missing":
        path.unlink()
    elif damage == "flipped":
        path.write_bytes(model.model[:-1] + bytes([model.model[-1] ^ 1]))
    else:
        path.write_bytes(model.model[:-1] if damage == "short" else model.model + b"\0")
    with pytest.raises(BadModel, match=f"{path.name}(: No such file| is not sha256:.*fetch it again)"):
        RemoteRuntime(model.manifest, path)


def test_a_model_that_takes_another_tensor_than_its_manifest_makes_is_refused(tmp_path: Path) -> None:
    wrong = bundle(onnx_model(("b", 3, SIDE + 1, SIDE)), Format.ONNX, files().golden)
    _, path, _ = wrong.write(tmp_path)
    with pytest.raises(BadModel, match=r"takes \(1, 3, 13, 12\), its manifest makes \(1, 3, 12, 12\)"):
        RemoteRuntime(wrong.manifest, path)


# -- models of others ---------------------------------------------------------------------------------------------------

ENGINES = ("tflite", "tflite-legacy")


@pytest.mark.data
@pytest.mark.parametrize("engine", ENGINES)
def test_corals_quantized_mobilenet_sees_a_cat(shared_data: Path, engine: str) -> None:
    folder = shared_data / "models" / "coral"
    runtime = load(Format.TFLITE, (folder / "mobilenet_v1_0.25_128_quant.tflite").read_bytes(), runtime=engine)
    assert runtime.input_shape == (1, 128, 128, 3)
    pixels = _sample_four_neighbours(np.asarray(Image.open(folder / "cat.bmp").convert("RGB")), 128)
    scores = runtime.run((pixels / 127.5 - 1).astype(np.float32)[None])  # the model's scale is 1/128, its zero point 128
    top = np.argsort(scores)[::-1][:3]
    assert 283 in top  # "tiger cat", as libcoral's own test says
    assert scores[283] >= 0.25


@pytest.mark.data
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["hello_world_float", "hello_world_int8"])
def test_tensorflows_sine_models_give_a_sine(shared_data: Path, engine: str, name: str) -> None:
    runtime = load(Format.TFLITE, (shared_data / "models" / "tflm_hello_world" / f"{name}.tflite").read_bytes(), runtime=engine)
    for x in np.linspace(0.2, 6.0, 12):
        (y,) = runtime.run(np.array([[x]], np.float32))
        assert abs(float(y) - math.sin(x)) < 0.15


@pytest.mark.data
@pytest.mark.parametrize("engine", ENGINES)
def test_tensorflows_lstm_reads_all_ten_digits(shared_data: Path, engine: str) -> None:
    folder = shared_data / "models" / "tflm_mnist_lstm"
    runtime = load(Format.TFLITE, (folder / "trained_lstm.tflite").read_bytes(), runtime=engine)
    right = 0
    for digit in range(10):
        pixels = np.asarray(Image.open(folder / "samples" / f"sample{digit}.png").convert("L"), np.float32) / 255
        right += int(runtime.run(pixels.reshape(runtime.input_shape)).argmax()) == digit
    assert right >= 9


def _sample_four_neighbours(pixels: NDArray[np.uint8], side: int) -> NDArray[np.float64]:
    """Bilinear without antialiasing, as TensorFlow Lite resizes: what this model was trained behind."""
    rows, columns = (np.arange(side) * (length / side) for length in pixels.shape[:2])
    top, left = rows.astype(int), columns.astype(int)
    bottom, right = np.minimum(top + 1, pixels.shape[0] - 1), np.minimum(left + 1, pixels.shape[1] - 1)
    y, x = (rows - top)[:, None, None], (columns - left)[None, :, None]
    picture = pixels.astype(np.float64)
    upper = picture[top][:, left] * (1 - x) + picture[top][:, right] * x
    lower = picture[bottom][:, left] * (1 - x) + picture[bottom][:, right] * x
    return upper * (1 - y) + lower * y
