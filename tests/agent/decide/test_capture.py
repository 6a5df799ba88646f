"""A kept frame is the frame, bit for bit."""

import io
from datetime import UTC, datetime

import numpy as np
from PIL import Image

from edge_agent.core.model import Frame, Prediction
from edge_agent.decide.capture import make_capture
from protos.contract.ids import digest_of

MODEL = digest_of(b"manifest")


def test_a_capture_holds_the_pixels_the_model_saw_and_what_it_said() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 20, 3), np.uint8)
    frame = Frame(pixels=pixels, captured_at=datetime(2025, 1, 1, tzinfo=UTC), source="yard", name="yard/1.png")
    scores = np.array([0.1, 0.9], np.float32)
    prediction = Prediction(logits=scores, probabilities=scores, label=1, confidence=0.9, latency_ms=1.0)
    capture = make_capture(frame, prediction, "control", MODEL, ("car", "person"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(capture.png))), pixels)
    assert capture.digest == digest_of(capture.png)
    assert (capture.predicted, capture.confidence, capture.reason) == ("person", 0.9, "control")
    assert (capture.source, capture.name, capture.model) == ("yard", "yard/1.png", MODEL)
    assert capture.captured_at == frame.captured_at
