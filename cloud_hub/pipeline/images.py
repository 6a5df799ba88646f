"""Picture files -> frames of one size, as the device makes them."""

import hashlib
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cloud_hub.pipeline.clean import CleaningReport, Decode, RawSample
from edge_agent.core.errors import BadFrame
from edge_agent.infer.preprocess import preprocess
from protos.contract.inputs import ImageInput, Layout

MIN_SIDE = 8  # pixels: below it there is nothing to see
MAX_PIXELS = 50_000_000  # a bigger file is a mistake or an attack
_AT_ONCE = 256  # frames: counting takes eight bytes a pixel
_MIN_STD = 0.02  # 0..1: a data set of one shade must not blow its noise up


def decoder(width: int, height: int, channels: int) -> Decode:
    """Files of any size -> ``(height, width, 3)`` uint8; two are the same where their pixels are."""

    def decode(sample: RawSample, report: CleaningReport) -> tuple[bytes, NDArray[np.uint8]] | None:
        pixels = _decode(sample, report)
        if pixels is None:
            return None
        return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).digest(), sized(pixels, width, height, channels)

    return decode


def sized(pixels: NDArray[np.uint8], width: int, height: int, channels: int) -> NDArray[np.uint8]:
    """``(height, width, 3)`` as the device resizes it; grey is repeated three times, which the device's luma maps to itself."""
    identity = ImageInput(
        width=width,
        height=height,
        channels=channels,
        layout=Layout.NHWC,
        mean=(0.0,) * channels,
        std=(1 / 255,) * channels,
    )
    levels = np.rint(preprocess(pixels, identity)[0]).astype(np.uint8)
    return np.broadcast_to(levels, (height, width, 3)).copy()


def pixels_of(data: bytes) -> NDArray[np.uint8]:
    """``(H, W, 3)`` RGB of a picture file. Raises BadFrame saying why it cannot be used."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise BadFrame(f"more than {MAX_PIXELS} pixels")
            pixels = np.asarray(picture.convert("RGB"), dtype=np.uint8)
    except (
        OSError,
        ValueError,
        SyntaxError,
        Image.DecompressionBombError,
        EOFError,
        MemoryError,
    ) as error:  # what Pillow's plugins raise
        raise BadFrame("not a readable image") from error
    if min(pixels.shape[:2]) < MIN_SIDE:
        raise BadFrame(f"smaller than {MIN_SIDE} pixels a side")
    return pixels


def _decode(sample: RawSample, report: CleaningReport) -> NDArray[np.uint8] | None:
    try:
        return pixels_of(sample.content)
    except BadFrame as error:
        report.drop(str(error), sample.name or sample.id)
        return None


def statistics(frames: NDArray[np.uint8], channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel from a histogram: exact, and no copy of the data set."""
    levels = np.arange(256) / 255
    means, stds = [], []
    counts = np.zeros((channels, 256), np.int64)
    for start in range(0, len(frames), _AT_ONCE):
        for channel in range(channels):
            counts[channel] += np.bincount(frames[start : start + _AT_ONCE, ..., channel].reshape(-1), minlength=256)
    for share in counts / counts.sum(axis=1, keepdims=True):
        mean = float(share @ levels)
        means.append(mean)
        stds.append(max(_MIN_STD, float(share @ (levels - mean) ** 2) ** 0.5))
    # A manifest holds 32-bit floats: train with what the device will read.
    return tuple(float(np.float32(m)) for m in means), tuple(float(np.float32(s)) for s in stds)
