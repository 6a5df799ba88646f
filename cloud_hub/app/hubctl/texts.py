"""Text files from users, for the hub to judge."""

import sys
from pathlib import Path

from cloud_hub.app.hubctl.failure import refused

MAX_BYTES = 1 << 20  # the hub takes less of any


def read(file: Path) -> str:
    """``-`` is standard input. Raises Failure for what is larger than MAX_BYTES or not UTF-8."""
    if str(file) == "-":
        data = sys.stdin.buffer.read(MAX_BYTES + 1)
    else:
        with file.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise refused(f"{file} has more than {MAX_BYTES} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise refused(f"{file} is not a text file") from error
