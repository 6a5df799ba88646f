"""One frame in, one prediction out."""

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.core.errors import BadFrame, BadModel, InferenceError
from edge_agent.infer.model import Model
from edge_agent.infer.preprocess import preprocess
from edge_agent.infer.runtimes import load
from protos.contract.manifest import Format
from tests.agent.fakes import FakeRuntime
from tests.agent.models import SPEC, ModelFiles, files, onnx_model


@pytest.fixture(scope="module")
def model() -> ModelFiles:
    return files()


def frame(pixels: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    if pixels is None:
        pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    return pixels


@pytest.mark.parametrize("format", Format)
def test_a_frame_becomes_a_prediction(format: Format) -> None:
    model = files(format)
    runtime = load(format, model.model)
    prediction = Model(model.manifest, runtime).predict(frame())
    logits = runtime.run(preprocess(frame(), SPEC))
    assert prediction.label == int(logits.argmax())
    assert np.isclose(prediction.confidence, np.exp(logits).max() / np.exp(logits).sum())
    assert 0 < prediction.latency_ms < 1000


@pytest.mark.parametrize("pixels", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9, 3), np.int16)])
def test_a_frame_of_another_shape_or_depth_spoils_nothing(model: ModelFiles, pixels: NDArray[np.uint8]) -> None:
    classifier = Model(model.manifest, load(Format.ONNX, model.model))
    with pytest.raises(BadFrame):
        classifier.predict(frame(pixels))
    assert classifier.predict(frame()).confidence > 0


def test_nan_from_the_model_is_an_error_and_not_a_prediction(model: ModelFiles) -> None:
    classifier = Model(model.manifest, load(Format.ONNX, onnx_model(poison=True)))
    with pytest.raises(InferenceError, match="NaN"):
        classifier.predict(frame())


def test_more_values_than_labels_are_an_error(model: ModelFiles) -> None:
    classifier = Model(model.manifest, FakeRuntime(classes=7))
    with pytest.raises(InferenceError, match=r"\(7,\) values, its manifest says 4"):
        classifier.predict(frame())


def test_a_runtime_that_takes_another_tensor_is_refused_at_once(model: ModelFiles) -> None:
    with pytest.raises(BadModel, match="its manifest makes"):
        Model(model.manifest, FakeRuntime((1, 3, 12, 13)))
