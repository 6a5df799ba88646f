"""Real pictures (scikit-learn's digits) as samples, and a specification that trains in seconds."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from cloud_hub.core.spec import TrainingSpec, parse
from cloud_hub.pipeline.clean import RawSample
from protos.contract.ids import digest_of

LABELS = tuple("0123456789")
SIDE = 32

SMALL_SPEC = """
name: digits
data: {dataset: digits, calibration: 64}
teacher: {width: 10, epochs: 6}
student: {width: 8, epochs: 7}
train: {augment: [shift]}
targets: [onnx-int8, tflite-int8]
gate: {bound: 0.85, min_speedup: 0}
"""  # a run takes 20 us: int8 is for the size


def small_spec(extra: str = "") -> TrainingSpec:
    return parse(SMALL_SPEC + extra)


def png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def sample(image: bytes, label: str, *, source: str = "", split: str = "", name: str = "", group: str = "") -> RawSample:
    digest = digest_of(image)
    return RawSample(
        id=digest[-12:],
        digest=digest,
        content=image,
        label=label,
        source=source,
        split=split,
        name=name or digest[-6:],
        group=group,
    )


def digits(count: int = 1797, *, start: int = 0, light: float = 1.0) -> list[RawSample]:
    """Enlarged to 32 x 32 RGB, ten of one source in a row; ``light`` below 1 darkens them."""
    data = load_digits()
    samples = []
    for i in range(start, min(start + count, len(data.images))):
        small = Image.fromarray((data.images[i] * (255 / 16 * light)).astype(np.uint8))
        image = png(np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BILINEAR).convert("RGB")))
        samples.append(sample(image, str(data.target[i]), source=f"writer-{i // 10}", name=f"{i}.png", group=f"camera-{i % 2}"))
    return samples


def noise(seed: int, side: int = SIDE) -> bytes:
    """A picture nobody else has."""
    return png(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))
