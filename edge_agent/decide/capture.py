"""A frame worth keeping -> what is sent to the hub."""

import io
from collections.abc import Sequence

from PIL import Image

from edge_agent.core.model import Capture, Frame, Prediction
from protos.contract.ids import Digest, digest_of


def make_capture(frame: Frame, prediction: Prediction, reason: str, model: Digest, labels: Sequence[str]) -> Capture:
    """Lossless, so that the hub trains on the pixels the model saw; packed fast rather than small."""
    buffer = io.BytesIO()
    Image.fromarray(frame.pixels).save(buffer, "PNG", compress_level=1)
    png = buffer.getvalue()
    return Capture(
        digest=digest_of(png),
        png=png,
        captured_at=frame.captured_at,
        source=frame.source,
        name=frame.name,
        reason=reason,
        model=model,
        predicted=labels[prediction.label],
        confidence=prediction.confidence,
    )
