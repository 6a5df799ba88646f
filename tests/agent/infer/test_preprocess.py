"""Pixels become exactly the tensor the model was trained on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from edge_agent.core.errors import BadFrame
from edge_agent.infer.preprocess import preprocess, preprocess_batch
from protos.contract.inputs import ImageInput, Layout
from tests.agent.models import SPEC


@st.composite
def specs(draw: st.DrawFn) -> ImageInput:
    channels = draw(st.sampled_from((1, 3)))
    side = st.integers(1, 40)
    return ImageInput(
        width=draw(side),
        height=draw(side),
        channels=channels,
        layout=draw(st.sampled_from(Layout)),
        mean=tuple(draw(st.lists(st.floats(-2, 2), min_size=channels, max_size=channels))),
        std=tuple(draw(st.lists(st.floats(0.01, 3), min_size=channels, max_size=channels))),
    )


@st.composite
def pictures(draw: st.DrawFn) -> NDArray[np.uint8]:
    height, width, seed = draw(st.integers(1, 50)), draw(st.integers(1, 50)), draw(st.integers(0, 1000))
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def straightforward(pixels: NDArray[np.uint8], spec: ImageInput) -> NDArray[np.float64]:
    """Step by step, in double precision, as the manifest's documentation says it."""
    image = Image.fromarray(pixels)
    if spec.channels == 1:
        image = image.convert("L")
    image = image.resize((spec.width, spec.height), Image.Resampling.BILINEAR)
    values = np.asarray(image, np.float64).reshape(spec.height, spec.width, spec.channels) / 255
    values = (values - np.array(spec.mean)) / np.array(spec.std)
    return (values.transpose(2, 0, 1) if spec.layout is Layout.NCHW else values)[None]


@settings(max_examples=80, deadline=None)
@given(pixels=pictures(), spec=specs())
def test_it_equals_the_straightforward_way_for_every_size_layout_and_depth(pixels: NDArray[np.uint8], spec: ImageInput) -> None:
    tensor = preprocess(pixels, spec)
    assert tensor.shape == spec.shape
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous
    np.testing.assert_allclose(tensor, straightforward(pixels, spec), rtol=1e-4, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(spec=specs(), seed=st.integers(0, 100))
def test_a_frame_of_the_models_size_is_never_resampled(spec: ImageInput, seed: int) -> None:
    plain = ImageInput(
        width=spec.width, height=spec.height, channels=3, layout=Layout.NHWC, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
    )
    pixels = np.random.default_rng(seed).integers(0, 256, (spec.height, spec.width, 3), np.uint8)
    assert np.array_equal(np.rint(preprocess(pixels, plain)[0] * 255).astype(np.uint8), pixels)


def test_shrinking_antialiases() -> None:
    """One-pixel stripes shrunk eightfold become grey; sampling four neighbours would keep black or white."""
    stripes = np.zeros((96, 96, 3), np.uint8)
    stripes[:, ::2] = 255
    grey = preprocess(stripes, SPEC)[0] * np.array(SPEC.std)[:, None, None] + np.array(SPEC.mean)[:, None, None]
    assert np.all(np.abs(grey - 0.5) < 0.1)


def test_grey_is_the_bt_601_luma() -> None:
    spec = ImageInput(width=3, height=1, channels=1, layout=Layout.NCHW, mean=(0.0,), std=(1.0,))
    primaries = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    np.testing.assert_allclose(preprocess(primaries, spec).reshape(-1), (0.299, 0.587, 0.114), atol=0.5 / 255)


def test_pixels_that_are_not_contiguous_are_fine() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    mirrored = pixels[:, ::-1]
    assert np.array_equal(preprocess(mirrored, SPEC), preprocess(np.ascontiguousarray(mirrored), SPEC))


def test_a_batch_is_its_frames_one_by_one() -> None:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (side, side + 3, 3), np.uint8) for side in (12, 20, 5)]
    batch = preprocess_batch(frames, SPEC)
    assert batch.shape == (3, *SPEC.shape[1:])
    for row, frame in zip(batch, frames, strict=True):
        assert np.array_equal(row, preprocess(frame, SPEC)[0])
    assert preprocess_batch([], SPEC).shape == (0, *SPEC.shape[1:])


def test_the_result_belongs_to_the_caller() -> None:
    pixels = np.zeros((12, 12, 3), np.uint8)
    first = preprocess(pixels, SPEC)
    kept = first.copy()
    preprocess(pixels + 100, SPEC)
    assert np.array_equal(first, kept)
    assert not np.shares_memory(first, pixels)


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((12, 12), np.uint8),
        np.zeros((12, 12, 4), np.uint8),
        np.zeros((12, 12, 1), np.uint8),
        np.zeros((0, 12, 3), np.uint8),
        np.zeros((12, 12, 3), np.uint16),
        np.zeros((12, 12, 3), np.float32),
    ],
)
def test_another_shape_or_depth_is_a_bad_frame_that_names_it(frame: NDArray[np.uint8]) -> None:
    with pytest.raises(BadFrame, match=rf"\(H, W, 3\) uint8, got .*{frame.dtype}"):
        preprocess(frame, SPEC)
