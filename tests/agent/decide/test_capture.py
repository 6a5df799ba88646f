"""A kept frame is the frame, bit for bit."""

import io
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_agent.core.model import Frame, Prediction
from edge_agent.decide.capture import MAX_PNG_BYTES, make_capture
from protos.contract.ids import digest_of

MODEL = digest_of(b"manifest")


def seen(pixels: NDArray[np.uint8], name: str = "yard/1.png") -> tuple[Frame, Prediction]:
    frame = Frame(pixels=pixels, captured_at=datetime(2025, 1, 1, tzinfo=UTC), source="yard", name=name)
    return frame, Prediction(label=1, confidence=0.9, latency_ms=1.0)


def test_a_capture_holds_the_pixels_the_model_saw_and_what_it_said() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 20, 3), np.uint8)
    frame, prediction = seen(pixels)
    capture = make_capture(frame, prediction, "control", MODEL, ("car", "person"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(capture.png))), pixels)
    assert capture.digest == digest_of(capture.png)
    assert (capture.predicted, capture.confidence, capture.reason) == ("person", 0.9, "control")
    assert (capture.source, capture.name, capture.model) == ("yard", "yard/1.png", MODEL)
    assert capture.captured_at == frame.captured_at


def test_a_picture_too_large_for_the_hub_is_halved_until_it_fits() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2000, 3000, 3), np.uint8)  # noise does not compress
    capture = make_capture(*seen(pixels), "control", MODEL, ("car", "person"))
    assert len(capture.png) <= MAX_PNG_BYTES
    assert Image.open(io.BytesIO(capture.png)).size == (750, 500)


def test_a_file_name_that_is_not_unicode_can_be_sent() -> None:
    capture = make_capture(*seen(np.zeros((4, 4, 3), np.uint8), name="yard/\udcff.png"), "control", MODEL, ("car", "person"))
    assert capture.name == "yard/?.png"
