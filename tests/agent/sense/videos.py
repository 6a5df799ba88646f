"""Small moving pictures."""

from pathlib import Path

import cv2
import numpy as np


def write_video(path: Path, count: int) -> Path:
    """Frame ``i`` is red of strength 40 * i, 64 x 48."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25.0, (64, 48))
    assert writer.isOpened()
    for i in range(count):
        writer.write(picture(i))
    writer.release()
    return path


def picture(i: int) -> np.ndarray:
    """(48, 64, 3) BGR."""
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:, :, 2] = 40 * i
    return pixels
