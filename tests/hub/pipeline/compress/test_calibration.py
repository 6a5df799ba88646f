"""What fixes the ranges of an int8 file, and how far beyond them values may go."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cloud_hub.core.spec import parse
from cloud_hub.pipeline import export, int8, to_onnx, to_tflite
from cloud_hub.pipeline import task as tasks
from cloud_hub.pipeline.data import Splits
from edge_agent.infer.runtimes import load
from protos.contract.inputs import CLIP, Layout
from tests.hub.pipeline.parts import LABELS, digits, small_spec
from tests.hub.pipeline.tasks.test_forecasting import SPEC, one

TASK = tasks.make(parse(SPEC))


@pytest.fixture(scope="module")
def splits() -> Splits:
    return TASK.load((), one())


def test_series_get_room_beyond_their_range_and_pictures_none(splits: Splits) -> None:
    tensors = int8.calibration(splits, Layout.NCHW)
    usual, further = np.split(tensors, 2)
    assert np.abs(further).max() == pytest.approx(min(CLIP, 1.25 * np.abs(usual).max()))
    pictures = tasks.make(small_spec()).load(LABELS, digits(300))
    assert len(int8.calibration(pictures, Layout.NHWC)) == len(pictures.calibration)


@pytest.mark.parametrize("converter", [to_onnx, to_tflite])
def test_a_series_that_grows_by_a_fifth_is_not_cut_off(
    converter: ModuleType, splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = export.ready(TASK.network(TASK.spec.student, splits))
    for weights in network.parameters():
        torch.nn.init.normal_(weights, std=0.1, generator=torch.Generator().manual_seed(0))
    inside = splits.test.inputs.astype(np.float32)[::4]
    grown = np.clip(inside * np.float32(1.2), -CLIP, CLIP)

    def errors() -> tuple[float, float]:
        with export.quiet(tmp_path / "log"):
            made = converter.quantized(splits, tmp_path)
        runtime = load(made.format, made.data)

        def error(inputs: NDArray[np.float32]) -> float:
            ours = np.stack([runtime.run(each[None]).ravel() for each in inputs])
            with torch.inference_mode():
                exact = network(torch.from_numpy(inputs)).numpy()
            return float(np.linalg.norm(ours - exact) / np.linalg.norm(exact))

        return error(inside), error(grown)

    with export.quiet(tmp_path / "log"):
        converter.exported(network, splits, tmp_path)
    usual, beyond = errors()
    monkeypatch.setattr(int8, "MARGINS", {})
    tight, cut = errors()
    assert beyond < cut / 2 and usual < 1.5 * tight
