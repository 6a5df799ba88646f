"""A kept frame is the frame, bit for bit."""

import io
from datetime import UTC, datetime

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from edge_agent.core.model import Observation, Prediction
from edge_agent.decide.capture import make_capture
from edge_agent.infer.inputs import decode_content, encode_content
from protos.contract.errors import InvalidValue
from protos.contract.ids import digest_of
from protos.contract.samples import MAX_SAMPLE_BYTES
from tests.agent.kinds import KINDS

MODEL = digest_of(b"manifest")


def seen(pixels: NDArray[np.uint8], name: str = "yard/1.png") -> tuple[Observation, Prediction]:
    frame = Observation(content=pixels, captured_at=datetime(2025, 1, 1, tzinfo=UTC), source="yard", name=name)
    return frame, Prediction(label=1, confidence=0.9, latency_ms=1.0)


def test_a_capture_holds_the_pixels_the_model_saw_and_what_it_said() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 20, 3), np.uint8)
    frame, prediction = seen(pixels)
    capture = make_capture(frame, prediction, "control", MODEL, ("car", "person"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(capture.content))), pixels)
    assert capture.digest == digest_of(capture.content)
    assert (capture.predicted, capture.confidence, capture.reason) == ("person", 0.9, "control")
    assert (capture.source, capture.name, capture.model) == ("yard", "yard/1.png", MODEL)
    assert capture.captured_at == frame.captured_at


def test_a_picture_too_large_for_the_hub_is_halved_until_it_fits() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2000, 3000, 3), np.uint8)  # noise does not compress
    capture = make_capture(*seen(pixels), "control", MODEL, ("car", "person"))
    assert len(capture.content) <= MAX_SAMPLE_BYTES
    assert Image.open(io.BytesIO(capture.content)).size == (750, 500)


@pytest.mark.parametrize("kind", ["rows", "texts", "anomalies"])
def test_what_is_no_picture_is_kept_as_data_sets_hold_it(kind: str) -> None:
    content = KINDS[kind].contents[0]
    seen = Observation(content=content, captured_at=datetime(2025, 1, 1, tzinfo=UTC), source="s")
    capture = make_capture(seen, Prediction(label=1, confidence=0.9, latency_ms=1.0), "control", MODEL, ("a", "b"))
    assert capture.kind is KINDS[kind].input.kind
    assert capture.content == encode_content(content) and capture.digest == digest_of(capture.content)
    again = decode_content(capture.content, capture.kind)
    assert encode_content(again) == capture.content


def test_what_the_hub_would_not_take_is_no_capture() -> None:
    seen = Observation(content={"a": "x" * (5 << 20)}, captured_at=datetime(2025, 1, 1, tzinfo=UTC), source="s")
    with pytest.raises(InvalidValue):
        make_capture(seen, Prediction(label=1, confidence=0.9, latency_ms=1.0), "control", MODEL, ("a", "b"))


def test_a_file_name_that_is_not_unicode_can_be_sent() -> None:
    capture = make_capture(*seen(np.zeros((4, 4, 3), np.uint8), name="yard/\udcff.png"), "control", MODEL, ("car", "person"))
    assert capture.name == "yard/?.png"


def test_a_name_is_as_short_and_printable_as_the_hub_wants_it() -> None:
    capture = make_capture(*seen(np.zeros((4, 4, 3), np.uint8), name="a\nb" * 200), "control", MODEL, ("car", "person"))
    assert capture.name == ("a?b" * 85)
