"""A frame worth keeping -> what is sent to the hub."""

import io
from collections.abc import Sequence

from PIL import Image

from edge_agent.core.model import Capture, Frame, Prediction
from protos.contract.ids import Digest, digest_of

MAX_PNG_BYTES = 4 << 20  # what the hub takes (datasets.proto)


def make_capture(frame: Frame, prediction: Prediction, reason: str, model: Digest, labels: Sequence[str]) -> Capture:
    """Lossless, so that the hub trains on the pixels the model saw; halved until the hub takes it where they are too many."""
    png = _png(Image.fromarray(frame.pixels))
    return Capture(
        digest=digest_of(png),
        png=png,
        captured_at=frame.captured_at,
        source=_sendable(frame.source),
        name=_sendable(frame.name),
        reason=reason,
        model=model,
        predicted=labels[prediction.label],
        confidence=prediction.confidence,
    )


def _png(image: Image.Image) -> bytes:
    """Packed fast rather than small."""
    while True:
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=1)
        if buffer.tell() <= MAX_PNG_BYTES:
            return buffer.getvalue()
        image = image.reduce(2)


def _sendable(name: str) -> str:
    """File names need not be Unicode, the wire's texts must be."""
    return name.encode("utf-8", "replace").decode()
