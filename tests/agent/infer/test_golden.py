"""A model is what it was when it was verified, or it is refused."""

from dataclasses import replace

import numpy as np
import pytest

from edge_agent.core.errors import BadModel, Unfit
from edge_agent.infer import golden
from edge_agent.infer.runtimes import load
from protos.contract.manifest import Format
from tests.agent.fakes import FakeRuntime
from tests.agent.models import SPEC, ModelFiles, bundle, files, onnx_model


@pytest.fixture(scope="module")
def model() -> ModelFiles:
    return files()


@pytest.mark.parametrize("format", Format)
def test_the_runtime_that_made_a_golden_set_passes_it(format: Format) -> None:
    model = files(format)
    result = golden.check(load(format, model.model), model.manifest, model.golden)
    assert result.error <= 0.01
    assert 0 < result.p50_ms <= result.p95_ms


def test_the_other_format_of_the_same_layer_passes_too(model: ModelFiles) -> None:
    other = files(Format.TFLITE)
    result = golden.check(load(Format.TFLITE, other.model), model.manifest, model.golden)
    assert result.error < 1


def test_other_weights_are_refused_with_the_error_and_the_tolerance(model: ModelFiles) -> None:
    with pytest.raises(BadModel, match=r"street v1: golden outputs are off by \d.*tolerated are 0.0001"):
        golden.check(load(Format.ONNX, onnx_model(seed=1)), model.manifest, model.golden)


def test_one_wrong_frame_among_many_is_enough(model: ModelFiles) -> None:
    runtime = load(Format.ONNX, model.model)
    outputs = np.frombuffer(model.golden.outputs, "<f4").copy()
    outputs[-1] += 0.01
    wrong = replace(model.golden, outputs=outputs.tobytes())
    with pytest.raises(BadModel, match=r"off by 0\.01"):
        golden.check(runtime, model.manifest, wrong)


@pytest.mark.parametrize("place", [0, -1])
def test_nan_among_the_expected_outputs_does_not_pass(model: ModelFiles, place: int) -> None:
    outputs = np.frombuffer(model.golden.outputs, "<f4").copy()
    outputs[place] = np.nan
    with pytest.raises(BadModel, match="off by nan"):
        golden.check(load(Format.ONNX, model.model), model.manifest, replace(model.golden, outputs=outputs.tobytes()))


def test_a_model_that_fails_on_a_golden_frame_is_refused(model: ModelFiles) -> None:
    with pytest.raises(BadModel, match="fails on its golden set: .*NaN"):
        golden.check(load(Format.ONNX, onnx_model(poison=True)), model.manifest, model.golden)


def test_another_number_of_classes_is_refused(model: ModelFiles) -> None:
    with pytest.raises(BadModel, match=r"gives \(5,\) values, its golden set has \(4,\)"):
        golden.check(FakeRuntime(classes=5), model.manifest, model.golden)
    five = golden.make([np.zeros((12, 12, 3), np.uint8)], FakeRuntime(classes=5), SPEC)
    wrong = bundle(model.model, Format.ONNX, five)
    with pytest.raises(BadModel, match="outputs of 5 values, the manifest of 4"):
        golden.check(FakeRuntime(classes=5), wrong.manifest, five)


def test_frames_of_any_size_go_through_the_models_own_preprocessing() -> None:
    frames = list(np.random.default_rng(0).integers(0, 256, (2, 50, 70, 3), np.uint8))
    made = golden.make(frames, FakeRuntime(), SPEC)
    assert (made.count, made.height, made.width, made.size) == (2, 50, 70, 4)
    assert golden.check(FakeRuntime(), bundle(b"x", Format.ONNX, made).manifest, made).error == 0


def test_a_model_that_is_off_is_refused_with_what_was_measured(model: ModelFiles) -> None:
    runtime = load(Format.ONNX, model.model)
    outputs = np.frombuffer(model.golden.outputs, "<f4").reshape(6, 4).copy()
    outputs[:2] = np.roll(outputs[:2], 1, axis=1)  # another label for two of six frames
    wrong = replace(model.golden, outputs=outputs.tobytes())
    with pytest.raises(Unfit) as refused:
        golden.check(runtime, model.manifest, wrong, peak_bytes=lambda: 7)
    fit = refused.value.fit
    assert fit.error > 1 and fit.agreement == pytest.approx(4 / 6)
    assert 0 < fit.p50_ms <= fit.p95_ms and fit.peak_bytes == 7


def test_an_error_beyond_all_numbers_is_still_a_number(model: ModelFiles) -> None:
    outputs = np.full_like(np.frombuffer(model.golden.outputs, "<f4"), 3e38)
    with pytest.raises(Unfit) as refused:
        golden.check(load(Format.ONNX, model.model), model.manifest, replace(model.golden, outputs=outputs.tobytes()))
    assert refused.value.fit.error == 1e9
