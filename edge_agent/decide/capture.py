"""An observation worth keeping -> what is sent to the hub."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from edge_agent.core.model import Capture, Content, Observation, Prediction
from protos.contract import samples
from protos.contract.ids import Digest, digest_of
from protos.contract.inputs import SampleKind
from protos.contract.samples import MAX_SAMPLE_BYTES, Window

MAX_NAME = 255  # characters of a name or a source (datasets.proto)


def make_capture(seen: Observation, prediction: Prediction, reason: str, model: Digest, labels: Sequence[str]) -> Capture:
    """Lossless, so that the hub trains on what the model saw; a picture is halved until the hub takes it.

    Raises InvalidValue for what the hub could not take.
    """
    kind, content = _encoded(seen.content)
    return Capture(
        digest=digest_of(content),
        content=content,
        kind=kind,
        captured_at=seen.captured_at,
        source=_sendable(seen.source),
        name=_sendable(seen.name),
        reason=reason,
        model=model,
        predicted=labels[prediction.label],
        confidence=prediction.confidence,
    )


def _encoded(content: Content) -> tuple[SampleKind, bytes]:
    if isinstance(content, np.ndarray):
        return SampleKind.IMAGE, _png(Image.fromarray(content))
    if isinstance(content, Window):
        return SampleKind.WINDOW, samples.encode_window(content)
    if isinstance(content, str):
        return SampleKind.TEXT, samples.encode_text(content)
    return SampleKind.ROW, samples.encode_row(content)


def _png(image: Image.Image) -> bytes:
    """Packed fast rather than small."""
    while True:
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=1)
        if buffer.tell() <= MAX_SAMPLE_BYTES:
            return buffer.getvalue()
        image = image.reduce(2)


def _sendable(name: str) -> str:
    """As the hub takes it: file names and names in tables need not be Unicode, printable, or short."""
    return "".join(letter if letter.isprintable() else "?" for letter in name[:MAX_NAME])
