"""An image file -> RGB pixels."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_agent.core.errors import BadFrame

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".ppm", ".bmp"})
MAX_PIXELS = 50_000_000  # 150 MB as RGB: a small file can claim any size
_FORMATS = ("PNG", "JPEG", "PPM", "BMP")
_WIDE_GREY = ("I", "I;16", "I;16B", "I;16L", "I;16N")  # what 16-bit grey opens as


def decode(path: Path) -> NDArray[np.uint8]:
    """``(H, W, 3)`` RGB, C-contiguous, of any mode: 16-bit grey keeps its upper byte, alpha is dropped, EXIF does not rotate.

    Raises:
        BadFrame: unreadable, not an image, or more than MAX_PIXELS.
    """
    if not path.is_file():
        raise BadFrame(f"{path}: not a regular file")  # a named pipe would wait for ever
    try:
        with Image.open(path, formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise BadFrame(f"{path}: {image.width} x {image.height} is more than {MAX_PIXELS} pixels")
            if image.mode in _WIDE_GREY:
                return np.repeat(_upper_byte(image)[:, :, None], 3, axis=2)
            return np.array(image if image.mode == "RGB" else image.convert("RGB"))
    except BadFrame:
        raise
    except Exception as error:  # decoders raise any type for hostile bytes: SyntaxError, struct.error, zlib.error
        raise BadFrame(f"{path}: {error}") from error


def _upper_byte(image: Image.Image) -> NDArray[np.uint8]:
    return (np.asarray(image).astype(np.int64).clip(0, 65_535) >> 8).astype(np.uint8)
